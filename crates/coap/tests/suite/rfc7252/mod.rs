//! RFC 7252, by section.

mod section_4_4_ids;
mod section_4_5_deduplication;
mod section_4_7_congestion;
mod section_4_messages;
mod section_4_retransmission;
mod section_5_conditional;
mod section_5_options;
mod section_5_requests;
mod section_6_uri;
mod section_8_multicast;
mod section_9_security;
