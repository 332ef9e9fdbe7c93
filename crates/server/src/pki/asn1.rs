//! Writing DER: certificates, lists and answers are put together from parts that are encoded already (RFC 5280 §4.1).

use der::asn1::ObjectIdentifier;
use time::OffsetDateTime;

use crate::clock::Millis;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0A;
const BOOLEAN: u8 = 0x01;
const BITS: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One value of a tag, from the parts of its contents.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|&byte| byte != 0).unwrap_or(7)..];
            // At most eight bytes of length.
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
            out.extend_from_slice(bytes);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// A SEQUENCE OF.
pub(super) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
    sequence(&parts)
}

/// `[n]` around a whole value, or in place of a constructed one's tag.
pub(super) fn context(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    tlv(0xA0 | number, parts)
}

/// `[n]` in place of a primitive value's tag.
pub(super) fn context_primitive(number: u8, contents: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, &[contents])
}

pub(super) fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    tlv(OID, &[oid.as_bytes()])
}

/// An INTEGER that is not negative.
pub(super) fn unsigned(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(7);
    let digits = &bytes[start..];
    if digits[0] & 0x80 != 0 {
        tlv(INTEGER, &[&[0], digits])
    } else {
        tlv(INTEGER, &[digits])
    }
}

pub(super) fn truth() -> Vec<u8> {
    tlv(BOOLEAN, &[&[0xFF]])
}

/// A BIT STRING of whole bytes.
pub(super) fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(BITS, &[&[0], bytes])
}

/// A BIT STRING of named bits (X.690 §11.2.2): bit 0 is the highest of `bits`.
pub(super) fn named_bits(bits: u16) -> Vec<u8> {
    let bytes = bits.to_be_bytes();
    let length = match bytes {
        [0, 0] => return tlv(BITS, &[&[0]]),
        [_, 0] => 1,
        _ => 2,
    };
    let used = &bytes[..length];
    // Not zero: at most 7 of its bits are unused.
    let unused = u8::try_from(used[length - 1].trailing_zeros()).unwrap_or(0);
    tlv(BITS, &[&[unused], used])
}

/// `Time` (RFC 5280 §4.1.2.5): UTCTime until 2049, whole seconds.
pub(super) fn time(at: Millis) -> Vec<u8> {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(LAST);
    if (1950..2050).contains(&at.year()) {
        return tlv(
            UTC_TIME,
            &[format!("{:02}{}", at.year() % 100, rest(at)).as_bytes()],
        );
    }
    generalized(at)
}

/// GeneralizedTime, whole seconds.
pub(super) fn generalized_time(at: Millis) -> Vec<u8> {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    generalized(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(LAST))
}

const LAST: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59 UTC);

fn generalized(at: OffsetDateTime) -> Vec<u8> {
    tlv(
        GENERALIZED_TIME,
        &[format!("{:04}{}", at.year(), rest(at)).as_bytes()],
    )
}

fn rest(at: OffsetDateTime) -> String {
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use der::{Decode as _, Encode as _};

    use super::*;

    #[test]
    fn what_is_written_is_der() {
        for number in [0, 1, 127, 128, 255, 256, 65_535, u64::MAX] {
            assert_eq!(unsigned(number), number.to_der().unwrap());
        }
        for length in [0, 1, 127, 128, 255, 256, 65_536] {
            let contents = vec![7; length];
            let value = der::asn1::OctetString::new(contents.clone()).unwrap();
            assert_eq!(tlv(OCTETS, &[&contents]), value.to_der().unwrap());
        }
        assert_eq!(named_bits(0b1000_0110_0000_0000), [3, 2, 1, 0b1000_0110]);
        assert_eq!(named_bits(0b0000_0000_1000_0000), [3, 3, 7, 0, 0x80]);
        assert_eq!(named_bits(0), [3, 1, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let last = Millis(2_524_607_999_999);
        assert_eq!(&time(last)[2..], b"491231235959Z");
        assert_eq!(
            &time(last.plus(std::time::Duration::from_millis(1)))[2..],
            b"20500101000000Z"
        );
        assert_eq!(&time(Millis(u64::MAX))[2..], b"99991231235959Z");
        for at in [Millis(0), last, Millis(4_000_000_000_000)] {
            let read = x509_cert::time::Time::from_der(&time(at)).unwrap();
            assert_eq!(read.to_unix_duration().as_secs(), at.0 / 1000);
        }
    }
}
