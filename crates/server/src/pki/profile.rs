//! Profiles: which certificates are issued to whom, what a request may choose, and what it gets instead.

use std::time::Duration;

use der::asn1::ObjectIdentifier;
use homefleet_cmp::asn1::PublicKeyInfo;
use homefleet_cmp::crypto::public_key_bits;
use homefleet_cmp::oid;

use super::error::{IssueError, KeyRefusal};
use super::name::{AltName, SubjectTemplate, TemplateError, Text, Variables};
use super::order::{Authorisation, Order};
use crate::config::PkiProfile;

/// Longest name of a profile.
const MAX_NAME: usize = 64;
/// Most bits of an RSA key: verifying with it is work for whoever asks.
const MAX_RSA_BITS: usize = 4096;
/// Most names in subjectAltName.
const MAX_NAMES: usize = 32;
/// Longest validity.
const MAX_LIFETIME: u64 = 100 * 366 * 86_400;

/// A kind of certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    name: String,
    keys: Vec<KeyClass>,
    min_rsa_bits: usize,
    lifetime: Duration,
    backdate: Duration,
    subject: Option<SubjectTemplate>,
    san: Vec<Text>,
    from_request: Vec<Choice>,
    strict: bool,
    key_usage: u16,
    extended_key_usage: Vec<ObjectIdentifier>,
    who: Vec<Who>,
    renewal_grace: Duration,
    central_keys: bool,
    implicit_confirm: bool,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// ECDSA P-256.
    P256,
    /// ECDSA P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// Whoever knows an enrolment secret.
    Secret,
    /// A device with a certificate of its manufacturer.
    Manufacturer,
    /// Anybody, after an operator approved the request.
    Approval,
    /// The holder of another certificate of this CA.
    Certificate,
    /// The holder of the certificate that is renewed.
    Renewal,
    /// An operator, through the API.
    Operator,
}

/// What a request may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The subject.
    Subject,
    /// The Endpoint ID, where nothing else says which device asks.
    Device,
    /// A shorter validity.
    Lifetime,
    /// More dNSNames.
    Dns,
    /// More rfc822Names.
    Email,
    /// More iPAddresses.
    Ip,
    /// More uniformResourceIdentifiers.
    Uri,
}

/// Why a profile makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The name cannot be a label.
    #[error("a name has 1 to {MAX_NAME} letters, digits, '-', '_' and '.'")]
    Name,
    /// A word that is not known.
    #[error("{key}: `{found}` is not one of {expected}")]
    Word {
        /// The key.
        key: &'static str,
        /// What is there.
        found: String,
        /// What may be there.
        expected: String,
    },
    /// A list is empty that must not be.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A number is out of its range.
    #[error("{key}: found {found}, expected {least} to {most}")]
    Number {
        /// The key.
        key: &'static str,
        /// What is there.
        found: u64,
        /// Least.
        least: u64,
        /// Most.
        most: u64,
    },
    /// A template is none.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// There would be certificates without any name.
    #[error("certificates need a name: give subject or san, or `subject` in from_request")]
    Nameless,
}

