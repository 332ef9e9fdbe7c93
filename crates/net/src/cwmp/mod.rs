//! The HTTP of CWMP (TR-069 §3.4), the device's side: what a [`homefleet_cwmp::cpe::Cpe`] sends, and what it is told came of it.

mod client;
mod cookies;

pub use client::{Answer, Client, ClientConfig, UrlError};
