//! What the templates show, made from the API's types. Pure functions: the clock is an argument.

pub(super) mod connection;
pub(super) mod device;
pub(super) mod filters;
pub(super) mod home;
pub(super) mod plot;
pub(super) mod stream;
pub(super) mod task;
pub(super) mod tree;
pub(super) mod when;
