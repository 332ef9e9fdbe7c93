//! The agent's own key and certificate, from the first start on: made here, certified by a CA that speaks CMP, renewed in time.
//!
//! ```text
//! start ──▶ certificate in use? ──no──▶ ir ──┐ (secret, or the manufacturer's certificate)
//!               │ yes                        ├──▶ received ──▶ confirmed ──▶ in use ──▶ connect
//!               │ expired ──▶ kur, else ir ──┘                                 ▲
//!               └──▶ connect ──▶ its time comes ──▶ kur ──▶ … ─────────────────┘ without a restart
//! ```
//!
//! A key that works is kept until its successor is in use. What was begun before a power cut is gone on with: [`keys`] tells how far it
//! had come. A CA that refuses, or is away, is asked again after a while, and the log says why.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use homefleet_cmp::{
    CertificateParts,
    asn1::{Certificate, Info, StatusInfo},
    authority::RequestKind,
    client::{ClientConfig, Outcome},
    crypto::{KeyPair, Secret, Signer},
    protection::Protector,
};
use homefleet_net::{
    cmp::{
        BoxFuture, Client, ClientConfig as TransferConfig, ServerTrust as Believe,
        entity::{key_from_pem, key_pair, key_to_pem},
        roots::successor,
        session::{Backoff, Server, Session, SessionConfig, SessionError, TransferError},
    },
    dtls::TrustVerifier,
};
use homefleet_trust::{Anchor, Policy, Time, anchors_from_pem};
use homefleet_usp::EndpointId;

use crate::{
    config::{Config, EnrolConfig, FirstRequest, ServerTrust},
    provider::time::Clock,
    store::{Store, StoreError},
};

mod apply;
mod fault;
mod follow;
pub mod keys;

pub(crate) use self::apply::is_endpoint;
pub use self::follow::Heard;
pub(crate) use self::follow::TakeLists;
use self::{
    apply::{Applying, Asking, anybody, believed, by_key, by_secret, certificates},
    keys::{Credential, KeyState, Keys},
};

/// The longest rest after a failure.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// How long one transaction may take: somebody may have to approve it.
const WITHIN: Duration = Duration::from_secs(7 * 86_400);

/// How often it is looked whether something is due: clocks are set, machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// How often the CA is asked for CA certificates.
const UPDATE_EVERY: Duration = Duration::from_secs(86_400);

/// Within what time after the start they are asked for first, each device at a time of its own.
const FIRST_QUESTION: Duration = Duration::from_secs(120);

/// Roots that are asked about at once.
const MAX_ASKED: usize = 32;

/// The longest a file with a secret may be, bytes.
const MAX_SECRET: u64 = 4096;

/// There is no certificate, and why.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file cannot be used.
    #[error("`{key}`: {path}: {reason}", path = .path.display())]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The state cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA says no.
    #[error("the CA refuses: {0}")]
    Refused(StatusInfo),
    /// What the CA issued is not what was asked for; it was told so.
    #[error("what the CA issued is declined: {0}")]
    Declined(StatusInfo),
    /// No answer, or none that counts.
    #[error("enrolment: {0}")]
    Session(#[from] SessionError),
    /// Something on this device.
    #[error("enrolment: {0}")]
    Here(String),
}

/// Who the agent is, as its store says.
#[derive(Clone)]
pub struct Identity {
    /// Its certificate and those that help to verify it, PEM, leaf first.
    pub chain: String,
    /// Its key, PEM.
    pub key: String,
    /// The CA certificates that came with it.
    pub anchors: Vec<Anchor>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("anchors", &self.anchors.len())
            .finish_non_exhaustive()
    }
}

/// What a first request is protected with, and reference and secret that its answers are believed by.
type First = (Protector, Option<(Vec<u8>, Secret)>);

/// Takes over what is new: who the agent is from now on.
pub(crate) type Apply = Box<dyn Fn(Identity) -> BoxFuture<'static, ()> + Send + Sync>;

