//! A small CA with an intermediate, and certificates with every fault a test needs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// The day of all tests in virtual time: 2026-11-20.
pub(crate) fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_132_800)
}

pub(crate) struct Ca {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

/// What a certificate says.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) endpoint_id: Option<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) years: (i32, i32),
    /// Issued by the intermediate, which is then sent along.
    pub(crate) through_intermediate: bool,
    pub(crate) padding: usize,
    /// Where its issuer's list of the revoked is, and its own number there.
    pub(crate) crl: Option<(&'static str, u64)>,
}

impl Leaf {
    pub(crate) fn endpoint(id: &str) -> Self {
        Self {
            endpoint_id: Some(id.to_owned()),
            dns: vec!["localhost".to_owned()],
            years: (2024, 2036),
            through_intermediate: true,
            padding: 0,
            crl: None,
        }
    }
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
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let root =
            CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap();
        let intermediate = CertifiedIssuer::signed_by(
            ca_params(&format!("{name} intermediate")),
            KeyPair::generate().unwrap(),
            &root,
        )
        .unwrap();
        Self { root, intermediate }
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CommonName,
            leaf.endpoint_id.as_deref().unwrap_or("no endpoint"),
        );
        if leaf.padding > 0 {
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, "x".repeat(leaf.padding));
        }
        if let Some(id) = &leaf.endpoint_id {
            params.subject_alt_names.push(SanType::URI(
                format!("urn:bbf:usp:id:{id}").try_into().unwrap(),
            ));
        }
        for name in &leaf.dns {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into().unwrap()));
        }
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if let Some((url, serial)) = leaf.crl {
            params.serial_number = Some(SerialNumber::from(serial));
            params.crl_distribution_points = vec![CrlDistributionPoint {
                uris: vec![url.to_owned()],
            }];
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let issuer = if leaf.through_intermediate {
            &self.intermediate
        } else {
            &self.root
        };
        let mut chain = params.signed_by(&key, issuer).unwrap().pem();
        if leaf.through_intermediate {
            chain.push_str(&self.intermediate.pem());
        }
        Issued {
            chain,
            key: key.serialize_pem(),
        }
    }

    /// The intermediate's list of the revoked, good for a day around [`today`].
    pub(crate) fn crl(&self, number: u64, revoked: &[u64]) -> Vec<u8> {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 20),
            next_update: date_time_ymd(2026, 11, 21),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2026, 11, 19),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.intermediate).unwrap().der().to_vec()
    }

    pub(crate) fn endpoint(&self, id: &str) -> Issued {
        self.issue(&Leaf::endpoint(id))
    }

    /// Trusts this CA, on [`today`].
    pub(crate) fn verifier(&self) -> Arc<TrustVerifier> {
        Arc::new(TrustVerifier::new(
            anchors_from_pem(&self.root_pem()).unwrap(),
            Policy::default(),
            || Time::Accurate(today()),
        ))
    }
}
