//! `Device.LocalAgent.Certificate.`: the CAs of the configuration file, and certificates that came later.

use std::collections::BTreeMap;

use homefleet_model::{error::PutError, path::ObjectPath, value::list_items};

use super::{CertificateInfo, Engine, EngineError, boot::fact, commands::Output};
use crate::{
    controllers,
    local_agent::{table, text},
    provider::{Now, OperateError},
    request::{Caller, Invocation},
    role::CREDENTIALS,
};

/// Path of the certificate table.
pub(super) const TABLE: &str = "Device.LocalAgent.Certificate.";

/// Certificates that are kept, those of the configuration file included.
const MAX_CERTIFICATES: usize = 64;

impl Engine {
    /// Enters the CAs of the configuration file, and finds again what is behind the other rows.
    pub(super) fn enter_certificates(&mut self) -> Result<(), EngineError> {
        for row in self.device.tree.rows(&table(TABLE)) {
            let der = self.store.fact(&format!("{}{row}", fact::CERTIFICATE))?;
            let der = der.and_then(|text| unhex(&text));
            match der.and_then(|der| CertificateInfo::from_der(&der)) {
                Some(info) => {
                    self.certificates.insert(row, info);
                }
                None => {
                    self.device.tree.remove_instance(&row);
                }
            }
        }
        let cas = self.settings.certificates.clone();
        let brokers = self.settings.brokers.clone();
        let cas = cas.into_iter().map(|certificate| (certificate, false));
        let brokers = brokers.into_iter().map(|certificate| (certificate, true));
        for (certificate, is_broker) in cas.chain(brokers) {
            let known = self.row_of(&certificate.sha256);
            let keys = [
                ("SerialNumber", certificate.serial.as_str()),
                ("Issuer", certificate.issuer.as_str()),
            ];
            let row = match known {
                Some(row) => Ok(row),
                None => {
                    self.make_way_for(&certificate);
                    self.device.tree.ensure_row(&table(TABLE), &keys)
                }
            };
            match row {
                Ok(row) => {
                    if is_broker {
                        self.file_brokers.push(row.clone());
                    } else {
                        self.file_cas.push(row.clone());
                    }
                    self.certificates.insert(row, certificate);
                }
                Err(error) => {
                    tracing::warn!(%error, issuer = certificate.issuer, "certificate not shown")
                }
            }
        }
        Ok(())
    }

    /// From now on these are the CAs of the configuration and of the agent's enrolment: those that are gone lose their rows, and what
    /// was trusted for them is trusted no longer.
    pub fn handle_anchors(&mut self, now: Now, certificates: Vec<CertificateInfo>) {
        self.settings.certificates = certificates;
        let kept = |info: &CertificateInfo| {
            let mut all = self.settings.certificates.iter();
            all.any(|certificate| certificate.sha256 == info.sha256)
        };
        let rows = self.file_cas.clone();
        let (kept, gone): (Vec<ObjectPath>, Vec<ObjectPath>) = rows
            .into_iter()
            .partition(|row| self.certificates.get(row).is_some_and(kept));
        self.file_cas = kept;
        for row in gone {
            tracing::info!(certificate = %row, "this CA is not trusted any more");
            self.device.tree.remove_instance(&row);
            self.certificates.remove(&row);
        }
        for certificate in self.settings.certificates.clone() {
            let row = match self.row_of(&certificate.sha256) {
                Some(row) if self.file_cas.contains(&row) => continue,
                Some(row) => Ok(row),
                None => {
                    self.make_way_for(&certificate);
                    let keys = [
                        ("SerialNumber", certificate.serial.as_str()),
                        ("Issuer", certificate.issuer.as_str()),
                    ];
                    self.device.tree.ensure_row(&table(TABLE), &keys)
                }
            };
            match row {
                Ok(row) => {
                    self.file_cas.push(row.clone());
                    self.certificates.insert(row, certificate);
                }
                Err(error) => {
                    tracing::warn!(%error, issuer = certificate.issuer, "certificate not shown")
                }
            }
        }
        if let Err(error) = self.enter_credentials() {
            tracing::error!(%error, "the tree refused a trusted CA");
        }
        self.settle(now, None);
    }

    /// Forgets another certificate that bears the serial number and issuer of one of the configuration file: with its row
    /// it would be left the trust that the file's has, once that is gone.
    fn make_way_for(&mut self, certificate: &CertificateInfo) {
        let mut all = self.certificates.iter();
        let same = all.find(|(_, info)| {
            info.serial == certificate.serial && info.issuer == certificate.issuer
        });
        let Some(row) = same.map(|(row, _)| row.clone()) else {
            return;
        };
        if self.file_cas.contains(&row) || self.file_brokers.contains(&row) {
            tracing::warn!(
                issuer = certificate.issuer,
                "two CAs have one serial number: the later one counts"
            );
            return;
        }
        tracing::warn!(certificate = %row, "forgot it: a trusted CA bears its serial number and issuer");
        self.forget_certificate(&row);
    }

    /// The row of the certificate with this SHA-256.
    pub(super) fn row_of(&self, sha256: &[u8; 32]) -> Option<ObjectPath> {
        let mut all = self.certificates.iter();
        all.find(|(_, info)| info.sha256 == *sha256)
            .map(|(row, _)| row.clone())
    }