impl Profile {
    /// Reads the configuration.
    pub fn new(config: &PkiProfile) -> Result<Self, ProfileError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if config.name.is_empty() || config.name.len() > MAX_NAME || !config.name.chars().all(good)
        {
            return Err(ProfileError::Name);
        }
        within(
            "min_rsa_bits",
            config.min_rsa_bits as u64,
            2048,
            MAX_RSA_BITS as u64,
        )?;
        within("lifetime", config.lifetime, 1, MAX_LIFETIME)?;
        within("backdate", config.backdate, 0, 30 * 86_400)?;
        within("renewal_grace", config.renewal_grace, 0, MAX_LIFETIME)?;
        let from_request = words("from_request", &config.from_request, &CHOICES)?;
        let subject = config
            .subject
            .as_deref()
            .map(SubjectTemplate::parse)
            .transpose()?;
        if subject.is_none() && config.san.is_empty() && !from_request.contains(&Choice::Subject) {
            return Err(ProfileError::Nameless);
        }
        let keys = words("keys", &config.keys, &KEYS)?;
        let who = words("who", &config.who, &WHO)?;
        if keys.is_empty() {
            return Err(ProfileError::Empty("keys"));
        }
        if who.is_empty() {
            return Err(ProfileError::Empty("who"));
        }
        let usages = words("key_usage", &config.key_usage, &KEY_USAGES)?;
        Ok(Self {
            name: config.name.clone(),
            keys,
            min_rsa_bits: config.min_rsa_bits,
            lifetime: Duration::from_secs(config.lifetime),
            backdate: Duration::from_secs(config.backdate),
            subject,
            san: config
                .san
                .iter()
                .map(|san| san_template(san))
                .collect::<Result<_, _>>()?,
            from_request,
            strict: config.strict,
            key_usage: usages.into_iter().fold(0, |all, usage| all | usage),
            extended_key_usage: config
                .extended_key_usage
                .iter()
                .map(|usage| extended_usage(usage))
                .collect::<Result<_, _>>()?,
            who,
            renewal_grace: Duration::from_secs(config.renewal_grace),
            central_keys: config.central_keys,
            implicit_confirm: config.implicit_confirm,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kinds of keys it accepts.
    pub fn keys(&self) -> &[KeyClass] {
        &self.keys
    }

    /// Least bits of an RSA key.
    pub fn min_rsa_bits(&self) -> usize {
        self.min_rsa_bits
    }

    /// Validity of its certificates.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// By how much validity begins before the time of issue.
    pub fn backdate(&self) -> Duration {
        self.backdate
    }

    /// Whether somebody may ask for one.
    pub fn admits(&self, who: Who) -> bool {
        self.who.contains(&who)
    }

    /// Whether a request may choose something.
    pub fn leaves(&self, choice: Choice) -> bool {
        self.from_request.contains(&choice)
    }

    /// How long after its end a certificate can be renewed.
    pub fn renewal_grace(&self) -> Duration {
        self.renewal_grace
    }

    /// Whether the CA may make the private key.
    pub fn central_keys(&self) -> bool {
        self.central_keys
    }

    /// Whether a certificate may be taken as confirmed.
    pub fn implicit_confirm(&self) -> bool {
        self.implicit_confirm
    }

    /// Whether requests that want something else than they get are refused.
    pub fn strict(&self) -> bool {
        self.strict
    }

    /// Named bits of the key usage: digitalSignature is the highest.
    pub fn key_usage(&self) -> u16 {
        self.key_usage
    }

    /// Extended key usage.
    pub fn extended_key_usage(&self) -> &[ObjectIdentifier] {
        &self.extended_key_usage
    }

    /// Whether a key is one that it accepts.
    pub fn check_key(&self, spki: &[u8]) -> Result<(), KeyRefusal> {
        let key = PublicKeyInfo::from_der(spki).map_err(|_| KeyRefusal::Kind)?;
        let (kind, bits) = public_key_bits(&key).ok_or(KeyRefusal::Kind)?;
        let class = match kind {
            oid::P256 => KeyClass::P256,
            oid::P384 => KeyClass::P384,
            oid::ED25519 => KeyClass::Ed25519,
            oid::RSA => KeyClass::Rsa,
            _ => return Err(KeyRefusal::Kind),
        };
        if !self.keys.contains(&class) {
            return Err(KeyRefusal::NotInProfile(class));
        }
        if class == KeyClass::Rsa && !(self.min_rsa_bits..=MAX_RSA_BITS).contains(&bits) {
            return Err(KeyRefusal::Size {
                found: bits,
                least: self.min_rsa_bits,
                most: MAX_RSA_BITS,
            });
        }
        super::key::check_public(class, spki)
    }

    /// Whether the one who asks may.
    pub(super) fn check_who(&self, order: &Order) -> Result<(), IssueError> {
        let who = order.authorisation.who();
        if !self.admits(who) {
            return Err(IssueError::NotAdmitted {
                profile: self.name.clone(),
                who,
            });
        }
        if order.central_key && !self.central_keys {
            return Err(IssueError::CentralKey);
        }
        Ok(())
    }

    /// Subject and names of the certificate, and whether they differ from what was asked for.
    pub(super) fn names(&self, order: &Order) -> Result<Names, IssueError> {
        let requested = &order.requested;
        let mut modified = false;
        let asked_device = requested.san.iter().find_map(AltName::endpoint_id);
        let device = match (&order.device, &asked_device) {
            (Some(known), Some(asked)) if known != asked.as_str() => {
                return Err(IssueError::OtherDevice {
                    asked: asked.as_str().to_owned(),
                    known: known.clone(),
                });
            }
            (Some(known), _) => Some(known.clone()),
            (None, Some(asked)) if self.leaves(Choice::Device) => Some(asked.as_str().to_owned()),
            (None, _) => None,
        };
        let asked_subject = requested.subject.as_ref().filter(|name| !name.is_empty());
        let common_name = asked_subject
            .and_then(|name| name.common_name().ok().flatten())
            .map(|name| name.value().into_owned());
        let variables = Variables::new(device.as_deref(), common_name);

        let subject = match (&self.subject, asked_subject) {
            (_, Some(asked)) if self.leaves(Choice::Subject) => asked.clone(),
            (Some(template), _) => template.fill(&variables)?,
            (None, _) => x509_cert::name::Name::default(),
        };
        if let Some(asked) = asked_subject
            && asked.to_string() != subject.to_string()
        {
            modified = true;
            if self.strict {
                return Err(IssueError::Subject(asked.to_string()));
            }
        }

        let mut san: Vec<AltName> = Vec::new();
        for template in &self.san {
            let name = template.fill(&variables)?.parse()?;
            if !san.contains(&name) {
                san.push(name);
            }
        }
        for name in &requested.san {
            if san.contains(name) {
                continue;
            }
            if self.leaves_name(name) {
                san.push(name.clone());
            } else if self.strict {
                return Err(IssueError::AltName(name.to_string()));
            } else {
                modified = true;
            }
        }
        if san.len() > MAX_NAMES {
            return Err(IssueError::TooManyNames { most: MAX_NAMES });
        }
        if subject.is_empty() && san.is_empty() {
            return Err(IssueError::Nameless);
        }
        Ok(Names {
            subject,
            san,
            device,
            modified,
        })
    }

    fn leaves_name(&self, name: &AltName) -> bool {
        match name {
            AltName::Dns(_) => self.leaves(Choice::Dns),
            AltName::Email(_) => self.leaves(Choice::Email),
            AltName::Ip(_) => self.leaves(Choice::Ip),
            // An Endpoint ID is an identity: it never comes by this way.
            AltName::Uri(uri) => {
                self.leaves(Choice::Uri) && !uri.to_ascii_lowercase().starts_with("urn:bbf:usp:")
            }
            AltName::Other(_) => false,
        }
    }
}

/// What a certificate is called.
pub(super) struct Names {
    pub(super) subject: x509_cert::name::Name,
    pub(super) san: Vec<AltName>,
    pub(super) device: Option<String>,
    pub(super) modified: bool,
}

impl Authorisation {
    /// Which of those who may ask this is.
    pub fn who(&self) -> Who {
        match self {
            Self::Secret { .. } => Who::Secret,
            Self::Manufacturer { .. } => Who::Manufacturer,
            Self::Approval { .. } => Who::Approval,
            Self::Certificate { .. } => Who::Certificate,
            Self::Renewal { .. } => Who::Renewal,
            Self::Operator { .. } => Who::Operator,
        }
    }
}

const KEYS: [(&str, KeyClass); 4] = [
    ("p256", KeyClass::P256),
    ("p384", KeyClass::P384),
    ("ed25519", KeyClass::Ed25519),
    ("rsa", KeyClass::Rsa),
];

const WHO: [(&str, Who); 6] = [
    ("secret", Who::Secret),
    ("manufacturer", Who::Manufacturer),
    ("approval", Who::Approval),
    ("certificate", Who::Certificate),
    ("renewal", Who::Renewal),
    ("operator", Who::Operator),
];

const CHOICES: [(&str, Choice); 7] = [
    ("subject", Choice::Subject),
    ("device", Choice::Device),
    ("lifetime", Choice::Lifetime),
    ("dns", Choice::Dns),
    ("email", Choice::Email),
    ("ip", Choice::Ip),
    ("uri", Choice::Uri),
];

/// keyCertSign and cRLSign are not here: no profile makes a CA.
const KEY_USAGES: [(&str, u16); 5] = [
    ("digital_signature", 0x8000),
    ("non_repudiation", 0x4000),
    ("key_encipherment", 0x2000),
    ("data_encipherment", 0x1000),
    ("key_agreement", 0x0800),
];

const EXTENDED_USAGES: [(&str, &str); 7] = [
    ("server_auth", "1.3.6.1.5.5.7.3.1"),
    ("client_auth", "1.3.6.1.5.5.7.3.2"),
    ("code_signing", "1.3.6.1.5.5.7.3.3"),
    ("email_protection", "1.3.6.1.5.5.7.3.4"),
    ("time_stamping", "1.3.6.1.5.5.7.3.8"),
    ("cmc_ra", "1.3.6.1.5.5.7.3.28"),
    ("cmp_ca_key_generation", "1.3.6.1.5.5.7.3.32"),
];

fn words<T: Copy>(
    key: &'static str,
    found: &[String],
    known: &[(&str, T)],
) -> Result<Vec<T>, ProfileError> {
    found
        .iter()
        .map(|word| {
            let entry = known.iter().find(|(name, _)| name == word);
            entry
                .map(|(_, value)| *value)
                .ok_or_else(|| ProfileError::Word {
                    key,
                    found: word.clone(),
                    expected: known
                        .iter()
                        .map(|(name, _)| *name)
                        .collect::<Vec<_>>()
                        .join(", "),
                })
        })
        .collect()
}

fn extended_usage(text: &str) -> Result<ObjectIdentifier, ProfileError> {
    let known = EXTENDED_USAGES.iter().find(|(name, _)| *name == text);
    let dotted = known.map_or(text, |(_, oid)| oid);
    // Signing OCSP responses is the CA's: whoever had it could call a revoked certificate good.
    let refused = ["1.3.6.1.5.5.7.3.9", "2.5.29.37.0"];
    ObjectIdentifier::new(dotted)
        .ok()
        .filter(|_| !refused.contains(&dotted))
        .ok_or_else(|| ProfileError::Word {
            key: "extended_key_usage",
            found: text.to_owned(),
            expected: format!(
                "{}, or another object identifier than {}",
                EXTENDED_USAGES.map(|(name, _)| name).join(", "),
                refused.join(" and ")
            ),
        })
}

/// A name whose kind is known now and whose variables are filled in later.
fn san_template(text: &str) -> Result<Text, ProfileError> {
    if !["URI:", "DNS:", "IP:", "email:"]
        .iter()
        .any(|kind| text.starts_with(kind))
    {
        return Err(TemplateError::Name(text.to_owned()).into());
    }
    let template = Text::parse(text)?;
    if !text.contains('{') {
        text.parse::<AltName>()?;
    }
    Ok(template)
}

fn within(key: &'static str, found: u64, least: u64, most: u64) -> Result<(), ProfileError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(ProfileError::Number {
        key,
        found,
        least,
        most,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(change: impl FnOnce(&mut PkiProfile)) -> ProfileError {
        let mut config = PkiProfile::device();
        change(&mut config);
        Profile::new(&config).unwrap_err()
    }

    fn word(error: &ProfileError) -> Option<(&'static str, &str)> {
        match error {
            ProfileError::Word { key, found, .. } => Some((key, found)),
            _ => None,
        }
    }

    #[test]
    fn the_built_in_profile_is_for_devices() {
        let device = Profile::new(&PkiProfile::device()).unwrap();
        assert_eq!(device.name(), "device");
        assert!(device.admits(Who::Secret) && device.admits(Who::Renewal));
        assert!(!device.admits(Who::Operator) && !device.admits(Who::Certificate));
        assert!(!device.central_keys() && !device.implicit_confirm() && !device.strict());
        assert_eq!(device.renewal_grace(), Duration::from_secs(30 * 86_400));
    }

    #[test]
    fn words_that_are_not_known_are_refused() {
        let list = |text: &str| vec![text.to_owned()];
        let error = refused(|profile| profile.keys = list("dsa"));
        assert_eq!(word(&error), Some(("keys", "dsa")));
        assert!(
            error.to_string().contains("p256, p384, ed25519, rsa"),
            "{error}"
        );
        let error = refused(|profile| profile.who = list("anybody"));
        assert_eq!(word(&error), Some(("who", "anybody")));
        let error = refused(|profile| profile.from_request = list("key_usage"));
        assert_eq!(word(&error), Some(("from_request", "key_usage")));
        // A profile makes no CA, and no OCSP responder.
        for usage in ["key_cert_sign", "crl_sign"] {
            let error = refused(|profile| profile.key_usage = list(usage));
            assert_eq!(word(&error), Some(("key_usage", usage)));
        }
        for usage in ["1.3.6.1.5.5.7.3.9", "2.5.29.37.0", "ocsp_signing", "1.2.x"] {
            let error = refused(|profile| profile.extended_key_usage = list(usage));
            assert_eq!(word(&error), Some(("extended_key_usage", usage)));
        }
    }

    #[test]
    fn names_numbers_and_templates_that_make_no_sense_are_refused() {
        for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(
                refused(|profile| profile.name = name.to_owned()),
                ProfileError::Name
            );
        }
        let number = |error: ProfileError| match error {
            ProfileError::Number { key, .. } => key,
            other => panic!("{other}"),
        };
        assert_eq!(number(refused(|profile| profile.lifetime = 0)), "lifetime");
        assert_eq!(
            number(refused(|profile| profile.lifetime = u64::MAX)),
            "lifetime"
        );
        assert_eq!(
            number(refused(|profile| profile.backdate = u64::MAX)),
            "backdate"
        );
        assert_eq!(
            number(refused(|profile| profile.renewal_grace = u64::MAX)),
            "renewal_grace"
        );
        assert_eq!(
            number(refused(|profile| profile.min_rsa_bits = 1024)),
            "min_rsa_bits"
        );
        assert_eq!(
            number(refused(|profile| profile.min_rsa_bits = 8192)),
            "min_rsa_bits"
        );
        assert_eq!(
            refused(|profile| profile.keys = Vec::new()),
            ProfileError::Empty("keys")
        );
        assert_eq!(
            refused(|profile| profile.who = Vec::new()),
            ProfileError::Empty("who")
        );
        let nameless = refused(|profile| (profile.subject, profile.san) = (None, Vec::new()));
        assert_eq!(nameless, ProfileError::Nameless);
        for subject in ["nothing", "CN={uid}", ""] {
            let error = refused(|profile| profile.subject = Some(subject.to_owned()));
            assert!(
                matches!(error, ProfileError::Template(_)),
                "{subject}: {error}"
            );
        }
        for san in ["{endpoint_id}", "URI:{uid}", "DNS:a b", "IP:a", "dir:x"] {
            let error = refused(|profile| profile.san = vec![san.to_owned()]);
            assert!(matches!(error, ProfileError::Template(_)), "{san}: {error}");
        }
    }
}