/// The agent's own key and certificate.
#[derive(Debug)]
pub struct Enrolment {
    config: EnrolConfig,
    endpoint_id: EndpointId,
    /// The CAs of `trust.ca` and `enrol.ca`.
    files: Vec<Anchor>,
    clock: Clock,
    keys: Mutex<Keys>,
}

impl Enrolment {
    /// That of a configuration with [`Config::enrol`]; nothing for one without.
    ///
    /// # Errors
    /// When a file of CAs cannot be used, or the state not be read.
    pub fn open(config: &Config, clock: &Clock) -> Result<Option<Self>, EnrolError> {
        let Some(enrol) = &config.enrol else {
            return Ok(None);
        };
        Ok(Some(Self {
            files: configured(config, enrol)?,
            keys: Mutex::new(Keys::new(Store::open(&config.data_dir)?)),
            config: enrol.clone(),
            endpoint_id: config.endpoint_id.clone(),
            clock: clock.clone(),
        }))
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who the agent is; nothing while it has no certificate.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, EnrolError> {
        let mut keys = self.keys();
        let Some(credential) = keys.in_use()? else {
            return Ok(None);
        };
        let anchors = keys.anchors()?;
        Ok(self
            .usable(&credential)
            .then(|| identity(&credential, anchors)))
    }

    /// A certificate that is for this Endpoint.
    fn usable(&self, credential: &Credential) -> bool {
        let leaf = credential.chain.as_deref().map(certificates);
        let leaf = leaf.and_then(|chain| chain.ok()?.first().map(Certificate::to_der));
        leaf.is_some_and(|leaf| is_endpoint(&leaf, &self.endpoint_id).is_ok())
    }

    /// Resolves when there is a certificate to connect with, however long that takes. One that has expired is replaced first.
    ///
    /// # Errors
    /// Only what nobody but a person can mend: the state, the files of the configuration.
    pub async fn ensure(&self) -> Result<Identity, EnrolError> {
        let mut failures = 0;
        loop {
            if let Some(identity) = self.identity()?
                && self.keys().coming()?.is_none()
                && self.expired(&identity) != Some(true)
            {
                return Ok(identity);
            }
            match self.advance().await {
                Ok(()) => failures = 0,
                Err(error @ (EnrolError::Store(_) | EnrolError::File { .. })) => return Err(error),
                Err(error) => {
                    failures += 1;
                    // What begins before the old one has ended can wait for it.
                    if let Some(identity) = self.identity()?
                        && self.expired(&identity) != Some(true)
                    {
                        tracing::warn!(%error, "no new certificate yet: the agent connects with the one it has");
                        return Ok(identity);
                    }
                    self.rest(&error, failures).await;
                }
            }
        }
    }

    /// Renews the certificate in time, and asks for new CA certificates, for as long as the agent runs; `apply` is told what is new.
    pub(crate) async fn keep_fresh(self: Arc<Self>, apply: Apply) {
        let mut failures = 0;
        // One that slept may have missed a root: it asks soon.
        let mut updated = SystemTime::UNIX_EPOCH;
        loop {
            let rest = self.until_due();
            if !rest.is_zero() {
                tokio::time::sleep(rest.min(self.until_asked(updated))).await;
                let asked = SystemTime::now().duration_since(updated);
                if self.config.update_cas && asked.map_or(true, |asked| asked >= UPDATE_EVERY) {
                    updated = SystemTime::now();
                    match self.update_roots().await {
                        Ok(Some(identity)) => apply(identity).await,
                        Ok(None) => {}
                        Err(error) => tracing::warn!(%error, "no news about CA certificates"),
                    }
                }
                continue;
            }
            match self.advance().await {
                Ok(()) => {
                    failures = 0;
                    match self.identity() {
                        Ok(Some(identity)) => apply(identity).await,
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "the state"),
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.rest(&error, failures).await;
                }
            }
        }
    }

    /// How long until the CA is asked for CA certificates again, or something else is looked at.
    fn until_asked(&self, updated: SystemTime) -> Duration {
        if updated == SystemTime::UNIX_EPOCH && self.config.update_cas {
            let mut random = [0];
            // Without random numbers all devices come at once: a pity, and no more.
            getrandom::fill(&mut random).ok();
            return self.config.retry + FIRST_QUESTION / 256 * u32::from(random[0]);
        }
        LOOK_EVERY
    }

    async fn rest(&self, error: &EnrolError, failures: u32) {
        let mut random = [0];
        // Without random numbers all devices come at once: a pity, and no more.
        getrandom::fill(&mut random).ok();
        let backoff = Backoff {
            first: self.config.retry,
            longest: LONGEST_REST,
            attempts: u32::MAX,
        };
        let rest = backoff.rest(failures, random[0]);
        tracing::error!(%error, again_in = ?rest, failures, "no certificate from the CA");
        tokio::time::sleep(rest).await;
    }

    /// How long the certificate in use is good for until it is to be renewed; zero when it is, or when something was begun.
    fn until_due(&self) -> Duration {
        let (coming, in_use) = {
            let mut keys = self.keys();
            (keys.coming(), keys.in_use())
        };
        if !matches!(coming, Ok(None)) {
            return Duration::ZERO;
        }
        let Ok(Some(credential)) = in_use else {
            return Duration::ZERO;
        };
        let Some(dates) = dates(&credential) else {
            return Duration::ZERO;
        };
        // Without the time nothing is known; it comes.
        if !self.clock.is_accurate() {
            return LOOK_EVERY;
        }
        let due = renewal(dates, self.config.renew_after);
        due.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// Whether the certificate has ended; nothing is known without the time.
    fn expired(&self, identity: &Identity) -> Option<bool> {
        let (_, end, _) = chain_dates(&identity.chain)?;
        self.clock.is_accurate().then(|| end < SystemTime::now())
    }

    /// One try to get to a certificate in use, from wherever it was left.
    async fn advance(&self) -> Result<(), EnrolError> {
        let coming = self.keys().coming()?;
        let mut credential = match coming {
            Some(credential) => credential,
            None => {
                let key = KeyPair::generate_pkcs8(self.config.key_type.kind())
                    .map_err(|error| EnrolError::Here(error.to_string()))?;
                let credential = self.keys().make(key)?;
                fault::point("made");
                credential
            }
        };
        if credential.state == KeyState::Received && credential.confirmation.is_some() {
            self.confirm_again(&mut credential).await?;
        }
        if credential.state != KeyState::Confirmed {
            credential = self.ask(credential).await?;
            self.keys().confirmed(&mut credential)?;
        }
        fault::point("confirmed");
        self.keys().put_in_use(&mut credential)?;
        fault::point("in use");
        if let Some((_, end, serial)) = dates(&credential) {
            tracing::info!(serial, until = %crate::time::date_time(end), "the agent's certificate is in use");
        }
        Ok(())
    }

    /// Asks for a certificate for this key.
    async fn ask(&self, credential: Credential) -> Result<Credential, EnrolError> {
        let in_use = self.keys().in_use()?;
        let old = in_use.filter(|old| self.usable(old) && self.updatable(old));
        if let Some(old) = old {
            match self.ask_as(credential.clone(), Some(&old)).await {
                // A CA that does not take the old one may take what the first request was protected with.
                Err(EnrolError::Refused(status)) if self.ended(&old) => {
                    tracing::warn!(%status, "the CA does not update the certificate that has expired: enrolling anew");
                }
                other => return other,
            }
        }
        self.ask_as(credential, None).await
    }

    /// Whether a kur may be protected by this one.
    fn updatable(&self, credential: &Credential) -> bool {
        let Some((_, end, _)) = dates(credential) else {
            return false;
        };
        !self.clock.is_accurate() || SystemTime::now() <= end + self.config.grace
    }

    fn ended(&self, credential: &Credential) -> bool {
        let end = dates(credential).map(|(_, end, _)| end);
        self.clock.is_accurate() && end.is_some_and(|end| end < SystemTime::now())
    }

    /// kur for the old one, ir without.
    async fn ask_as(
        &self,
        credential: Credential,
        old: Option<&Credential>,
    ) -> Result<Credential, EnrolError> {
        let key = key_pair(&credential.key).ok_or_else(|| here("the stored key cannot be used"))?;
        let (protector, secret) = match old {
            Some(old) => (self.signer_of(old)?, None),
            None => self.first()?,
        };
        let old = match old.and_then(|old| old.chain.as_deref()) {
            Some(chain) => certificates(chain).map_err(here)?.into_iter().next(),
            None => None,
        };
        let anchors = self.anchors()?;
        let kind = match &old {
            Some(_) => RequestKind::KeyUpdate,
            None => RequestKind::Initialization,
        };
        tracing::info!(
            url = %self.config.url,
            request = if old.is_some() { "kur" } else { "ir" },
            "asking the CA for a certificate"
        );
        let time = self.clock.time();
        let mut applying = Applying {
            keys: &self.keys,
            endpoint_id: &self.endpoint_id,
            kind,
            old,
            signer: Arc::new(key),
            credential,
            anchors: anchors.clone(),
            time,
        };
        let server = self.server(&anchors)?;
        let config = self.session(protector)?;
        let peers = believed(secret, anchors, time);
        let session = Session {
            transfer: &server,
            peers: &peers,
            config: &config,
        };
        match session.run(&mut applying).await {
            Ok(Outcome::Certificate(_)) => {
                fault::point("answered the confirmation");
                Ok(applying.credential)
            }
            Ok(Outcome::Declined(status)) => Err(EnrolError::Declined(status)),
            Ok(Outcome::Rejected(status)) => Err(EnrolError::Refused(status)),
            Ok(_) => Err(here("the CA answered something else than was asked")),
            Err(SessionError::ConfirmationUnclear(_)) => {
                let mut credential = applying.credential;
                if !self.is_known(&credential).await? {
                    self.keys().requested(&mut credential)?;
                    return Err(here("the CA does not know the certificate it has issued"));
                }
                Ok(credential)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What was left unconfirmed is confirmed; or, when that is too late, to be asked for again.
    async fn confirm_again(&self, credential: &mut Credential) -> Result<(), EnrolError> {
        let Some(confirmation) = credential.confirmation.clone() else {
            return Ok(());
        };
        let anchors = self.anchors()?;
        let server = self.server(&anchors)?;
        // It is protected already; who answers has to be believed as then.
        let (protector, secret) = match self.first() {
            Ok(first) => first,
            Err(_) => (self.signer_of(credential)?, None),
        };
        let config = self.session(protector)?;
        let peers = believed(secret, anchors, self.clock.time());
        let session = Session {
            transfer: &server,
            peers: &peers,
            config: &config,
        };
        tracing::info!("confirming the certificate that came before the agent was stopped");
        let known = match session
            .confirm_again(&confirmation, &mut Asking(Vec::new()))
            .await
        {
            Ok(()) => true,
            Err(SessionError::ConfirmationUnclear(_) | SessionError::Unacceptable { .. }) => {
                self.is_known(credential).await?
            }
            Err(error) => return Err(error.into()),
        };
        if known {
            self.keys().confirmed(credential)?;
        } else {
            tracing::warn!(
                "the certificate that came before is not good any more: asking for another"
            );
            self.keys().requested(credential)?;
        }
        Ok(())
    }

    /// Whether the CA answers who asks with this certificate.
    async fn is_known(&self, credential: &Credential) -> Result<bool, EnrolError> {
        let mut anchors = self.anchors()?;
        if let Some(cas) = &credential.cas {
            anchors.extend(anchors_from_pem(cas).unwrap_or_default());
        }
        let protector = self.signer_of(credential)?;
        match self.inquire(protector, anchors, Info::CaCerts(None)).await {
            Ok(_) => Ok(true),
            Err(
                EnrolError::Refused(_) | EnrolError::Session(SessionError::Unacceptable { .. }),
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A general message, and its answer.
    async fn inquire(
        &self,
        protector: Protector,
        anchors: Vec<Anchor>,
        info: Info,
    ) -> Result<Vec<Info>, EnrolError> {
        let server = self.server(&anchors)?;
        self.inquire_at(&server, protector, anchors, info).await
    }

    async fn inquire_at(
        &self,
        server: &Server,
        protector: Protector,
        anchors: Vec<Anchor>,
        info: Info,
    ) -> Result<Vec<Info>, EnrolError> {
        let config = self.session(protector)?;
        let peers = believed(None, anchors, self.clock.time());
        let session = Session {
            transfer: server,
            peers: &peers,
            config: &config,
        };
        match session.run(&mut Asking(vec![info])).await? {
            Outcome::Info(infos) => Ok(infos),
            Outcome::Rejected(status) => Err(EnrolError::Refused(status)),
            _ => Err(here("the CA answered something else than was asked")),
        }
    }

    /// Asks for the successor of each root that is trusted, and for that one's; who the agent is when there is one.
    pub async fn update_roots(&self) -> Result<Option<Identity>, EnrolError> {
        let (in_use, mut received) = {
            let mut keys = self.keys();
            (keys.in_use()?, keys.anchors()?)
        };
        let Some(in_use) = in_use else {
            return Ok(None);
        };
        let mut changed = false;
        let mut asked = 0;
        let mut roots = self.anchors()?;
        // Those that come are asked about, too.
        while let Some(old) = roots.get(asked).cloned().filter(|_| asked < MAX_ASKED) {
            asked += 1;
            let certificate = Certificate::from_der(old.der()).map_err(here)?;
            let question = Info::RootCaCert(Some(certificate));
            for info in self.ask_about(&in_use, question).await? {
                let Info::RootCaKeyUpdate(Some(update)) = info else {
                    continue;
                };
                match successor(&old, &update, self.clock.time(), false) {
                    Ok(new) if roots.iter().any(|known| known.der() == new.der()) => {}
                    Ok(new) => {
                        tracing::info!(subject = new.subject(), "a root is followed by another");
                        roots.push(new.clone());
                        received.push(new);
                        self.keys().put_anchors(&received)?;
                        changed = true;
                    }
                    Err(why) => tracing::warn!(
                        subject = old.subject(),
                        %why,
                        "what is said to follow this root does not prove it"
                    ),
                }
            }
        }
        if changed { self.identity() } else { Ok(None) }
    }

    /// One question. The server's own certificate may lead to the root that is asked about: the protection of the answer is what counts then.
    async fn ask_about(
        &self,
        in_use: &Credential,
        question: Info,
    ) -> Result<Vec<Info>, EnrolError> {
        let anchors = self.anchors()?;
        let server = self.server(&anchors)?;
        let first = self
            .inquire_at(
                &server,
                self.signer_of(in_use)?,
                anchors.clone(),
                question.clone(),
            )
            .await;
        match first {
            Err(EnrolError::Session(
                error @ SessionError::Transfer(TransferError::Refused { .. }),
            )) if self.config.url.scheme.is_secure() => {
                tracing::info!(%error, "asking for news all the same");
                let server = Server {
                    client: Client::new(TransferConfig::new(Believe::FromCmp)).map_err(here)?,
                    ..server
                };
                self.inquire_at(&server, self.signer_of(in_use)?, anchors, question)
                    .await
            }
            other => other,
        }
    }

    /// What the first request is protected with, and the secret that its answers are believed by.
    fn first(&self) -> Result<First, EnrolError> {
        match &self.config.first {
            FirstRequest::Secret { reference, file } => {
                let secret = read_secret(file)?;
                let protector = by_secret(reference, &secret).map_err(here)?;
                Ok((protector, Some((reference.clone().into_bytes(), secret))))
            }
            FirstRequest::Certificate { certificate, key } => {
                Ok((manufacturer(certificate, key)?, None))
            }
        }
    }

    /// Protection by the key of a certificate of our own.
    fn signer_of(&self, credential: &Credential) -> Result<Protector, EnrolError> {
        let key = key_pair(&credential.key).ok_or_else(|| here("the stored key cannot be used"))?;
        let key: Arc<dyn Signer> = Arc::new(key);
        by_key(key, credential.chain.as_deref().unwrap_or_default()).map_err(here)
    }

    /// All CAs that are trusted: those of the files, and those received.
    fn anchors(&self) -> Result<Vec<Anchor>, EnrolError> {
        let mut anchors = self.keys().anchors()?;
        anchors.extend(self.files.iter().cloned());
        Ok(anchors)
    }

    fn server(&self, anchors: &[Anchor]) -> Result<Server, EnrolError> {
        let clock = self.clock.clone();
        let trust = if anchors.is_empty() && self.config.trust == ServerTrust::FromCmp {
            Believe::FromCmp
        } else {
            let policy = Policy::default();
            let verifier = TrustVerifier::new(anchors.to_vec(), policy, move || clock.time());
            Believe::Verifier(Arc::new(verifier))
        };
        let client = Client::new(TransferConfig::new(trust)).map_err(here)?;
        Ok(Server {
            client,
            url: self.config.url.clone(),
            operation: None,
        })
    }

    fn session(&self, protector: Protector) -> Result<SessionConfig, EnrolError> {
        let clock = self.clock.clone();
        let recipient = anybody().map_err(here)?;
        let client = ClientConfig {
            profile: self.config.profile.clone(),
            ..ClientConfig::new(protector, recipient)
        };
        Ok(SessionConfig {
            within: WITHIN,
            backoff: Backoff {
                first: self.config.retry.min(Backoff::default().first),
                ..Backoff::default()
            },
            time: Arc::new(move || match clock.time() {
                Time::Accurate(now) => Some(now),
                Time::Unknown => None,
            }),
            ..SessionConfig::new(client)
        })
    }
}

/// Who the agent is by what a store holds, and nothing is made when it holds nothing: for those who only look.
///
/// # Errors
/// When the state cannot be read.
pub fn look(config: &Config) -> Result<Option<Identity>, EnrolError> {
    if !config.data_dir.join("agent.db").exists() {
        return Ok(None);
    }
    match Enrolment::open(config, &Clock::Unknown)? {
        Some(enrolment) => enrolment.identity(),
        None => Ok(None),
    }
}

/// Whether what the first request needs is there, as far as files are concerned.
///
/// # Errors
/// Which file is wrong, and why.
pub fn check(config: &Config) -> Result<(), EnrolError> {
    let Some(enrol) = &config.enrol else {
        return Ok(());
    };
    configured(config, enrol)?;
    match &enrol.first {
        FirstRequest::Secret { file, .. } => read_secret(file).map(drop),
        FirstRequest::Certificate { certificate, key } => manufacturer(certificate, key).map(drop),
    }
}

/// The CAs of `trust.ca` and `enrol.ca`.
fn configured(config: &Config, enrol: &EnrolConfig) -> Result<Vec<Anchor>, EnrolError> {
    let mut anchors = Vec::new();
    for (key, path) in [("trust.ca", &config.trust.ca), ("enrol.ca", &enrol.ca)] {
        if let Some(path) = path {
            let wrong = |reason: String| wrong(key, path, reason);
            let found = anchors_from_pem(&text(key, path)?);
            let found = found.map_err(|error| wrong(error.to_string()))?;
            if found.is_empty() {
                return Err(wrong("no certificate in it".into()));
            }
            anchors.extend(found);
        }
    }
    Ok(anchors)
}

fn manufacturer(certificate: &Path, key: &Path) -> Result<Protector, EnrolError> {
    let pkcs8 = key_from_pem(&text("enrol.key", key)?).ok_or_else(|| {
        wrong(
            "enrol.key",
            key,
            "no PKCS #8 private key, PEM, in it".into(),
        )
    })?;
    let pair = key_pair(&pkcs8).ok_or_else(|| {
        wrong(
            "enrol.key",
            key,
            "a key of a kind that is not supported".into(),
        )
    })?;
    let chain = text("enrol.certificate", certificate)?;
    let unusable = |reason: String| wrong("enrol.certificate", certificate, reason);
    let leaf = certificates(&chain).map_err(unusable)?;
    let leaf = leaf.first().map(CertificateParts::read);
    match leaf {
        Some(Ok(parts)) if parts.public_key == pair.public_key() => {}
        Some(Ok(_)) => {
            return Err(unusable(
                "the key of `enrol.key` does not belong to it".into(),
            ));
        }
        _ => return Err(unusable("no certificate in it that can be read".into())),
    }
    by_key(Arc::new(pair), &chain).map_err(unusable)
}

/// The secret in a file that nobody else can read.
fn read_secret(path: &Path) -> Result<Secret, EnrolError> {
    use std::os::unix::fs::PermissionsExt as _;

    let key = "enrol.secret_file";
    let failed = |error: std::io::Error| wrong(key, path, error.to_string());
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let reason =
            "others than its owner can read it: chmod 600, or somebody else enrols as this device";
        return Err(wrong(key, path, reason.into()));
    }
    if metadata.len() > MAX_SECRET {
        return Err(wrong(key, path, "too long for a secret".into()));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let end = bytes.trim_ascii_end().len();
    match &bytes[..end] {
        [] => Err(wrong(key, path, "it is empty".into())),
        secret => Ok(Secret::new(secret)),
    }
}

fn text(key: &'static str, path: &Path) -> Result<String, EnrolError> {
    std::fs::read_to_string(path).map_err(|error| wrong(key, path, error.to_string()))
}

fn wrong(key: &'static str, path: &Path, reason: String) -> EnrolError {
    EnrolError::File {
        key,
        path: path.to_owned(),
        reason,
    }
}

fn here(reason: impl ToString) -> EnrolError {
    EnrolError::Here(reason.to_string())
}

fn identity(credential: &Credential, anchors: Vec<Anchor>) -> Identity {
    Identity {
        chain: credential.chain.clone().unwrap_or_default(),
        key: key_to_pem(&credential.key),
        anchors,
    }
}

/// From when, until when, and which: its serial number, hexadecimal.
type Dates = (SystemTime, SystemTime, String);

fn dates(credential: &Credential) -> Option<Dates> {
    chain_dates(credential.chain.as_deref()?)
}

fn chain_dates(chain: &str) -> Option<Dates> {
    let parts = CertificateParts::read(certificates(chain).ok()?.first()?).ok()?;
    let serial = parts.serial.iter().map(|byte| format!("{byte:02X}"));
    Some((
        parts.not_before.to_system_time(),
        parts.not_after.to_system_time(),
        serial.collect(),
    ))
}

/// When a certificate is to be renewed: after so many percent of its lifetime, and up to a twentieth of it earlier, so that devices that
/// were enrolled together do not come back together. The same for the same certificate, whenever it is asked.
fn renewal((from, until, serial): Dates, after: u8) -> SystemTime {
    let lifetime = until.duration_since(from).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    serial.hash(&mut hasher);
    let early = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    let early = lifetime / 20 / 1000 * early;
    from + (lifetime / 100 * u32::from(after)).saturating_sub(early)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn renewal_is_after_its_part_of_the_lifetime_and_differs_among_certificates() {
        let from = SystemTime::UNIX_EPOCH;
        let day = Duration::from_secs(86_400);
        let at = |serial: u32| {
            let due = renewal((from, from + 100 * day, serial.to_string()), 66);
            due.duration_since(from).unwrap()
        };
        let all: Vec<Duration> = (0..100).map(at).collect();
        assert!(all.iter().all(|due| *due > 61 * day && *due <= 66 * day));
        assert_eq!(all, (0..100).map(at).collect::<Vec<_>>());
        let spread = *all.iter().max().unwrap() - *all.iter().min().unwrap();
        assert!(spread > 3 * day, "{spread:?}");
    }
}
