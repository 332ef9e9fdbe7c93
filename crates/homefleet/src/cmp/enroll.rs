//! `homefleet cmp enroll` and `update`: a certificate, kept before it is confirmed.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use homefleet_cmp::CertificateParts;
use homefleet_cmp::asn1::{
    CertTemplate, Certificate, CertificationRequest, EncryptedKey, Failure as CmpFailure, Name,
    StatusInfo,
};
use homefleet_cmp::authority::RequestKind;
use homefleet_cmp::client::{Offer, Outcome, Request};
use homefleet_cmp::crypto::{KeyKind, KeyPair, MacPolicy, Signer as _};
use homefleet_cmp::key_delivery::{self, Opener};
use homefleet_net::cmp::entity::{
    AltName, Believed, certificates_to_pem, der_of, extensions, key_pair, key_to_pem,
    old_certificate,
};
use homefleet_net::cmp::session::{Applicant, Progress};
use homefleet_trust::{Policy, Purpose, validate_signer};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::der::{Decode as _, DecodePem as _, Encode as _};

use super::ask::{Ask, Asker, otherwise};
use super::files;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// `cmp enroll`.
#[derive(Debug, Args)]
pub(crate) struct Enroll {
    #[command(flatten)]
    ask: Ask,
    /// Which request; with --csr it is p10cr
    #[arg(long, value_enum, default_value_t)]
    request: Kind,
    /// PEM or DER file of a PKCS #10 request, which says everything about the certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_key", "key_type", "central", "subject", "san", "out_key", "request"])]
    csr: Option<PathBuf>,
    /// Have the CA make the key; it comes encrypted for whoever asks
    #[arg(long, conflicts_with = "new_key", requires = "out_key")]
    central: bool,
    /// Subject: a name such as CN=device-1,O=Example, or a common name alone
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Alternative name: uri:…, dns:…, ip:… or email:…; may be given several times
    #[arg(long, value_name = "NAME")]
    san: Vec<AltName>,
    #[command(flatten)]
    out: Out,
}

/// `cmp update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    ask: Ask,
    #[command(flatten)]
    out: Out,
}

/// The key, and where everything goes.
#[derive(Debug, Args)]
struct Out {
    /// PEM file of the private key that the certificate is for; without, a new one is made
    #[arg(long, value_name = "FILE", help_heading = "The key")]
    new_key: Option<PathBuf>,
    /// The kind of key that is made [default: p256]
    #[arg(long, value_enum, conflicts_with = "new_key", help_heading = "The key")]
    key_type: Option<KeyType>,
    /// File for the certificate and those between it and its root, PEM
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Output, files that are not there yet"
    )]
    out: PathBuf,
    /// File for the new private key, PEM
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Output, files that are not there yet"
    )]
    out_key: Option<PathBuf>,
    /// File for the CA certificates that came with the certificate and are to be trusted, PEM; they come with a secret only
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Output, files that are not there yet"
    )]
    out_ca: Option<PathBuf>,
    /// Ask for a certificate that counts as confirmed at once
    #[arg(long)]
    implicit_confirm: bool,
}

/// A request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The first one of a PKI (RFC 9483 §4.1.1)
    #[default]
    Ir,
    /// Another one of a PKI that one is part of (RFC 9483 §4.1.2)
    Cr,
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyType {
    /// ECDSA P-256
    P256,
    /// ECDSA P-384
    P384,
    /// RSA with 3072 bits
    Rsa,
    /// Ed25519
    Ed25519,
}

impl KeyType {
    fn kind(self) -> KeyKind {
        match self {
            Self::P256 => KeyKind::P256,
            Self::P384 => KeyKind::P384,
            Self::Rsa => KeyKind::Rsa,
            Self::Ed25519 => KeyKind::Ed25519,
        }
    }
}

/// Asks, and writes what comes.
struct Applying<'a> {
    asker: &'a Asker,
    out: &'a Out,
    /// Made anew each time: a lost answer begins a new transaction.
    request: Box<dyn Fn() -> Result<Request, String> + Send + 'a>,
    /// Whether the CA makes the key.
    central: bool,
    tell: fn(&Progress),
    /// Files that were written for a certificate that may still be declined.
    written: Vec<PathBuf>,
    /// Why the certificate was not kept.
    failure: Option<Failure>,
}

