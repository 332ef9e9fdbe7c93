//! Makes certificate chains of every kind, and asks about them.

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use homefleet_trust::{
    Anchor, Connection, Context, Decision, FirstUse, Outcome, Policy, Refusal, Revocation,
    StoredCertificate, Time, decide,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

pub const HOST: &str = "acs.example.com";
pub const CONTROLLER: &str = "self::controller";

/// 2026-06-01T00:00:00Z, inside the validity of everything made here unless said otherwise.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_272_000)
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Entity {
    pub der: Vec<u8>,
    pub params: CertificateParams,
    pub key: Rc<KeyPair>,
}

pub fn fresh_key() -> Rc<KeyPair> {
    Rc::new(KeyPair::generate().unwrap())
}

impl Entity {
    pub fn root(name: &str) -> Self {
        Self::self_signed(ca(name))
    }

    pub fn self_signed(params: CertificateParams) -> Self {
        Self::self_signed_with(params, fresh_key())
    }

    pub fn self_signed_with(params: CertificateParams, key: Rc<KeyPair>) -> Self {
        let der = params.self_signed(&*key).unwrap().der().to_vec();
        Self { der, params, key }
    }

    pub fn issue(&self, params: CertificateParams) -> Self {
        self.issue_with(params, fresh_key())
    }

    pub fn issue_with(&self, params: CertificateParams, key: Rc<KeyPair>) -> Self {
        let issuer = Issuer::from_params(&self.params, &*self.key);
        let der = params.signed_by(&*key, &issuer).unwrap().der().to_vec();
        Self { der, params, key }
    }

    /// The same name, certified for another key: its signatures do not verify under the real one.
    pub fn impostor(&self) -> Self {
        Self {
            key: fresh_key(),
            ..self.clone()
        }
    }

    pub fn anchor(&self) -> Anchor {
        Anchor::from_der(&self.der).unwrap()
    }

    pub fn pem(&self) -> String {
        pem(&self.der)
    }
}

pub fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

pub trait With: Sized {
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
}

impl<T> With for T {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

pub fn dn(name: &str) -> DistinguishedName {
    DistinguishedName::new().with(|dn| {
        dn.push(DnType::OrganizationName, "Homefleet Test");
        dn.push(DnType::CommonName, name);
    })
}

fn base(name: &str) -> CertificateParams {
    CertificateParams::default().with(|p| {
        p.distinguished_name = dn(name);
        p.not_before = date_time_ymd(2025, 1, 1);
        p.not_after = date_time_ymd(2035, 1, 1);
    })
}

/// A CA as it should be.
pub fn ca(name: &str) -> CertificateParams {
    base(name).with(|p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    })
}

/// A CA with a path length constraint.
pub fn ca_with_path_len(name: &str, path_len: u8) -> CertificateParams {
    ca(name).with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len)))
}

/// A USP Endpoint's certificate as it should be, for both roles.
pub fn endpoint(name: &str) -> CertificateParams {
    base(name).with(|p| {
        p.subject_alt_names = vec![uri("urn:bbf:usp:id:self::controller"), dns(HOST)];
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
    })
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(oid, content.to_vec()).with(|e| e.set_criticality(critical))
}

/// One DER element.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=127 => out.push(u8::try_from(len).unwrap()),
        len @ 128..=0xFF => out.extend([0x81, u8::try_from(len).unwrap()]),
        len @ 0x100..=0xFFFF => {
            out.push(0x82);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            let bytes = len.to_be_bytes();
            let first = bytes.iter().position(|b| *b != 0).unwrap();
            out.push(0x80 | u8::try_from(bytes.len() - first).unwrap());
            out.extend(&bytes[first..]);
        }
    }
    out.extend(content);
    out
}

/// What we know; asks.
#[derive(Clone)]
pub struct Judge {
    pub anchors: Vec<Anchor>,
    pub time: Time,
    pub policy: Policy,
    pub stored: Vec<StoredCertificate>,
    pub brokers: Vec<Anchor>,
    pub cached: bool,
    pub first_use: FirstUse,
}

impl Judge {
    pub fn trusting(anchors: &[&Entity]) -> Self {
        Self {
            anchors: anchors.iter().map(|entity| entity.anchor()).collect(),
            time: Time::Accurate(now()),
            policy: Policy::default(),
            stored: Vec::new(),
            brokers: Vec::new(),
            cached: false,
            first_use: FirstUse::Refuse,
        }
    }

    pub fn ask(&self, chain: &[Vec<u8>], connection: Connection<'_>) -> Decision {
        self.ask_with(chain, connection, None)
    }

    /// Looking at what is known about revocation.
    pub fn ask_with(
        &self,
        chain: &[Vec<u8>],
        connection: Connection<'_>,
        revocation: Option<&Revocation>,
    ) -> Decision {
        let mut context = Context::new(&self.anchors, self.time, connection, &self.policy);
        context.stored = &self.stored;
        context.brokers = &self.brokers;
        context.cached = self.cached;
        context.first_use = self.first_use;
        context.revocation = revocation;
        let decision = decide(chain, &context);
        assert_eq!(decision.peer.is_some(), decision.is_established());
        assert_eq!(decision.basis.is_some(), decision.is_established());
        if let Outcome::Hold(wanted) = &decision.outcome {
            assert!(!wanted.is_empty());
        }
        decision
    }

    pub fn accepted(&self, chain: &[&Entity]) -> Decision {
        self.ask(&ders(chain), Connection::Accepted)
    }

    pub fn initiated(&self, chain: &[&Entity], host: &str, endpoint_id: Option<&str>) -> Decision {
        self.ask(&ders(chain), Connection::Initiated { host, endpoint_id })
    }

    /// The refusal of an accepted connection; `None` is Establish.
    pub fn refusal(&self, chain: &[&Entity]) -> Option<Refusal> {
        self.accepted(chain).refusal().cloned()
    }
}

pub fn ders(chain: &[&Entity]) -> Vec<Vec<u8>> {
    chain.iter().map(|entity| entity.der.clone()).collect()
}

/// Root, intermediate, peer.
pub struct Three {
    pub root: Entity,
    pub ca: Entity,
    pub peer: Entity,
}

/// Three good certificates, each changed as asked before it is issued.
pub fn three(
    root: impl FnOnce(&mut CertificateParams),
    middle: impl FnOnce(&mut CertificateParams),
    peer: impl FnOnce(&mut CertificateParams),
) -> Three {
    let root = Entity::self_signed(ca("Root").with(root));
    let ca = root.issue(ca("Intermediate").with(middle));
    let peer = ca.issue(endpoint("peer").with(peer));
    Three { root, ca, peer }
}

/// Nothing changed.
pub fn same(_: &mut CertificateParams) {}

impl Three {
    /// What is said about the peer with its intermediate, when the root is trusted, on an accepted connection.
    pub fn refusal(&self) -> Option<Refusal> {
        Judge::trusting(&[&self.root]).refusal(&[&self.peer, &self.ca])
    }

    /// The same on a connection that we initiated.
    pub fn refusal_as_server(&self) -> Option<Refusal> {
        Judge::trusting(&[&self.root])
            .initiated(&[&self.peer, &self.ca], HOST, Some(CONTROLLER))
            .refusal()
            .cloned()
    }
}
