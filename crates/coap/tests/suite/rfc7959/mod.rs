//! RFC 7959, block-wise transfer, by role.

mod both;
mod client_block1;
mod client_block2;
mod server_block1;
mod server_block2;