impl Enroll {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let asker = self.ask.asker(self.out.implicit_confirm)?;
        self.out
            .check(self.csr.is_some() || self.out.new_key.is_some())?;
        let template = template(self.subject.as_deref(), &self.san)?;
        if let Some(path) = &self.csr {
            let csr = csr(path)?;
            let request = move || Ok(Request::Pkcs10(csr.clone()));
            return self
                .out
                .apply(&asker, global, Box::new(request), false, None);
        }
        let kind = match self.request {
            Kind::Ir => RequestKind::Initialization,
            Kind::Cr => RequestKind::Certification,
        };
        let certificate = move |key: Option<Arc<KeyPair>>| Request::Certificate {
            kind,
            template: Box::new(template.clone()),
            controls: Vec::new(),
            key: key.map(|key| key as _),
        };
        if self.central {
            let request = move || Ok(certificate(None));
            return self
                .out
                .apply(&asker, global, Box::new(request), true, None);
        }
        let (pair, made) = self.out.key()?;
        let request = move || Ok(certificate(Some(pair.clone())));
        self.out
            .apply(&asker, global, Box::new(request), false, made)
    }
}

impl Update {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let Some(path) = &self.ask.cert else {
            return Err(Failure::Usage(
                "an update is asked for with the certificate that there is: give --cert and --key"
                    .to_owned(),
            ));
        };
        let old = files::certificates(path)?.swap_remove(0);
        let asker = self.ask.asker(self.out.implicit_confirm)?;
        self.out.check(self.out.new_key.is_some())?;
        let failed = |error: x509_cert::der::Error| Failure::Failed(error.to_string());
        let parts = CertificateParts::read(&old).map_err(failed)?;
        let control = old_certificate(&old).map_err(failed)?;
        let template = CertTemplate {
            subject: Some(parts.subject),
            extensions: alternative_names(&old),
            ..CertTemplate::default()
        };
        let (pair, made) = self.out.key()?;
        let request = move || {
            Ok(Request::Certificate {
                kind: RequestKind::KeyUpdate,
                template: Box::new(template.clone()),
                controls: vec![control.clone()],
                key: Some(pair.clone() as _),
            })
        };
        self.out
            .apply(&asker, global, Box::new(request), false, made)
    }
}

impl Out {
    /// Everything that can be known to fail before anybody is asked.
    fn check(&self, has_key: bool) -> Result<(), Failure> {
        if !has_key && self.out_key.is_none() {
            return Err(Failure::Usage(
                "where does the new key go? give --out-key, or --new-key for one that there is"
                    .to_owned(),
            ));
        }
        for path in [
            Some(self.out.as_path()),
            self.out_key.as_deref(),
            self.out_ca.as_deref(),
        ] {
            files::not_there(path)?;
        }
        Ok(())
    }

    /// The key that the certificate is for; and in PKCS #8 when it is new.
    fn key(&self) -> Result<(Arc<KeyPair>, Option<Vec<u8>>), Failure> {
        if let Some(path) = &self.new_key {
            return Ok((Arc::new(files::key(path)?.1), None));
        }
        let kind = self.key_type.unwrap_or(KeyType::P256).kind();
        let failed = |error: homefleet_cmp::crypto::KeyError| Failure::Failed(error.to_string());
        let pkcs8 = KeyPair::generate_pkcs8(kind).map_err(failed)?;
        let pair = KeyPair::from_pkcs8(kind, &pkcs8).map_err(failed)?;
        Ok((Arc::new(pair), Some(pkcs8)))
    }

