//! `Device.Security.Certificate.`: the certificate that the agent shows others, whoever issued it.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use homefleet_model::{
    path::ParamPath,
    schema::{Object, Param},
    tree::Tree,
    value::{ListType, Type, date_time, list},
};
use x509_cert::{
    Certificate,
    der::{Decode as _, oid::db::DB},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::{
    Now, Options, Provider, ProviderError,
    fill::{Fill, clean, keep_rows, object, row},
};

/// Texts of the table have room for so many characters.
const MAX_TEXT: usize = 256;

static NAMES: ListType = ListType {
    max: Some(256),
    ..ListType::of(Type::STRING)
};

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.Security.",
        params: &[Param::ro("CertificateNumberOfEntries", Type::UnsignedInt)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Security.Certificate.{i}.",
        unique_keys: &[&["SerialNumber", "Issuer"]],
        params: &[
            Param::rw("Enable", Type::Boolean),
            Param::ro("LastModif", Type::DateTime),
            Param::ro("SerialNumber", Type::string(64)),
            Param::ro("Issuer", Type::string(256)),
            Param::ro("NotBefore", Type::DateTime),
            Param::ro("NotAfter", Type::DateTime),
            Param::ro("Subject", Type::string(256)),
            Param::ro("SubjectAlt", Type::List(&NAMES)),
            Param::ro("SignatureAlgorithm", Type::string(256)),
        ],
        ..Object::EMPTY
    },
];

/// The certificate that the agent shows others, DER, and since when. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Own(Arc<RwLock<Option<Since>>>);

/// A certificate, DER, and since when it is shown.
type Since = (Vec<u8>, SystemTime);

impl Own {
    /// It is this one.
    pub fn of(der: Option<&Vec<u8>>) -> Self {
        let own = Self::default();
        own.set(der);
        own
    }

    /// From now on it is this one.
    pub fn set(&self, der: Option<&Vec<u8>>) {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *own = der.map(|der| (der.clone(), SystemTime::now()));
    }

    fn now(&self) -> Option<Since> {
        let own = self.0.read().unwrap_or_else(PoisonError::into_inner);
        own.clone()
    }
}

pub(super) struct Security {
    own: Own,
}

impl Security {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            own: options.own.clone(),
        }
    }
}

impl Provider for Security {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.Security."]
    }

    fn apply(&mut self, _: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        if path.name() == "Enable" && value != "true" {
            let reason = "without its own certificate the agent reaches nobody";
            return Err(ProviderError::Refused(reason.to_owned()));
        }
        Ok(())
    }

    fn refresh(&mut self, tree: &mut Tree, _: Now) -> Result<(), ProviderError> {
        let table = object("Device.Security.Certificate.")?;
        let mut kept = BTreeSet::new();
        if let Some((der, since)) = self.own.now()
            && let Ok(certificate) = Certificate::from_der(&der)
        {
            let body = certificate.tbs_certificate();
            let serial = body.serial_number().as_bytes().iter();
            let serial: String = serial.map(|byte| format!("{byte:02X}")).collect();
            let issuer = clean(&body.issuer().to_string(), MAX_TEXT);
            let keys = [
                ("SerialNumber", serial.as_str()),
                ("Issuer", issuer.as_str()),
            ];
            let entry = row(tree, &table, &keys)?;
            let validity = body.validity();
            let algorithm = certificate.signature_algorithm().oid;
            Fill::new(tree, &entry)
                .put("Enable", true)?
                .put("LastModif", date_time(since))?
                .put("NotBefore", date_time(validity.not_before.to_system_time()))?
                .put("NotAfter", date_time(validity.not_after.to_system_time()))?
                .text("Subject", &body.subject().to_string(), MAX_TEXT)?
                .put("SubjectAlt", alternative_names(&certificate))?
                .text(
                    "SignatureAlgorithm",
                    DB.by_oid(&algorithm)
                        .map_or_else(|| algorithm.to_string(), str::to_owned)
                        .as_str(),
                    MAX_TEXT,
                )?;
            kept.insert(entry);
        }
        keep_rows(tree, &table, &kept);
        Ok(())
    }
}

/// As many of the names as there is room for.
fn alternative_names(certificate: &Certificate) -> String {
    let extension = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>();
    let Ok(Some((_, names))) = extension else {
        return String::new();
    };
    let mut shown: Vec<String> = names
        .0
        .iter()
        .filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(text)
            | GeneralName::DnsName(text)
            | GeneralName::Rfc822Name(text) => Some(clean(text.as_str(), MAX_TEXT)),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
            _ => None,
        })
        .collect();
    while list(&shown).len() > MAX_TEXT {
        shown.pop();
    }
    list(&shown)
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    v4.or(v6).ok()
}
