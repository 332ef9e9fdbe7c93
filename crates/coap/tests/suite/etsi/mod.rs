//! The ETSI CoAP plugtest list (ETSI CTI, test descriptions of CoAP#4) as tests: each plays client and server between two endpoints, and
//! inspects every message on the wire as its description demands.

mod block;
mod core_basic;
mod core_options;
mod lab;
mod link;
mod obs;