    /// Asks, and tells what came of it.
    fn apply<'a>(
        &'a self,
        asker: &'a Asker,
        global: &Global,
        request: Box<dyn Fn() -> Result<Request, String> + Send + 'a>,
        central: bool,
        made: Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        // The key is on disk before anybody knows of it.
        if let (Some(pkcs8), Some(path)) = (&made, &self.out_key) {
            files::write(path, key_to_pem(pkcs8).as_bytes())?;
        }
        let mut applying = Applying {
            asker,
            out: self,
            request,
            central,
            tell: asker.teller(),
            written: Vec::new(),
            failure: None,
        };
        let outcome = asker.run(&mut applying);
        let failure = applying.failure.take();
        match outcome {
            Ok(Outcome::Certificate(offer)) => self.report(global, &offer),
            Ok(other) => {
                applying.undo();
                if made.is_some() {
                    // Nobody has a certificate for it.
                    self.out_key.iter().for_each(|path| remove(path));
                }
                Err(failure.unwrap_or_else(|| otherwise(other)))
            }
            // Whether the certificate counts is not known: what was written stays.
            Err(error) => Err(error),
        }
    }

    fn report(&self, global: &Global, offer: &Offer) -> Result<(), Failure> {
        let parts = CertificateParts::read(&offer.certificate)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let shown = x509_cert::Certificate::from_der(&offer.certificate.to_der())
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let body = shown.tbs_certificate();
        let serial: String = parts
            .serial
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let end = OffsetDateTime::from(parts.not_after.to_system_time())
            .format(&Rfc3339)
            .unwrap_or_default();
        let key = self.out_key.as_ref().or(self.new_key.as_ref());
        let changed = offer.status == homefleet_cmp::asn1::Status::GRANTED_WITH_MODS;
        if global.json {
            return output::json(&json!({
                "certificate": self.out,
                "key": key,
                "ca": self.out_ca.as_ref().filter(|_| !offer.ca_pubs.is_empty()),
                "serial": serial,
                "subject": body.subject().to_string(),
                "issuer": body.issuer().to_string(),
                "not_after": end,
                "changed": changed,
                "implicitly_confirmed": offer.implicit,
            }));
        }
        output::line(&format!(
            "{}  serial {serial}, {}, until {end}{}",
            self.out.display(),
            body.subject(),
            if changed {
                ", not just as asked for"
            } else {
                ""
            }
        ))
    }
}

impl Applying<'_> {
    /// Writes everything that came, or nothing.
    fn keep(&mut self, offer: &Offer) -> Result<(), Failure> {
        let key = match (&offer.private_key, self.central) {
            (Some(key), true) => Some(self.open(key, &offer.certificate)?),
            (None, true) => {
                return Err(Failure::Refused(
                    "the CA did not send the key that it was to make".to_owned(),
                ));
            }
            (_, false) => None,
        };
        if let (Some(pkcs8), Some(path)) = (key, &self.out.out_key) {
            files::write(path, key_to_pem(&pkcs8).as_bytes())?;
            self.written.push(path.clone());
        }
        let chain = self.chain(offer);
        let pem = certificates_to_pem(chain.iter().map(Vec::as_slice));
        files::write(&self.out.out, pem.as_bytes())?;
        self.written.push(self.out.out.clone());
        if let Some(path) = self
            .out
            .out_ca
            .as_ref()
            .filter(|_| !offer.ca_pubs.is_empty())
        {
            let cas: Vec<Vec<u8>> = offer.ca_pubs.iter().map(Certificate::to_der).collect();
            let pem = certificates_to_pem(cas.iter().map(Vec::as_slice));
            files::write(path, pem.as_bytes())?;
            self.written.push(path.clone());
        }
        Ok(())
    }

    /// The certificate and what of the rest is between it and a root.
    fn chain(&self, offer: &Offer) -> Vec<Vec<u8>> {
        let mut others = offer.extra_certs.clone();
        others.extend(offer.ca_pubs.iter().cloned());
        let all = der_of(&offer.certificate, &others);
        let mut anchors = self.asker.peers.anchors.clone();
        let pubs = offer.ca_pubs.iter();
        anchors.extend(pubs.filter_map(|ca| homefleet_trust::Anchor::from_der(&ca.to_der()).ok()));
        let time = self.asker.peers.time;
        let found = validate_signer(&all, &anchors, time, Purpose::Messages, &Policy::default());
        let Ok(path) = found else {
            // Who asked with a secret and was told no CA: it is for a person to judge.
            return all.into_iter().take(1).collect();
        };
        let between = &path[..path.len().saturating_sub(1).max(1)];
        let is_between = |der: &Vec<u8>| {
            let one = homefleet_trust::Anchor::from_der(der);
            one.is_ok_and(|one| {
                between
                    .iter()
                    .any(|link| link.fingerprint == one.fingerprint())
            })
        };
        all.into_iter().filter(|der| is_between(der)).collect()
    }

    /// The private key that the CA made.
    fn open(&self, key: &EncryptedKey, certificate: &Certificate) -> Result<Vec<u8>, Failure> {
        let EncryptedKey::EnvelopedData(data) = key else {
            return Err(Failure::Refused(
                "the CA sent the key in the deprecated form EncryptedValue".to_owned(),
            ));
        };
        let opener = match (&self.asker.secret, &self.asker.signing_key) {
            (Some(secret), _) => Opener::Secret(secret, MacPolicy::default()),
            (None, Some(pkcs8)) => match key_pair(pkcs8).map(|pair| pair.kind()) {
                Some(KeyKind::P256) => Opener::P256(pkcs8),
                Some(KeyKind::P384) => Opener::P384(pkcs8),
                Some(KeyKind::Rsa | KeyKind::RsaPss) => Opener::Rsa(pkcs8),
                _ => {
                    return Err(Failure::Usage(
                        "a key can be sent to the holder of an ECDSA or RSA key, or of a secret"
                            .to_owned(),
                    ));
                }
            },
            (None, None) => return Err(Failure::Failed("nobody asked".to_owned())),
        };
        let peers = Believed {
            purpose: Purpose::KeyGeneration,
            ..self.asker.peers.clone()
        };
        let refused =
            |reason: String| Failure::Refused(format!("the key that the CA made: {reason}"));
        let key = key_delivery::open(data, &opener, &peers)
            .map_err(|error| refused(error.to_string()))?;
        let pair = key_pair(key.pkcs8())
            .ok_or_else(|| refused("it is of a kind that is not supported".to_owned()))?;
        match CertificateParts::read(certificate) {
            Ok(parts) if parts.public_key == pair.public_key() => Ok(key.pkcs8().to_vec()),
            _ => Err(refused("it does not belong to the certificate".to_owned())),
        }
    }

    /// Removes what belongs to a certificate that does not count.
    fn undo(&mut self) {
        for path in self.written.drain(..) {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    // It was written a moment ago; if it is gone already, so much the better.
    std::fs::remove_file(path).unwrap_or_default();
}

impl Applicant for Applying<'_> {
    fn request(&mut self) -> Result<Request, String> {
        (self.request)()
    }

    fn offered(&mut self, offer: &Offer) -> Result<(), StatusInfo> {
        self.undo();
        self.keep(offer).map_err(|failure| {
            self.undo();
            let reason = match &failure {
                Failure::Refused(_) => CmpFailure::IncorrectData,
                _ => CmpFailure::SystemFailure,
            };
            let status = StatusInfo::rejection(reason, "the certificate cannot be used");
            self.failure = Some(failure);
            status
        })
    }

    fn progress(&mut self, progress: &Progress) {
        (self.tell)(progress);
    }
}

