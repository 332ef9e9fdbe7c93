//! `PKIBody` (RFC 9810 §5.1.2).

use std::fmt;

use der::{
    Choice,
    asn1::{Int, Null},
};

use super::{
    CaKeyUpdate, CertRepMessage, CertReqMsg, CertStatus, Certificate, CertificateList,
    CertificationRequest, Challenge, EncodedMessage, ErrorMsg, InfoTypeAndValue, KeyRecovery,
    PollRequest, PollResponse, RevDetails, RevRepContent, RevocationAnnouncement,
};

macro_rules! bodies {
    ($($(#[$doc:meta])* $number:literal $name:ident($type:ty) $short:literal $list:expr;)*) => {
        /// `PKIBody` (RFC 9810 §5.1.2).
        #[derive(Clone, Debug, PartialEq, Eq, Choice)]
        #[asn1(tag_mode = "EXPLICIT")]
        pub enum Body {
            $($(#[$doc])* #[asn1(context_specific = $number, constructed = "true")] $name($type),)*
        }

        /// Which body, as the specification abbreviates it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum BodyKind {
            $($(#[$doc])* $name,)*
        }

        impl Body {
            /// Which it is.
            pub fn kind(&self) -> BodyKind {
                match self {
                    $(Self::$name(_) => BodyKind::$name,)*
                }
            }

            /// Entries of its longest list.
            pub(crate) fn longest_list(&self) -> usize {
                match self {
                    $(Self::$name(content) => {
                        let entries: fn(&$type) -> usize = $list;
                        entries(content)
                    })*
                }
            }
        }

        impl fmt::Display for BodyKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $short,)*
                })
            }
        }
    };
}

bodies! {
    /// Initialization request.
    "0" Ir(Vec<CertReqMsg>) "ir" requests;
    /// Initialization response.
    "1" Ip(CertRepMessage) "ip" responses;
    /// Certification request.
    "2" Cr(Vec<CertReqMsg>) "cr" requests;
    /// Certification response.
    "3" Cp(CertRepMessage) "cp" responses;
    /// PKCS #10 certification request.
    "4" P10cr(CertificationRequest) "p10cr" |_| 1;
    /// Proof-of-possession challenge.
    "5" Popdecc(Vec<Challenge>) "popdecc" Vec::len;
    /// Proof-of-possession response.
    "6" Popdecr(Vec<Int>) "popdecr" Vec::len;
    /// Key update request.
    "7" Kur(Vec<CertReqMsg>) "kur" requests;
    /// Key update response.
    "8" Kup(CertRepMessage) "kup" responses;
    /// Key recovery request.
    "9" Krr(Vec<CertReqMsg>) "krr" requests;
    /// Key recovery response.
    "10" Krp(KeyRecovery) "krp" |recovery| {
        recovery.key_pair_hist.as_ref().map_or(0, Vec::len)
            .max(recovery.ca_certs.as_ref().map_or(0, Vec::len))
    };
    /// Revocation request.
    "11" Rr(Vec<RevDetails>) "rr" Vec::len;
    /// Revocation response.
    "12" Rp(RevRepContent) "rp" |response| response.status.len();
    /// Cross-certification request.
    "13" Ccr(Vec<CertReqMsg>) "ccr" requests;
    /// Cross-certification response.
    "14" Ccp(CertRepMessage) "ccp" responses;
    /// CA key update announcement.
    "15" Ckuann(CaKeyUpdate) "ckuann" |_| 1;
    /// Certificate announcement.
    "16" Cann(Certificate) "cann" |_| 1;
    /// Revocation announcement.
    "17" Rann(RevocationAnnouncement) "rann" |_| 1;
    /// CRL announcement.
    "18" Crlann(Vec<CertificateList>) "crlann" Vec::len;
    /// Confirmation that needs no answer.
    "19" Pkiconf(Null) "pkiconf" |_| 1;
    /// Messages inside of this one.
    "20" Nested(Vec<EncodedMessage>) "nested" Vec::len;
    /// General message: questions.
    "21" Genm(Vec<InfoTypeAndValue>) "genm" Vec::len;
    /// General response: answers.
    "22" Genp(Vec<InfoTypeAndValue>) "genp" Vec::len;
    /// Error.
    "23" Error(ErrorMsg) "error" |_| 1;
    /// Certificate confirmation.
    "24" CertConf(Vec<CertStatus>) "certConf" Vec::len;
    /// Polling request.
    "25" PollReq(Vec<PollRequest>) "pollReq" Vec::len;
    /// Polling response.
    "26" PollRep(Vec<PollResponse>) "pollRep" Vec::len;
}

#[allow(clippy::ptr_arg, reason = "a function of exactly the body's type")]
fn requests(requests: &Vec<CertReqMsg>) -> usize {
    requests
        .iter()
        .map(|request| request.cert_req.controls.as_ref().map_or(0, Vec::len))
        .chain([requests.len()])
        .max()
        .unwrap_or(0)
}

fn responses(message: &CertRepMessage) -> usize {
    message
        .response
        .len()
        .max(message.ca_pubs.as_ref().map_or(0, Vec::len))
}
