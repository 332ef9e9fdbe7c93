//! The HTTP of CWMP (TR-069 §3.2.2, §3.4), the device's side: what a [`homefleet_cwmp::cpe::Cpe`] sends and what it is told came of it, the
//! calls of an ACS, and the files that it names.

mod calls;
mod client;
mod cookies;
mod files;

pub use calls::{CallHandle, CallListener, Caller, CallsConfig, CallsStats};
pub use client::{Answer, Client, ClientConfig, UrlError};
pub use files::{Fetched, FileError, FileServer, fetch, send};
