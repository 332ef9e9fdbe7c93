//! The command `homefleet` and the console, tested as a person uses them: the real binary and a real
//! browser against a real server and a real agent that speak CoAP over DTLS on loopback.

#![allow(clippy::unwrap_used)]

mod away;
mod behind;
mod browser;
mod ca;
mod cmp;
#[path = "../../../net/tests/suite/support/cmp_ca.rs"]
mod cmp_ca;
mod cmp_openssl;
mod cmp_ours;
mod cmp_proxy;
mod demo;
mod device;
#[path = "../../../agent/tests/suite/home_lan.rs"]
mod home_lan;
mod notif;
mod notif_send;
mod offline;
mod pages;
mod serve;
mod sim;
mod support;
mod task;
mod token;
mod trust;
mod watch;
mod webdriver;
