//! Serial numbers (RFC 5280 §4.1.2.2).

use std::fmt;
use std::str::FromStr;

use crate::store::pki::CertificateRecord;

/// Bytes of those that we give: 127 random bits.
const BYTES: usize = 16;
/// Most bytes (RFC 5280 §4.1.2.2).
const MAX: usize = 20;

/// A certificate's serial number: the contents of its INTEGER, positive, at most 20 bytes. As text, hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

/// A text or an INTEGER is no serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is a positive number of at most 20 bytes, as text in hexadecimal")]
pub struct SerialError;

impl Serial {
    /// A random one.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self::of_random(bytes))
    }

    /// Positive, and of full length: one more certificate does not tell how many there are.
    fn of_random(mut bytes: [u8; BYTES]) -> Self {
        bytes[0] = bytes[0] & 0x7F | 0x40;
        Self(bytes.to_vec())
    }

    /// From the contents of an INTEGER; leading zeros that DER would not have are dropped.
    pub fn from_integer(contents: &[u8]) -> Result<Self, SerialError> {
        if contents.first().is_none_or(|first| first & 0x80 != 0) {
            return Err(SerialError);
        }
        let start = contents.iter().position(|&byte| byte != 0);
        let digits = &contents[start.ok_or(SerialError)?..];
        let mut bytes = Vec::with_capacity(digits.len() + 1);
        if digits[0] & 0x80 != 0 {
            bytes.push(0);
        }
        bytes.extend_from_slice(digits);
        if bytes.len() > MAX {
            return Err(SerialError);
        }
        Ok(Self(bytes))
    }

    /// The contents of the INTEGER.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl CertificateRecord {
    /// Its serial number.
    pub fn serial_number(&self) -> Serial {
        // As it was given out.
        Serial(self.serial.clone())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::account::hex(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Hexadecimal in either case, with or without colons between bytes.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|&letter| letter != ':')
            .map(|letter| letter.to_digit(16).and_then(|digit| digit.try_into().ok()))
            .collect::<Option<_>>()
            .ok_or(SerialError)?;
        if digits.is_empty() || digits.len() > 2 * MAX {
            return Err(SerialError);
        }
        let mut bytes = vec![0];
        // From the right: an odd number of digits is a number all the same.
        let pairs = digits.rchunks(2).rev();
        bytes.extend(pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)));
        Self::from_integer(&bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ours_are_positive_and_of_full_length() {
        for byte in [0, 0x7F, 0x80, 0xFF] {
            let serial = Serial::of_random([byte; BYTES]);
            assert_eq!(serial.as_bytes().len(), BYTES);
            assert_eq!(Serial::from_integer(serial.as_bytes()), Ok(serial));
        }
        assert_ne!(Serial::random().unwrap(), Serial::random().unwrap());
    }

    #[test]
    fn texts_are_read_as_tools_write_them() {
        let serial: Serial = "0a:FF:10".parse().unwrap();
        assert_eq!(serial.as_bytes(), [0x0A, 0xFF, 0x10]);
        assert_eq!(serial.to_string(), "0aff10");
        assert_eq!("AFF10".parse(), Ok(serial));
        assert_eq!("ff".parse::<Serial>().unwrap().as_bytes(), [0, 0xFF]);
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        let long = "11".repeat(21);
        for text in ["", ":", "0", "00", "xyz", "-1", "ä", long.as_str()] {
            assert_eq!(text.parse::<Serial>(), Err(SerialError), "{text}");
        }
        for contents in [&[][..], &[0], &[0x80], &[0xFF, 0xFF], &[1; 21], &[0xFF; 20]] {
            assert_eq!(Serial::from_integer(contents), Err(SerialError));
        }
        assert_eq!(Serial::from_integer(&[0, 0, 1]).unwrap().as_bytes(), [1]);
    }
}
