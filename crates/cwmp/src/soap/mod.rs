//! SOAP 1.1 as CWMP uses it (TR-069 §3.5): envelopes, their headers, and how arguments stand in the body.

mod envelope;
mod field;
mod header;
mod limits;
mod reader;
mod writer;

pub use envelope::{EncodeOptions, Envelope};
pub(crate) use field::{Field, Item, Word, argument, structure};
pub use header::Header;
pub use limits::Limits;
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;
