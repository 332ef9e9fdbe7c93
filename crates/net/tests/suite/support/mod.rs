//! What the tests share: a small CA, and a network in virtual time.

pub(crate) mod authority;
pub(crate) mod cmp_ca;
pub(crate) mod live;
pub(crate) mod mosquitto;
pub(crate) mod nat;
pub(crate) mod nodes;
pub(crate) mod pair;
pub(crate) mod pki;
pub(crate) mod rabbitmq;
pub(crate) mod relay;
pub(crate) mod stomp;
pub(crate) mod tool;
pub(crate) mod web;
