//! Tests of the Figure MTP.1 decision.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod evidence;
mod forge;

mod authority;
mod building;
mod constraints;
mod crl;
mod explain;
mod figure;
mod fuzz;
mod grounds;
mod host;
mod identity;
mod keys;
mod limits;
mod malformed;
mod manual;
mod ocsp;
mod openssl;
mod pem;
mod remembered;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod revocation;
mod second_opinion;
mod second_opinion_paths;
mod second_opinion_revocation;
mod signer;
