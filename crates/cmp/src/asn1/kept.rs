//! A value together with the bytes it was received as, for what is hashed, signed or protected.

use std::ops::Deref;

use der::{Decode, Encode, Length, Reader, Writer};

/// A decoded value and its DER as received. Written, it is those bytes again, whatever the value would encode to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    value: T,
    der: Vec<u8>,
}

impl<T: Encode> Kept<T> {
    /// Encodes a value of our own.
    pub fn new(value: T) -> der::Result<Self> {
        let der = value.to_der()?;
        Ok(Self { value, der })
    }
}

impl<T> Kept<T> {
    /// The bytes, header included.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The value alone.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a, T> Decode<'a> for Kept<T>
where
    T: Decode<'a>,
    der::Error: From<T::Error>,
{
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let der = reader.tlv_bytes()?;
        Ok(Self {
            value: T::from_der(der)?,
            der: der.to_vec(),
        })
    }
}

impl<T> Encode for Kept<T> {
    fn encoded_len(&self) -> der::Result<Length> {
        Length::try_from(self.der.len())
    }

    fn encode(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(&self.der)
    }
}
