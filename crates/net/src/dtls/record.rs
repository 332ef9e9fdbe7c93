//! What a datagram looks like from outside, before any engine sees it: enough to route it and to recognise a
//! ClientHello (RFC 6347 §4.1, §4.2.2; RFC 9147 §4, §5.2).

/// Bytes of a DTLS 1.2 (and DTLSPlaintext) record header.
const RECORD_HEADER: usize = 13;
/// Bytes of a DTLS handshake message header.
const HANDSHAKE_HEADER: usize = 12;
/// Offset of `random` in a ClientHello body, after `client_version`.
const RANDOM_OFFSET: usize = 2;
const RANDOM_LEN: usize = 32;

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// The kind of a received datagram, judged by its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unprotected first fragment of a ClientHello, with its random.
    ClientHello([u8; RANDOM_LEN]),
    /// Another unprotected record (epoch 0): handshake, ChangeCipherSpec or alert.
    Plaintext,
    /// A protected record of some epoch.
    Protected,
    /// Not DTLS at all.
    Other,
}

/// Sorts a datagram by its first record.
pub(super) fn classify(datagram: &[u8]) -> Kind {
    let Some(&first) = datagram.first() else {
        return Kind::Other;
    };
    // RFC 9147 §4.1: 001CSLEE is a DTLSCiphertext unified header.
    if first & 0b1110_0000 == 0b0010_0000 {
        return Kind::Protected;
    }
    if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&first) && first != 26 {
        return Kind::Other;
    }
    let Some(header) = datagram.get(..RECORD_HEADER) else {
        return Kind::Other;
    };
    // Version 254.255 (1.0, which a first ClientHello may carry) or 254.253 (1.2, and 1.3's legacy field).
    if header[1] != 254 || !(header[2] == 255 || header[2] == 253) {
        return Kind::Other;
    }
    if header[3] != 0 || header[4] != 0 {
        return Kind::Protected;
    }
    if first == APPLICATION_DATA {
        // Application data is never unprotected.
        return Kind::Other;
    }
    client_hello_random(datagram).map_or(Kind::Plaintext, Kind::ClientHello)
}

/// Whether the datagram opens with a ServerHello (a HelloRetryRequest is one) or a HelloVerifyRequest.
pub(super) fn answers_a_hello(datagram: &[u8]) -> bool {
    datagram.first() == Some(&HANDSHAKE)
        && matches!(
            datagram.get(RECORD_HEADER),
            Some(&(SERVER_HELLO | HELLO_VERIFY_REQUEST))
        )
}

/// The random of a ClientHello whose first fragment opens `datagram`.
pub(super) fn client_hello_random(datagram: &[u8]) -> Option<[u8; RANDOM_LEN]> {
    let handshake = datagram.get(RECORD_HEADER..)?;
    if datagram[0] != HANDSHAKE || handshake.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    let fragment_offset = handshake.get(6..9)?;
    if fragment_offset != [0, 0, 0] {
        return None;
    }
    let body = handshake.get(HANDSHAKE_HEADER..)?;
    body.get(RANDOM_OFFSET..RANDOM_OFFSET + RANDOM_LEN)?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hello(offset: u8, epoch: u8) -> Vec<u8> {
        let mut datagram = vec![HANDSHAKE, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 0, 0, 60];
        datagram.extend([CLIENT_HELLO, 0, 0, 48, 0, 0, 0, 0, offset, 0, 0, 48]);
        datagram.extend([254, 253]);
        datagram.extend(7..39);
        datagram
    }

    #[test]
    fn client_hello_is_recognised_with_its_random() {
        let expected: Vec<u8> = (7..39).collect();
        assert_eq!(
            classify(&hello(0, 0)),
            Kind::ClientHello(expected.try_into().unwrap())
        );
    }

    #[test]
    fn later_fragment_and_other_epochs_are_no_client_hello() {
        assert_eq!(classify(&hello(9, 0)), Kind::Plaintext);
        assert_eq!(classify(&hello(0, 1)), Kind::Protected);
    }

    #[test]
    fn anything_short_or_foreign_is_other() {
        assert_eq!(classify(&[]), Kind::Other);
        assert_eq!(classify(&[0x44, 0x02, 1, 2]), Kind::Other);
        assert_eq!(classify(&[22, 3, 1, 0, 5]), Kind::Other);
        assert_eq!(classify(&[0x2f, 1, 2, 3]), Kind::Protected);
        let full = hello(0, 0);
        for len in 0..full.len() {
            // Never panics, never takes a truncated hello for a whole one.
            assert!(!matches!(classify(&full[..len]), Kind::ClientHello(_)));
        }
    }
}