fn template(subject: Option<&str>, names: &[AltName]) -> Result<CertTemplate, Failure> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{what}: {error}"));
    let subject = subject
        .map(|text| {
            if !text.contains('=') {
                return Ok(Name::common(text));
            }
            let name = x509_cert::name::Name::from_str(text);
            let der = name.and_then(|name| name.to_der());
            der.and_then(|der| Name::from_der(&der))
                .map_err(|error| wrong("--subject", &error))
        })
        .transpose()?;
    let extensions = if names.is_empty() {
        None
    } else {
        Some(extensions(names).map_err(|error| wrong("--san", &error))?)
    };
    Ok(CertTemplate {
        subject,
        extensions,
        ..CertTemplate::default()
    })
}

/// The alternative names of a certificate, for its successor.
fn alternative_names(certificate: &Certificate) -> Option<homefleet_cmp::asn1::Extensions> {
    let certificate = x509_cert::Certificate::from_der(&certificate.to_der()).ok()?;
    let all = certificate.tbs_certificate().extensions()?;
    let names: Vec<_> = all
        .iter()
        .filter(|extension| {
            extension.extn_id == x509_cert::der::oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME
        })
        .cloned()
        .collect();
    if names.is_empty() {
        return None;
    }
    homefleet_cmp::asn1::Extensions::from_der(&names.to_der().ok()?).ok()
}

/// A PKCS #10 request, PEM or DER.
fn csr(path: &Path) -> Result<CertificationRequest, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
    let bytes = files::read(path)?;
    let der = if bytes.starts_with(b"-----") {
        x509_cert::request::CertReq::from_pem(&bytes)
            .and_then(|request| request.to_der())
            .map_err(|error| wrong(&error))?
    } else {
        bytes
    };
    CertificationRequest::from_der(&der).map_err(|error| wrong(&error))
}