    /// Keeps a certificate; the row it has then, or had already.
    pub(super) fn keep_certificate(
        &mut self,
        info: CertificateInfo,
        alias: Option<&str>,
    ) -> Result<ObjectPath, String> {
        if let Some(row) = self.row_of(&info.sha256) {
            return Ok(row);
        }
        let tree = &mut self.device.tree;
        let rows = tree.rows(&table(TABLE));
        if rows.len() >= MAX_CERTIFICATES {
            return Err(format!("there are {MAX_CERTIFICATES} certificates already"));
        }
        let taken = |row: &ObjectPath| {
            (text(tree, row, "SerialNumber") == info.serial
                && text(tree, row, "Issuer") == info.issuer)
                || alias.is_some_and(|alias| text(tree, row, "Alias") == alias)
        };
        if rows.iter().any(taken) {
            return Err(
                "there is one with this serial number and issuer, or alias, already".into(),
            );
        }
        let row = self
            .enter_certificate(&info, alias)
            .map_err(|error| error.to_string())?;
        let key = format!("{}{row}", fact::CERTIFICATE);
        self.batch.facts.push((key, hex(&info.der)));
        self.certificates.insert(row.clone(), info);
        Ok(row)
    }

    fn enter_certificate(
        &mut self,
        info: &CertificateInfo,
        alias: Option<&str>,
    ) -> Result<ObjectPath, PutError> {
        let tree = &mut self.device.tree;
        let row = tree.create_persistent(&table(TABLE))?;
        let entered = tree
            .put_persistent(&row.param("SerialNumber"), &info.serial)
            .and_then(|_| tree.put_persistent(&row.param("Issuer"), &info.issuer))
            .and_then(|_| match alias {
                Some(alias) => tree.put_persistent(&row.param("Alias"), alias),
                None => Ok(true),
            });
        if let Err(error) = entered {
            tree.remove_instance(&row);
            return Err(error);
        }
        Ok(row)
    }

    /// Forgets a certificate; references to it become empty with its row.
    pub(super) fn forget_certificate(&mut self, row: &ObjectPath) {
        self.device.tree.remove_instance(row);
        self.certificates.remove(row);
        let key = format!("{}{row}", fact::CERTIFICATE);
        self.batch.facts.push((key, String::new()));
    }

    /// Whether anything refers to this certificate.
    pub(super) fn is_referred_to(&self, certificate: &ObjectPath) -> bool {
        let tree = &self.device.tree;
        let wanted = certificate.to_reference();
        [CREDENTIALS, controllers::TABLE].iter().any(|path| {
            tree.rows(&table(path)).iter().any(|row| {
                list_items(text(tree, row, "Credential")).any(|reference| reference == wanted)
            })
        })
    }

    pub(super) fn add_certificate(&mut self, call: &Invocation) -> Output {
        self.take_certificate(call).map(|_| BTreeMap::new())
    }

    /// Only the Controller itself says which certificate is its own (Device:2.16, AddMyCertificate()).
    pub(super) fn add_my_certificate(&mut self, caller: &Caller, call: &Invocation) -> Output {
        if caller.row != call.object {
            return Err(OperateError {
                code: 7006,
                message: "a Controller adds certificates of its own alone".into(),
            });
        }
        let row = self.take_certificate(call)?;
        self.refer(&call.object, &row)
            .map_err(|error| OperateError::failed(error.to_string()))?;
        Ok(BTreeMap::new())
    }

    /// Adds a certificate to those of a Controller.
    pub(super) fn refer(
        &mut self,
        controller: &ObjectPath,
        certificate: &ObjectPath,
    ) -> Result<(), PutError> {
        let tree = &mut self.device.tree;
        let mut all: Vec<&str> = list_items(text(tree, controller, "Credential")).collect();
        let reference = certificate.to_reference();
        if !all.contains(&reference) {
            all.push(reference);
        }
        let all = all.join(",");
        tree.put_persistent(&controller.param("Credential"), &all)
            .map(drop)
    }

    /// The certificate in the arguments of a command, as a new row.
    fn take_certificate(&mut self, call: &Invocation) -> Result<ObjectPath, OperateError> {
        let pem = call
            .args
            .get("Certificate")
            .ok_or_else(|| OperateError::arguments("Certificate is missing"))?;
        let chain = homefleet_trust::chain_from_pem(pem)
            .map_err(|error| OperateError::arguments(error.to_string()))?;
        let [der] = chain.as_slice() else {
            return Err(OperateError::arguments(
                "Certificate holds one certificate, as PEM",
            ));
        };
        let info = CertificateInfo::from_der(der)
            .ok_or_else(|| OperateError::arguments("Certificate cannot be read"))?;
        if self.row_of(&info.sha256).is_some() {
            return Err(OperateError::failed("this certificate is there already"));
        }
        self.keep_certificate(info, call.args.get("Alias").map(String::as_str))
            .map_err(OperateError::failed)
    }

    pub(super) fn delete_certificate(&mut self, call: &Invocation) -> Output {
        if self.file_cas.contains(&call.object) || self.file_brokers.contains(&call.object) {
            return Err(OperateError::failed(
                "it stands in the agent's configuration file; disable it instead",
            ));
        }
        self.forget_certificate(&call.object);
        Ok(BTreeMap::new())
    }

    pub(super) fn fingerprint(&mut self, call: &Invocation) -> Output {
        match call.args.get("FingerprintAlgorithm").map(String::as_str) {
            Some("SHA-256") => {}
            Some(other) => {
                return Err(OperateError::arguments(format!(
                    "FingerprintAlgorithm {other}: only SHA-256 is supported"
                )));
            }
            None => return Err(OperateError::arguments("FingerprintAlgorithm is missing")),
        }
        let info = self
            .certificates
            .get(&call.object)
            .ok_or_else(|| OperateError::failed("no such certificate"))?;
        let fingerprint = hex(&info.sha256);
        Ok(BTreeMap::from([("Fingerprint".to_owned(), fingerprint)]))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|value| u8::try_from(value).ok())
        })
        .collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0)?;
    let (pairs, _) = digits.as_chunks::<2>();
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
