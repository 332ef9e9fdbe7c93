//! Object identifiers.

use der::asn1::ObjectIdentifier;

macro_rules! oids {
    ($($(#[$doc:meta])* $name:ident = $oid:literal;)*) => {
        $($(#[$doc])* pub const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($oid);)*
    };
}

oids! {
    // General information, id-it (RFC 9810 §5.3.19).
    /// `id-it-signKeyPairTypes`.
    SIGN_KEY_PAIR_TYPES = "1.3.6.1.5.5.7.4.2";
    /// `id-it-encKeyPairTypes`.
    ENC_KEY_PAIR_TYPES = "1.3.6.1.5.5.7.4.3";
    /// `id-it-currentCRL`.
    CURRENT_CRL = "1.3.6.1.5.5.7.4.6";
    /// `id-it-unsupportedOIDs`.
    UNSUPPORTED_OIDS = "1.3.6.1.5.5.7.4.7";
    /// `id-it-implicitConfirm`.
    IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13";
    /// `id-it-confirmWaitTime`.
    CONFIRM_WAIT_TIME = "1.3.6.1.5.5.7.4.14";
    /// `id-it-suppLangTags`.
    SUPP_LANG_TAGS = "1.3.6.1.5.5.7.4.16";
    /// `id-it-caCerts`.
    CA_CERTS = "1.3.6.1.5.5.7.4.17";
    /// `id-it-rootCaKeyUpdate`.
    ROOT_CA_KEY_UPDATE = "1.3.6.1.5.5.7.4.18";
    /// `id-it-certReqTemplate`.
    CERT_REQ_TEMPLATE = "1.3.6.1.5.5.7.4.19";
    /// `id-it-rootCaCert`.
    ROOT_CA_CERT = "1.3.6.1.5.5.7.4.20";
    /// `id-it-certProfile`.
    CERT_PROFILE = "1.3.6.1.5.5.7.4.21";
    /// `id-it-crlStatusList`.
    CRL_STATUS_LIST = "1.3.6.1.5.5.7.4.22";
    /// `id-it-crls`.
    CRLS = "1.3.6.1.5.5.7.4.23";

    // Controls, id-regCtrl (RFC 4211 §6).
    /// `id-regCtrl-regToken`.
    REG_TOKEN = "1.3.6.1.5.5.7.5.1.1";
    /// `id-regCtrl-authenticator`.
    AUTHENTICATOR = "1.3.6.1.5.5.7.5.1.2";
    /// `id-regCtrl-oldCertID`.
    OLD_CERT_ID = "1.3.6.1.5.5.7.5.1.5";
    /// `id-regCtrl-algId`.
    ALG_ID = "1.3.6.1.5.5.7.5.1.11";
    /// `id-regCtrl-rsaKeyLen`.
    RSA_KEY_LEN = "1.3.6.1.5.5.7.5.1.12";
}
