//! The demo's own certificate authority: ECDSA P-256, keys readable by their owner only.
//!
//! What runs on this side before there is a server has its certificate from here: the server itself, and brokers. The server then is the
//! CA under the same name and key, and devices ask it for theirs.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use homefleet_server::pki;
use homefleet_trust::{Connection, Context, PeerIdentity, Policy, Time};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// How long the authority's own certificate is valid.
const CA_LIFETIME: Duration = Duration::days(3650);
/// How long the certificates it issues are valid.
const LIFETIME: Duration = Duration::days(730);
/// A certificate with less left is issued anew.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Clocks differ: certificates are valid from a little before they are made.
const BACKDATE: Duration = Duration::hours(1);

/// Why certificates could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The server cannot be the CA.
    #[error("cannot make the server the CA: {0}")]
    Ca(String),
}

/// Iterations of the derivation of the key that the CA's key is kept under: its passphrase is random, and lies beside it.
const ITERATIONS: u32 = 1_000;

/// A certificate authority in a directory: `ca.pem` and `ca.key`.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key: Vec<u8>,
    /// PEM file of its certificate: what both sides trust.
    pub certificate: PathBuf,
}

/// Files of one issued certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of its private key (mode 0600).
    pub key: PathBuf,
}

impl Authority {
    /// The authority kept in `dir`, made when there is none.
    ///
    /// # Errors
    /// [`PkiError`] when a file cannot be read or written, or is damaged.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let certificate = dir.join("ca.pem");
        let key_file = dir.join("ca.key");
        if key_file.exists() && certificate.exists() {
            let key = KeyPair::from_pem(&read(&key_file)?)?;
            let der = key.serialize_der();
            // Everything an issued certificate takes from its issuer is fixed here or follows from the key.
            let issuer = Issuer::new(ca_params(), key);
            return Ok(Self {
                issuer,
                key: der,
                certificate,
            });
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params();
        let pem = params.self_signed(&key)?.pem();
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&certificate, &pem, 0o644)?;
        Ok(Self {
            key: key.serialize_der(),
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// The same authority as the server's CA: its directory, and the file with the passphrase that its key is kept under.
    ///
    /// # Errors
    /// [`PkiError`] when a file cannot be read or written.
    pub fn for_server(&self, dir: &Path) -> Result<(PathBuf, PathBuf), PkiError> {
        let (directory, passphrase_file) = (dir.join("pki"), dir.join("pki.passphrase"));
        if directory.exists() && passphrase_file.exists() {
            return Ok((directory, passphrase_file));
        }
        let passphrase = random()?;
        write(&passphrase_file, &passphrase, 0o600)?;
        let import = pki::Import {
            directory: directory.clone(),
            chain: self.certificate.clone(),
            key: pki::ImportedKey::Pkcs8(self.key.clone().into()),
            passphrase: passphrase.into(),
            iterations: Some(ITERATIONS),
        };
        pki::import(&import).map_err(|error| PkiError::Ca(error.to_string()))?;
        Ok((directory, passphrase_file))
    }

    /// The certificate of a USP Endpoint in `dir` as `NAME.pem` and `NAME.key`: kept while it is good,
    /// issued anew otherwise. The first subjectAltName is the Endpoint ID as URN (R-SEC.0a); `hosts` follow.
    ///
    /// # Errors
    /// [`PkiError`] when a file cannot be read or written, or a name cannot be put into a certificate.
    pub fn endpoint(
        &self,
        dir: &Path,
        name: &str,
        endpoint_id: &str,
        hosts: &[&str],
    ) -> Result<Issued, PkiError> {
        let files = Issued {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        if files.key.exists() && self.is_good(&files.certificate, endpoint_id) {
            return Ok(files);
        }
        let (pem, key) = self.make(endpoint_id, hosts)?;
        write(&files.key, &key, 0o600)?;
        write(&files.certificate, &pem, 0o644)?;
        Ok(files)
    }

    /// A new certificate of a USP Endpoint and its key, as PEM, which nobody keeps.
    pub(crate) fn make(
        &self,
        endpoint_id: &str,
        hosts: &[&str],
    ) -> Result<(String, String), PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = endpoint_params(endpoint_id, hosts)?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The certificate of a host that is no Endpoint, such as a broker, likewise.
    ///
    /// # Errors
    /// [`PkiError`] when a file cannot be read or written, or a name cannot be put into a certificate.
    pub fn host(&self, dir: &Path, name: &str, hosts: &[&str]) -> Result<Issued, PkiError> {
        let files = Issued {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        let is_good = |host: &&str| {
            let connection = Connection::Initiated {
                host,
                endpoint_id: None,
            };
            self.judged(&files.certificate, connection).is_some()
        };
        if files.key.exists() && hosts.iter().all(is_good) {
            return Ok(files);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let pem = host_params(name, hosts)?
            .signed_by(&key, &self.issuer)?
            .pem();
        write(&files.key, &key.serialize_pem(), 0o600)?;
        write(&files.certificate, &pem, 0o644)?;
        Ok(files)
    }

    /// Whether the certificate in the file would be accepted for this Endpoint ID, now and for some time.
    fn is_good(&self, certificate: &Path, endpoint_id: &str) -> bool {
        self.judged(certificate, Connection::Accepted)
            .is_some_and(|peer| peer.is_endpoint(endpoint_id))
    }

    /// Who has the certificate in the file, if it would be accepted now and for some time.
    fn judged(&self, certificate: &Path, connection: Connection<'_>) -> Option<PeerIdentity> {
        let chain = homefleet_trust::chain_from_pem(&read(certificate).ok()?).ok()?;
        let anchors = homefleet_trust::anchors_from_pem(&read(&self.certificate).ok()?).ok()?;
        let soon = OffsetDateTime::now_utc() + RENEW_BEFORE;
        let policy = Policy::default();
        let context = Context::new(
            &anchors,
            Time::Accurate(SystemTime::from(soon)),
            connection,
            &policy,
        );
        let decision = homefleet_trust::decide(&chain, &context);
        decision.is_established().then_some(decision.peer).flatten()
    }
}

/// A text that nobody guesses: the end of a key that is used for nothing.
pub(crate) fn random() -> Result<String, PkiError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_der();
    let seed = &key[key.len().saturating_sub(32)..];
    Ok(seed.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Homefleet demo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_LIFETIME);
    params
}

fn endpoint_params(endpoint_id: &str, hosts: &[&str]) -> Result<CertificateParams, PkiError> {
    let mut params = host_params(endpoint_id, hosts)?;
    // First, because agents in the field look at the first name only.
    let urn = format!("urn:bbf:usp:id:{endpoint_id}");
    let urn = SanType::URI(urn.as_str().try_into()?);
    params.subject_alt_names.insert(0, urn);
    Ok(params)
}

fn host_params(common_name: &str, hosts: &[&str]) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    for host in hosts {
        params.subject_alt_names.push(match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*host).try_into()?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A USP Endpoint is client and server on the same certificate.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, LIFETIME);
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Homefleet demo");
    name.push(DnType::CommonName, common_name);
    name
}

fn valid_for(params: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })
}

/// Writes a whole file or none of it: never a key that others can read, not even for a moment.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let written = match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .and_then(|()| fs::rename(&temporary, path)),
    };
    written.map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        let issued = authority
            .endpoint(dir.path(), "agent", "os::012345-1", &[])
            .unwrap();
        assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
        assert_eq!(mode(&issued.key), 0o600);
    }

    #[test]
    fn an_issued_certificate_is_accepted_for_its_endpoint_and_host() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        let issued = authority
            .endpoint(
                dir.path(),
                "server",
                "proto::controller",
                &["127.0.0.1", "localhost"],
            )
            .unwrap();
        let chain = homefleet_trust::chain_from_pem(&read(&issued.certificate).unwrap()).unwrap();
        let anchors =
            homefleet_trust::anchors_from_pem(&read(&authority.certificate).unwrap()).unwrap();
        let policy = Policy::default();
        for host in ["127.0.0.1", "localhost"] {
            let context = Context::new(
                &anchors,
                Time::Accurate(SystemTime::now()),
                Connection::Initiated {
                    host,
                    endpoint_id: None,
                },
                &policy,
            );
            let decision = homefleet_trust::decide(&chain, &context);
            assert!(decision.is_established(), "{host}: {decision:?}");
            let peer = decision.peer.unwrap();
            assert_eq!(peer.endpoint_ids, ["proto::controller"]);
        }
    }

    #[test]
    fn a_good_certificate_is_kept_and_one_for_another_endpoint_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path()).unwrap();
        let issued = first
            .endpoint(dir.path(), "agent", "os::012345-1", &[])
            .unwrap();
        let before = read(&issued.certificate).unwrap();
        let again = Authority::open(dir.path()).unwrap();
        again
            .endpoint(dir.path(), "agent", "os::012345-1", &[])
            .unwrap();
        assert_eq!(read(&issued.certificate).unwrap(), before);
        again
            .endpoint(dir.path(), "agent", "os::012345-2", &[])
            .unwrap();
        assert_ne!(read(&issued.certificate).unwrap(), before);
    }
}
