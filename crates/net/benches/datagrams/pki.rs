//! A CA with an intermediate, ECDSA P-256 throughout, and certificates of both.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

pub(crate) struct Ca {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A chain and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Issued {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::from_pem(&self.chain, &self.key).unwrap()
    }

    /// `chain.pem` and `key.pem` under a name.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        fs::write(directory.join(format!("{name}.pem")), &self.chain).unwrap();
        fs::write(directory.join(format!("{name}.key")), &self.key).unwrap();
    }

    pub(crate) fn read(directory: &Path, name: &str) -> Self {
        Self {
            chain: fs::read_to_string(directory.join(format!("{name}.pem"))).unwrap(),
            key: fs::read_to_string(directory.join(format!("{name}.key"))).unwrap(),
        }
    }
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params("Bench CA"), key()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(params("Bench intermediate"), key(), &root).unwrap();
        Self { root, intermediate }
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// A certificate for an Endpoint and for `localhost`, under the root or under the intermediate.
    pub(crate) fn issue(&self, id: &str, through_intermediate: bool) -> Issued {
        let mut leaf = params(id);
        leaf.is_ca = IsCa::NoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        leaf.subject_alt_names = vec![
            SanType::URI(format!("urn:bbf:usp:id:{id}").try_into().unwrap()),
            SanType::DnsName("localhost".try_into().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let chain = if through_intermediate {
            let leaf = leaf.signed_by(&key, &self.intermediate).unwrap();
            leaf.pem() + &self.intermediate.pem()
        } else {
            leaf.signed_by(&key, &self.root).unwrap().pem()
        };
        Issued {
            chain,
            key: key.serialize_pem(),
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    params
}

/// Trusts a root, by the machine's clock.
pub(crate) fn verifier(root_pem: &str) -> Arc<TrustVerifier> {
    Arc::new(trusting(root_pem))
}

/// The same, and takes every peer for one it never met: no signature is remembered.
pub(crate) fn forgetful(root_pem: &str) -> Arc<TrustVerifier> {
    Arc::new(trusting(root_pem).remembering(0))
}

fn trusting(root_pem: &str) -> TrustVerifier {
    let anchors = anchors_from_pem(root_pem).unwrap();
    TrustVerifier::new(anchors, Policy::default(), || {
        Time::Accurate(SystemTime::now())
    })
}
