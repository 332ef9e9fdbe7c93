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

    // Passwords: MAC and key derivation (RFC 9810 §5.1.3.1, RFC 9481 §4.4, §6.1).
    /// `id-PasswordBasedMac`.
    PASSWORD_BASED_MAC = "1.2.840.113533.7.66.13";
    /// `id-PBMAC1`.
    PBMAC1 = "1.2.840.113549.1.5.14";
    /// `id-DHBasedMac`, not implemented.
    DH_BASED_MAC = "1.2.840.113533.7.66.30";
    /// `id-KemBasedMac`, not implemented.
    KEM_BASED_MAC = "1.2.840.113533.7.66.16";
    /// `id-PBKDF2`.
    PBKDF2 = "1.2.840.113549.1.5.12";

    // Hashes and HMACs (RFC 9481 §2, §6.2).
    /// `id-sha1`.
    SHA1 = "1.3.14.3.2.26";
    /// `id-sha224`.
    SHA224 = "2.16.840.1.101.3.4.2.4";
    /// `id-sha256`.
    SHA256 = "2.16.840.1.101.3.4.2.1";
    /// `id-sha384`.
    SHA384 = "2.16.840.1.101.3.4.2.2";
    /// `id-sha512`.
    SHA512 = "2.16.840.1.101.3.4.2.3";
    /// `id-HMACWithSHA1`, the name RFC 4210 gives it.
    HMAC_SHA1_PKIX = "1.3.6.1.5.5.8.1.2";
    /// `id-hmacWithSHA1`.
    HMAC_SHA1 = "1.2.840.113549.2.7";
    /// `id-hmacWithSHA224`.
    HMAC_SHA224 = "1.2.840.113549.2.8";
    /// `id-hmacWithSHA256`.
    HMAC_SHA256 = "1.2.840.113549.2.9";
    /// `id-hmacWithSHA384`.
    HMAC_SHA384 = "1.2.840.113549.2.10";
    /// `id-hmacWithSHA512`.
    HMAC_SHA512 = "1.2.840.113549.2.11";

    // Signatures and keys (RFC 9481 §3).
    /// `rsaEncryption`.
    RSA = "1.2.840.113549.1.1.1";
    /// `id-RSASSA-PSS`.
    RSA_PSS = "1.2.840.113549.1.1.10";
    /// `id-mgf1`.
    MGF1 = "1.2.840.113549.1.1.8";
    /// `sha256WithRSAEncryption`.
    RSA_SHA256 = "1.2.840.113549.1.1.11";
    /// `sha384WithRSAEncryption`.
    RSA_SHA384 = "1.2.840.113549.1.1.12";
    /// `sha512WithRSAEncryption`.
    RSA_SHA512 = "1.2.840.113549.1.1.13";
    /// `ecdsa-with-SHA256`.
    ECDSA_SHA256 = "1.2.840.10045.4.3.2";
    /// `ecdsa-with-SHA384`.
    ECDSA_SHA384 = "1.2.840.10045.4.3.3";
    /// `ecdsa-with-SHA512`.
    ECDSA_SHA512 = "1.2.840.10045.4.3.4";
    /// `id-ecPublicKey`.
    EC_PUBLIC_KEY = "1.2.840.10045.2.1";
    /// `secp256r1`.
    P256 = "1.2.840.10045.3.1.7";
    /// `secp384r1`.
    P384 = "1.3.132.0.34";
    /// `id-Ed25519`.
    ED25519 = "1.3.101.112";

    // Certificates.
    /// `id-ce-subjectKeyIdentifier`.
    SUBJECT_KEY_IDENTIFIER = "2.5.29.14";
    /// `id-ce-cRLReasons`: the reason of a revocation.
    REASON_CODE = "2.5.29.21";

    // Private keys in messages: CMS (RFC 5652), encryption (RFC 9481 §4, §5), key packages (RFC 5958).
    /// `id-data`.
    DATA = "1.2.840.113549.1.7.1";
    /// `id-signedData`.
    SIGNED_DATA = "1.2.840.113549.1.7.2";
    /// `id-ct-KP-aKeyPackage`.
    KEY_PACKAGE = "2.16.840.1.101.2.1.2.78.5";
    /// `id-contentType`.
    CONTENT_TYPE = "1.2.840.113549.1.9.3";
    /// `id-messageDigest`.
    MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
    /// `id-RSAES-OAEP`.
    RSAES_OAEP = "1.2.840.113549.1.1.7";
    /// `dhSinglePass-stdDH-sha256kdf-scheme`.
    ECDH_SHA256 = "1.3.132.1.11.1";
    /// `dhSinglePass-stdDH-sha384kdf-scheme`.
    ECDH_SHA384 = "1.3.132.1.11.2";
    /// `dhSinglePass-stdDH-sha512kdf-scheme`.
    ECDH_SHA512 = "1.3.132.1.11.3";
    /// `id-aes128-wrap`.
    AES128_WRAP = "2.16.840.1.101.3.4.1.5";
    /// `id-aes256-wrap`.
    AES256_WRAP = "2.16.840.1.101.3.4.1.45";
    /// `id-aes128-CBC`.
    AES128_CBC = "2.16.840.1.101.3.4.1.2";
    /// `id-aes256-CBC`.
    AES256_CBC = "2.16.840.1.101.3.4.1.42";
}
