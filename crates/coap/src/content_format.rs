//! Content-Format numbers (RFC 7252 §12.3 and the registries of the specifications served here).

/// `text/plain; charset=utf-8` (RFC 7252 §12.3).
pub const TEXT_PLAIN: u16 = 0;
/// `application/link-format` (RFC 6690 §7.3).
pub const LINK_FORMAT: u16 = 40;
/// `application/xml` (RFC 7252 §12.3).
pub const XML: u16 = 41;
/// `application/octet-stream` (RFC 7252 §12.3); USP Records travel as this (R-COAP.2).
pub const OCTET_STREAM: u16 = 42;
/// `application/json` (RFC 7252 §12.3).
pub const JSON: u16 = 50;
/// `application/cbor` (RFC 8949 §9.5).
pub const CBOR: u16 = 60;
/// `application/pkixcmp` (RFC 9482 §6.2).
pub const PKIXCMP: u16 = 259;

/// Number and media type of every format known here, by number.
pub const REGISTRY: &[(u16, &str)] = &[
    (TEXT_PLAIN, "text/plain; charset=utf-8"),
    (16, "application/cose; cose-type=\"cose-encrypt0\""),
    (17, "application/cose; cose-type=\"cose-mac0\""),
    (18, "application/cose; cose-type=\"cose-sign1\""),
    (21, "image/gif"),
    (22, "image/jpeg"),
    (23, "image/png"),
    (LINK_FORMAT, "application/link-format"),
    (XML, "application/xml"),
    (OCTET_STREAM, "application/octet-stream"),
    (47, "application/exi"),
    (JSON, "application/json"),
    (51, "application/json-patch+json"),
    (52, "application/merge-patch+json"),
    (CBOR, "application/cbor"),
    (61, "application/cwt"),
    (62, "application/multipart-core"),
    (63, "application/cbor-seq"),
    (101, "application/cose-key"),
    (102, "application/cose-key-set"),
    (110, "application/senml+json"),
    (112, "application/senml+cbor"),
    (140, "application/yang-data+cbor; id=sid"),
    (256, "application/coap-group+json"),
    (257, "application/concise-problem-details+cbor"),
    (PKIXCMP, "application/pkixcmp"),
    (
        280,
        "application/pkcs7-mime; smime-type=server-generated-key",
    ),
    (281, "application/pkcs7-mime; smime-type=certs-only"),
    (284, "application/pkcs8"),
    (285, "application/csrattrs"),
    (286, "application/pkcs10"),
    (287, "application/pkix-cert"),
    (310, "application/senml+xml"),
    (340, "application/yang-data+cbor"),
    (11542, "application/vnd.oma.lwm2m+tlv"),
    (11543, "application/vnd.oma.lwm2m+json"),
    (11544, "application/vnd.oma.lwm2m+cbor"),
];

/// The media type of a Content-Format number.
pub fn media_type(number: u16) -> Option<&'static str> {
    REGISTRY
        .binary_search_by_key(&number, |(n, _)| *n)
        .ok()
        .and_then(|at| REGISTRY.get(at))
        .map(|(_, name)| *name)
}

/// The Content-Format number of a media type, compared without regard to case and blanks.
pub fn number(media_type: &str) -> Option<u16> {
    fn plain(text: &str) -> impl Iterator<Item = char> + '_ {
        text.chars()
            .filter(|c| !c.is_ascii_whitespace())
            .map(|c| c.to_ascii_lowercase())
    }
    REGISTRY
        .iter()
        .find(|(_, name)| plain(name).eq(plain(media_type)))
        .map(|(n, _)| *n)
}
