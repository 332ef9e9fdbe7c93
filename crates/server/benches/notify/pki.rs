//! A CA, and certificates for Endpoints.

use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use homefleet_usp::EndpointId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) const CONTROLLER: &str = "proto::controller";
pub(crate) const BROKER: &str = "proto::broker";
pub(crate) const PASSWORD: &str = "correct horse";

/// Which agent: its Endpoint ID, and the common name of its certificate.
pub(crate) fn agent(n: usize) -> String {
    format!("os::00D09E-{n}")
}

/// The name that it logs in with at an MQTT broker whose file of passwords has colons of its own.
pub(crate) fn user(n: usize) -> String {
    format!("agent-{n}")
}

/// That of the Controller.
pub(crate) const CONTROLLER_USER: &str = "controller";

pub(crate) struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Issued {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::from_pem(&self.chain, &self.key).unwrap()
    }
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    pub(crate) fn issue(&self, id: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, id);
        let urn = id.parse::<EndpointId>().unwrap().to_urn();
        params.subject_alt_names = vec![
            SanType::URI(urn.try_into().unwrap()),
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn verifier(&self) -> Arc<TrustVerifier> {
        let anchors = anchors_from_pem(&self.pem).unwrap();
        Arc::new(TrustVerifier::new(anchors, Policy::default(), || {
            Time::Accurate(SystemTime::now())
        }))
    }
}
