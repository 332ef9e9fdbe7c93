//! RFC 9175: Echo, Request-Tag and what they are for.

mod amplification;
mod echo;
mod request_tag;
