//! The CA: what it issues and refuses, judged by OpenSSL where it can.

mod issue;
mod world;
