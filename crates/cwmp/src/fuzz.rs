//! Entry points for fuzzing; they never panic.

use crate::{Envelope, Limits, Side};

/// Bytes as an envelope: what decodes is encoded again and decodes to the same.
///
/// # Panics
/// When a round trip loses something: that is what fuzzing looks for.
pub fn codec(bytes: &[u8]) {
    let limits = Limits {
        bytes: 100_000,
        elements: 2_000,
        ..Limits::default()
    };
    match Envelope::decode(bytes, &limits) {
        Ok(envelope) => {
            let mut expected = envelope.clone();
            // What is not written: a header that is not ours.
            expected.header.not_understood = None;
            expected.namespace = expected.namespace.or(Some(crate::Namespace::V1_0));
            let again = Envelope::decode(&envelope.encode(), &Limits::default());
            assert_eq!(again, Ok(expected));
        }
        Err(malformed) => {
            let answered = malformed.error.fault_code(Side::Acs).is_some();
            assert_eq!(answered, malformed.error.fault_code(Side::Cpe).is_some());
            assert!(malformed.to_string().len() < 1000, "an error is short");
        }
    }
}
