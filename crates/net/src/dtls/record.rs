//! What a datagram looks like from outside, before any engine sees it: enough to route it and to recognise a
//! ClientHello (RFC 6347 §4.1, §4.2.2; RFC 9147 §4, §5.2).

use std::borrow::Cow;

/// Bytes of a DTLS 1.2 (and DTLSPlaintext) record header.
const RECORD_HEADER: usize = 13;
/// Bytes of a DTLS handshake message header.
const HANDSHAKE_HEADER: usize = 12;
/// Offset of `random` in a ClientHello body, after `client_version`.
const RANDOM_OFFSET: usize = 2;
const RANDOM_LEN: usize = 32;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;
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

/// A datagram without what a handshake under way must not see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sifted<'a> {
    /// What the engine gets.
    pub(super) rest: Cow<'a, [u8]>,
    /// The first unprotected alert that ends something: fatal, or close_notify.
    pub(super) alert: Option<u8>,
    /// Other unprotected records that were taken out.
    pub(super) late: usize,
}

/// Takes out of a datagram what anybody can send and a handshake can do without: unprotected alerts, and, where the
/// peer's next records have to be `protected`, everything unprotected (RFC 9147 §4.5.2: invalid records are discarded
/// silently).
pub(super) fn sift(datagram: &[u8], protected: bool) -> Sifted<'_> {
    let mut kept = Vec::new();
    let mut alert = None;
    let mut late = 0;
    let mut taken = 0;
    let mut at = 0;
    while let Some(record) = datagram.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((header, len)) = extent(record) else {
            // The engine drops what it cannot take apart, and so do we.
            taken += 1;
            break;
        };
        let end = (at + header + len).min(datagram.len());
        let unprotected = record[0] & 0b1110_0000 != 0b0010_0000 && record[3..5] == [0, 0];
        if unprotected && record[0] == ALERT {
            taken += 1;
            if let Some(&[level, code]) = record.get(header..header + len)
                && (level == FATAL || code == 0)
            {
                alert = alert.or(Some(code));
            }
        } else if unprotected && protected {
            taken += 1;
            late += 1;
        } else {
            kept.push(at..end);
        }
        at = end;
    }
    let rest = if taken == 0 {
        Cow::Borrowed(datagram)
    } else {
        let parts = kept.into_iter().filter_map(|range| datagram.get(range));
        Cow::Owned(parts.flatten().copied().collect())
    };
    Sifted { rest, alert, late }
}

/// Bytes of the header and the content of the record that `record` begins with.
fn extent(record: &[u8]) -> Option<(usize, usize)> {
    let first = *record.first()?;
    if first & 0b1110_0000 == 0b0010_0000 {
        // RFC 9147 §4: C (a connection identifier, which is never negotiated here), S (16-bit sequence number), L (length).
        if first & 0b0001_0000 != 0 {
            return None;
        }
        let header = if first & 0b1000 == 0 { 2 } else { 3 };
        if first & 0b100 == 0 {
            return Some((header, record.len().checked_sub(header)?));
        }
        let len = record.get(header..header + 2)?;
        return Some((
            header + 2,
            usize::from(u16::from_be_bytes([len[0], len[1]])),
        ));
    }
    let header = record.get(..RECORD_HEADER)?;
    let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
    Some((RECORD_HEADER, len))
}

/// Whether the datagram opens with an alert.
pub(super) fn is_alert(datagram: &[u8]) -> bool {
    datagram.first() == Some(&ALERT)
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
        let mut datagram = vec![HANDSHAKE, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 0, 0, 46];
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

    fn record(kind: u8, epoch: u8, content: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 9, 0];
        record.push(u8::try_from(content.len()).unwrap());
        record.extend(content);
        record
    }

    #[test]
    fn unprotected_alerts_are_taken_out_wherever_they_stand() {
        let unified = [0x2e, 0, 1, 0, 3, 7, 7, 7];
        let hello = hello(0, 0);
        let fatal = record(ALERT, 0, &[2, 40]);
        for before in [&[][..], &hello, &unified, &record(22, 1, b"finished")] {
            for after in [&[][..], &hello, &unified] {
                let datagram = [before, &fatal, after].concat();
                let sifted = sift(&datagram, false);
                assert_eq!(sifted.alert, Some(40));
                assert_eq!(sifted.rest, [before, after].concat());
            }
        }
        assert_eq!(sift(&record(ALERT, 0, &[1, 0]), false).alert, Some(0));
        let warning = record(ALERT, 0, &[1, 112]);
        assert_eq!(sift(&warning, false).alert, None);
        assert!(sift(&warning, false).rest.is_empty());
        let protected = record(ALERT, 1, &[2, 40]);
        assert_eq!(sift(&protected, false).alert, None);
        assert_eq!(sift(&protected, false).rest, protected);
    }

    #[test]
    fn nothing_unprotected_passes_once_the_peer_protects_its_records() {
        let unified = [0x2f, 0, 1, 0, 3, 7, 7, 7];
        let datagram = [&hello(0, 0)[..], &unified, &record(20, 0, &[1])].concat();
        let sifted = sift(&datagram, true);
        assert_eq!((&sifted.rest[..], sifted.late), (&unified[..], 2));
        assert_eq!(sift(&datagram, false).rest, datagram);
    }

    #[test]
    fn sifting_never_panics_and_drops_what_has_no_extent() {
        let whole = [hello(0, 0), record(ALERT, 0, &[2, 40]), vec![0x2c, 1]].concat();
        for len in 0..whole.len() {
            for protected in [false, true] {
                assert!(sift(&whole[..len], protected).rest.len() <= len);
            }
        }
        assert_eq!(sift(&[0x3f, 1, 2, 3], false).rest, &[][..]);
        // A length beyond the datagram ends with it.
        let mut long = record(22, 0, b"abc");
        long[12] = 200;
        assert_eq!(sift(&long, false).rest, long);
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
