//! The extensions that a PKCS #10 request asks for (RFC 2985 §5.4.2).

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader};
use homefleet_cmp::RequestParts;
use homefleet_cmp::asn1::CertificationRequest;

/// `extensionRequest`.
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

/// `Extensions` in DER, if there are any.
pub(super) fn extensions(request: &CertificationRequest) -> der::Result<Option<Vec<u8>>> {
    let parts = RequestParts::read(request)?;
    let mut reader = SliceReader::new(&parts.attributes)?;
    while !reader.is_finished() {
        let (oid, values) = reader.sequence(|r| {
            let oid: ObjectIdentifier = r.decode()?;
            let values: AnyRef<'_> = r.decode()?;
            Ok::<_, der::Error>((oid, values))
        })?;
        if oid == EXTENSION_REQUEST {
            let mut values = SliceReader::new(values.value())?;
            let first = values.tlv_bytes()?;
            AnyRef::from_der(first)?;
            values.finish()?;
            return Ok(Some(first.to_vec()));
        }
    }
    Ok(None)
}
