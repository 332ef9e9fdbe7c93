//! One association of the engine (BoringSSL) over a memory transport, and the contexts they share.
//!
//! Everything that knows the engine is in this file and in `ffi`, so that it can be changed.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use boring::error::ErrorStack;
use boring::ex_data::Index;
use boring::ssl::{
    ErrorCode, NameType, Ssl, SslAlert, SslContext, SslContextBuilder, SslInfoCallbackMode,
    SslInfoCallbackValue, SslMethod, SslRef, SslSession, SslSessionCacheMode, SslStream,
    SslVerifyError, SslVerifyMode, SslVersion,
};
use homefleet_trust::{Decision, Outcome, Wanted};

use super::config::{ClientCertificate, Config, Credentials, Version, Versions};
use super::ffi;
use super::verify::{Purpose, Verifier};

/// Forward-secret AEAD suites of DTLS 1.2 (RFC 7925 §9 recommends forward secrecy; the engine has no CCM_8).
const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
/// No post-quantum groups: a ClientHello of two datagrams is lost on some servers.
const GROUPS: &str = "X25519:P-256:P-384";
/// Plaintext of one record (RFC 6347 §4.1).
const MAX_PLAINTEXT: usize = 16_384;
/// Largest datagram UDP can carry.
const MAX_DATAGRAM: usize = 65_535;

/// The alerts by number (RFC 5246 §7.2, RFC 8446 §6): the engine's type keeps its number to itself.
const ALERTS: &[(u8, SslAlert)] = &[
    (0, SslAlert::CLOSE_NOTIFY),
    (10, SslAlert::UNEXPECTED_MESSAGE),
    (20, SslAlert::BAD_RECORD_MAC),
    (21, SslAlert::DECRYPTION_FAILED),
    (22, SslAlert::RECORD_OVERFLOW),
    (30, SslAlert::DECOMPRESSION_FAILURE),
    (40, SslAlert::HANDSHAKE_FAILURE),
    (41, SslAlert::NO_CERTIFICATE),
    (42, SslAlert::BAD_CERTIFICATE),
    (43, SslAlert::UNSUPPORTED_CERTIFICATE),
    (44, SslAlert::CERTIFICATE_REVOKED),
    (45, SslAlert::CERTIFICATE_EXPIRED),
    (46, SslAlert::CERTIFICATE_UNKNOWN),
    (47, SslAlert::ILLEGAL_PARAMETER),
    (48, SslAlert::UNKNOWN_CA),
    (49, SslAlert::ACCESS_DENIED),
    (50, SslAlert::DECODE_ERROR),
    (51, SslAlert::DECRYPT_ERROR),
    (70, SslAlert::PROTOCOL_VERSION),
    (71, SslAlert::INSUFFICIENT_SECURITY),
    (80, SslAlert::INTERNAL_ERROR),
    (86, SslAlert::INAPPROPRIATE_FALLBACK),
    (90, SslAlert::USER_CANCELLED),
    (100, SslAlert::NO_RENEGOTIATION),
    (109, SslAlert::MISSING_EXTENSION),
    (110, SslAlert::UNSUPPORTED_EXTENSION),
    (112, SslAlert::UNRECOGNIZED_NAME),
    (115, SslAlert::UNKNOWN_PSK_IDENTITY),
    (116, SslAlert::CERTIFICATE_REQUIRED),
    (120, SslAlert::NO_APPLICATION_PROTOCOL),
];

/// "No alert yet" in [`Link`].
const NO_ALERT: u16 = u16::MAX;

fn alert_code(alert: SslAlert) -> u8 {
    ALERTS
        .iter()
        .find(|(_, known)| *known == alert)
        .map_or(80, |(code, _)| *code)
}

fn alert_of(code: u8) -> SslAlert {
    ALERTS
        .iter()
        .find(|(known, _)| *known == code)
        .map_or(SslAlert::CERTIFICATE_UNKNOWN, |(_, alert)| *alert)
}

/// What the engine's callbacks share with the association.
struct Link {
    verifier: Arc<dyn Verifier>,
    purpose: Mutex<Purpose>,
    decision: Mutex<Option<Decision>>,
    /// The purpose changed, so an earlier decision does not count.
    decide_again: AtomicBool,
    alert_sent: AtomicU16,
    alert_received: AtomicU16,
    tickets: Mutex<Vec<SslSession>>,
}

impl Link {
    fn decide(&self, chain: &[Vec<u8>], cached: bool) -> Outcome {
        let decision = {
            let purpose = self.purpose.lock().unwrap_or_else(PoisonError::into_inner);
            self.verifier.verify(chain, purpose.role(), cached)
        };
        let outcome = decision.outcome.clone();
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner) = Some(decision);
        outcome
    }
}

fn link_index() -> Result<Index<Ssl, Arc<Link>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<Link>>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// The engine refused its configuration, or is out of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the DTLS engine refused: {0}")]
pub struct EngineError(pub(super) String);

impl From<ErrorStack> for EngineError {
    fn from(stack: ErrorStack) -> Self {
        Self(stack.to_string())
    }
}

/// Contexts for both roles; sessions are resumed only within one engine.
pub(super) struct Engine {
    client: SslContext,
    server: SslContext,
    initial_retransmit: Duration,
    mtu: u32,
}

impl Engine {
    pub(super) fn new(config: &Config, credentials: &Credentials) -> Result<Self, EngineError> {
        let required = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        let client = Self::context(config, credentials, required)?.build();
        let asked = match config.client_certificate {
            ClientCertificate::Required => required,
            ClientCertificate::Requested => SslVerifyMode::PEER,
        };
        let mut server = Self::context(config, credentials, asked)?;
        server.set_session_id_context(b"homefleet")?;
        Ok(Self {
            client,
            server: server.build(),
            initial_retransmit: config.initial_retransmit,
            mtu: u32::try_from(config.mtu).unwrap_or(u32::MAX),
        })
    }

    fn context(
        config: &Config,
        credentials: &Credentials,
        asked: SslVerifyMode,
    ) -> Result<SslContextBuilder, EngineError> {
        let mut context = SslContextBuilder::new(SslMethod::dtls())?;
        let (oldest, newest) = match config.versions {
            Versions::Both => (SslVersion::DTLS1_2, SslVersion::DTLS1_3),
            Versions::Dtls12 => (SslVersion::DTLS1_2, SslVersion::DTLS1_2),
            Versions::Dtls13 => (SslVersion::DTLS1_3, SslVersion::DTLS1_3),
        };
        context.set_min_proto_version(Some(oldest))?;
        context.set_max_proto_version(Some(newest))?;
        context.set_strict_cipher_list(CIPHERS)?;
        context.set_curves_list(GROUPS)?;
        ffi::use_table_clock(&mut context);
        ffi::set_max_chain_bytes(&mut context, config.max_chain_bytes);
        if config.resumption {
            context.set_session_cache_mode(
                SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL,
            );
            ffi::set_num_tickets(&mut context, 1);
        } else {
            context.set_session_cache_mode(SslSessionCacheMode::OFF);
            context.set_options(boring::ssl::SslOptions::NO_TICKET);
            ffi::set_num_tickets(&mut context, 0);
        }

        let mut chain = credentials.chain().iter();
        if let Some(leaf) = chain.next() {
            context.set_certificate(leaf)?;
        }
        for issuer in chain {
            context.add_extra_chain_cert(issuer.clone())?;
        }
        if let Some(key) = credentials.key() {
            context.set_private_key(key)?;
            context.check_private_key()?;
        }

        let index = link_index()?;
        context.set_custom_verify_callback(asked, move |ssl| {
            let Some(link) = ssl.ex_data(index).cloned() else {
                return Err(SslVerifyError::Invalid(SslAlert::INTERNAL_ERROR));
            };
            match link.decide(&ffi::peer_chain(ssl), false) {
                Outcome::Establish => Ok(()),
                // The engine comes back to this when it is driven next.
                Outcome::Hold(_) => Err(SslVerifyError::Retry),
                Outcome::Terminate(refusal) => {
                    Err(SslVerifyError::Invalid(alert_of(refusal.alert().code())))
                }
            }
        });
        context.set_info_callback(move |ssl, mode, value| {
            let SslInfoCallbackValue::Alert(alert) = value else {
                return;
            };
            let Some(link) = ssl.ex_data(index) else {
                return;
            };
            let code = u16::from(alert_code(alert.alert()));
            if mode == SslInfoCallbackMode::WRITE_ALERT {
                link.alert_sent.store(code, Ordering::Relaxed);
            } else if mode == SslInfoCallbackMode::READ_ALERT {
                link.alert_received.store(code, Ordering::Relaxed);
            }
        });
        context.set_new_session_callback(move |ssl: &mut SslRef, session| {
            if let Some(link) = ssl.ex_data(index) {
                link.tickets
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(session);
            }
        });
        Ok(context)
    }

    fn association(
        &self,
        context: &SslContext,
        verifier: Arc<dyn Verifier>,
        purpose: Purpose,
    ) -> Result<Association, EngineError> {
        let mut ssl = Ssl::new(context)?;
        let link = Arc::new(Link {
            verifier,
            purpose: Mutex::new(purpose),
            decision: Mutex::new(None),
            decide_again: AtomicBool::new(false),
            alert_sent: AtomicU16::new(NO_ALERT),
            alert_received: AtomicU16::new(NO_ALERT),
            tickets: Mutex::new(Vec::new()),
        });
        ssl.set_ex_data(link_index()?, link.clone());
        ssl.set_mtu(self.mtu)?;
        ffi::set_initial_timeout(&mut ssl, self.initial_retransmit);
        Ok(Association {
            stream: SslStream::new(ssl, Wire::default())?,
            link,
            established: false,
        })
    }

    /// A client that has not sent its ClientHello yet.
    pub(super) fn client(
        &self,
        verifier: Arc<dyn Verifier>,
        purpose: Purpose,
        server_name: Option<&str>,
        resume: Option<&SslSession>,
    ) -> Result<Association, EngineError> {
        let mut association = self.association(&self.client, verifier, purpose)?;
        let ssl = association.stream.ssl_mut();
        if let Some(name) = server_name {
            ssl.set_hostname(name)?;
        }
        if let Some(session) = resume {
            // A session that cannot be offered only costs the full handshake.
            let _offered = ffi::resume(ssl, session);
        }
        ffi::set_connect_state(ssl);
        Ok(association)
    }

    /// A server that waits for a ClientHello.
    pub(super) fn server(
        &self,
        verifier: Arc<dyn Verifier>,
        purpose: Purpose,
    ) -> Result<Association, EngineError> {
        let mut association = self.association(&self.server, verifier, purpose)?;
        ffi::set_accept_state(association.stream.ssl_mut());
        Ok(association)
    }
}

/// The memory transport of one association: one datagram in, any number out.
#[derive(Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.take().ok_or(io::ErrorKind::WouldBlock)?;
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a step of the engine led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to tell.
    Continue,
    /// The handshake is done and the peer is verified.
    Established,
    /// The peer said close_notify.
    PeerClosed,
    /// The association is over.
    Failed(EngineFailure),
}

/// What the verifier said when it was asked anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The peer is trusted.
    Trusted,
    /// It cannot be said yet.
    Held,
    /// The peer is refused, and was told.
    Refused,
}

/// Why the engine ended an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EngineFailure {
    /// Our decision, or no certificate at all.
    Refused,
    /// The peer sent this alert.
    Alert(u8),
    /// Anything else, in the engine's words.
    Engine(String),
}

/// One DTLS association.
pub(super) struct Association {
    stream: SslStream<Wire>,
    link: Arc<Link>,
    established: bool,
}

impl Association {
    /// Gives an association under way another purpose; the peer is judged by it before anything is delivered.
    pub(super) fn set_purpose(&mut self, purpose: Purpose) {
        *self
            .link
            .purpose
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = purpose;
        self.link.decide_again.store(true, Ordering::Relaxed);
    }

    /// Sends the first flight of a client.
    pub(super) fn start(&mut self) -> Progress {
        self.advance(&mut Vec::new())
    }

    /// Feeds one datagram; decrypted messages are appended to `messages`.
    pub(super) fn input(&mut self, datagram: &[u8], messages: &mut Vec<Vec<u8>>) -> Progress {
        if datagram.is_empty() || datagram.len() > MAX_DATAGRAM {
            return Progress::Continue;
        }
        self.stream.get_mut().incoming = Some(datagram.to_vec());
        let progress = self.advance(messages);
        self.stream.get_mut().incoming = None;
        progress
    }

    fn advance(&mut self, messages: &mut Vec<Vec<u8>>) -> Progress {
        let mut progress = Progress::Continue;
        // Once established, the engine holds nothing between datagrams: no record in one is longer than it.
        let room = match &self.stream.get_ref().incoming {
            Some(datagram) if self.established => datagram.len(),
            _ => MAX_PLAINTEXT,
        };
        if !self.established {
            if let Err(error) = self.stream.do_handshake() {
                return self.failed(error);
            }
            // A resumed association skips the verify callback: the chain of the first handshake is judged anew, by
            // what is known now. So is a chain that was judged for another purpose. Of a client without a certificate, where it may
            // have none, nobody was asked at all.
            if self.resumed()
                || self.link.decide_again.load(Ordering::Relaxed)
                || !self.is_decided()
                || self.is_held()
            {
                match self.judge(self.is_cached()) {
                    Verdict::Trusted => {}
                    Verdict::Held => return Progress::Continue,
                    Verdict::Refused => return Progress::Failed(EngineFailure::Refused),
                }
            }
            if !self.accepted() {
                ffi::send_fatal_alert(self.stream.ssl_mut(), 80);
                return Progress::Failed(EngineFailure::Refused);
            }
            self.established = true;
            progress = Progress::Established;
        }
        loop {
            let mut message = vec![0; room];
            match self.stream.ssl_read(&mut message) {
                Ok(len) => {
                    message.truncate(len);
                    messages.push(message);
                    // Most datagrams are one record: asking for another costs a buffer and an error.
                    if self.is_drained() {
                        return progress;
                    }
                }
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    return Progress::PeerClosed;
                }
                Err(error) => match self.failed(error) {
                    Progress::Continue => return progress,
                    over => return over,
                },
            }
        }
    }

    /// Whether the datagram was read to its end.
    fn is_drained(&self) -> bool {
        self.stream.get_ref().incoming.is_none() && !ffi::has_pending(self.stream.ssl())
    }

    /// Asks the verifier about the peer's chain anew. A peer that is refused was sent the alert.
    pub(super) fn judge(&mut self, cached: bool) -> Verdict {
        match self
            .link
            .decide(&ffi::peer_chain(self.stream.ssl()), cached)
        {
            Outcome::Establish => Verdict::Trusted,
            Outcome::Hold(_) => Verdict::Held,
            Outcome::Terminate(refusal) => {
                ffi::send_fatal_alert(self.stream.ssl_mut(), refusal.alert().code());
                Verdict::Refused
            }
        }
    }

    /// Goes on with an association that was held, if the verifier lets it by now.
    pub(super) fn resume(&mut self, messages: &mut Vec<Vec<u8>>) -> Progress {
        if !self.established {
            return self.advance(messages);
        }
        match self.judge(false) {
            Verdict::Trusted => Progress::Established,
            Verdict::Held => Progress::Continue,
            Verdict::Refused => Progress::Failed(EngineFailure::Refused),
        }
    }

    /// Ends an association whose decision was waited for in vain.
    pub(super) fn give_up(&mut self) {
        ffi::send_fatal_alert(
            self.stream.ssl_mut(),
            alert_code(SslAlert::CERTIFICATE_UNKNOWN),
        );
    }

    /// Ends a handshake that took too long, so that the peer need not wait for it either.
    pub(super) fn cancel(&mut self) {
        ffi::send_fatal_alert(self.stream.ssl_mut(), alert_code(SslAlert::USER_CANCELLED));
    }

    /// SHA-256 of the certificate that the peer has shown.
    pub(super) fn peer_fingerprint(&self) -> Option<[u8; 32]> {
        let chain = ffi::peer_chain(self.stream.ssl());
        chain.first().map(|leaf| boring::sha::sha256(leaf))
    }

    /// What the decision about the peer waits for.
    pub(super) fn wanted(&self) -> Option<Vec<Wanted>> {
        let decision = self
            .link
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match decision.as_ref()?.outcome.clone() {
            Outcome::Hold(wanted) => Some(wanted),
            Outcome::Establish | Outcome::Terminate(_) => None,
        }
    }

    /// When the decision about the peer is to be made anew.
    pub(super) fn valid_until(&self) -> Option<SystemTime> {
        self.link
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()?
            .valid_until
    }

    /// Whether the decision about the peer waits for something.
    pub(super) fn is_held(&self) -> bool {
        self.link
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|decision| matches!(decision.outcome, Outcome::Hold(_)))
    }

    /// Whether the session that is resumed was accepted for the same purpose. Tickets of other grounds are void, and ours are
    /// kept by purpose: what is left is a peer that came to us once and whom we reach out to now.
    fn is_cached(&self) -> bool {
        let purpose = self
            .link
            .purpose
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.resumed() && self.is_server() == (*purpose == Purpose::Accepted)
    }

    /// The proof that the verifier said yes for this very association.
    fn accepted(&self) -> bool {
        self.link
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|decision| {
                decision.outcome == Outcome::Establish && decision.peer.is_some()
            })
    }

    fn failed(&mut self, error: boring::ssl::Error) -> Progress {
        match error.code() {
            ErrorCode::WANT_READ | ErrorCode::WANT_WRITE | ErrorCode::WANT_CERTIFICATE_VERIFY => {
                Progress::Continue
            }
            _ => {
                let refused = self
                    .link
                    .decision
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .as_ref()
                    .is_some_and(|decision| decision.refusal().is_some());
                if refused {
                    return Progress::Failed(EngineFailure::Refused);
                }
                if let Some(code) = self.alert_received() {
                    return Progress::Failed(EngineFailure::Alert(code));
                }
                let text = error.to_string();
                if text.contains("PEER_DID_NOT_RETURN_A_CERTIFICATE") {
                    // R-MTP.1: decided all the same, so that the refusal carries its reasons.
                    self.link.decide(&[], false);
                    return Progress::Failed(EngineFailure::Refused);
                }
                Progress::Failed(EngineFailure::Engine(text))
            }
        }
    }

    /// Retransmits what is due.
    pub(super) fn handle_timeout(&mut self) -> Progress {
        if ffi::handle_timeout(self.stream.ssl_mut()) {
            Progress::Continue
        } else {
            Progress::Failed(EngineFailure::Engine("gave up retransmitting".to_owned()))
        }
    }

    /// Time until [`Association::handle_timeout`].
    pub(super) fn timeout(&self) -> Option<Duration> {
        ffi::timeout(self.stream.ssl())
    }

    /// Protects one message as one record.
    pub(super) fn write(&mut self, message: &[u8]) -> Result<(), EngineError> {
        match self.stream.ssl_write(message) {
            Ok(_) => Ok(()),
            Err(error) => Err(EngineError(error.to_string())),
        }
    }

    /// Says close_notify.
    pub(super) fn close(&mut self) {
        if self.established {
            // An error means that the association is beyond saying anything.
            let _said = self.stream.shutdown();
        }
    }

    /// Whether the peer's next records have to be protected.
    pub(super) fn reads_protected(&self) -> bool {
        ffi::read_epoch(self.stream.ssl()) > 0
    }

    /// Whether there is something to send.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.stream.get_ref().outgoing.is_empty()
    }

    /// Whether the verifier has been asked about the peer.
    pub(super) fn is_decided(&self) -> bool {
        self.link
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// What the verifier says about the peer if it served another purpose. Nothing changes by asking.
    pub(super) fn would_serve(&self, purpose: &Purpose) -> bool {
        let chain = ffi::peer_chain(self.stream.ssl());
        self.link
            .verifier
            .verify(&chain, purpose.role(), false)
            .is_established()
    }

    /// Datagrams to send, in order.
    pub(super) fn take_outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.stream.get_mut().outgoing)
    }

    /// Tickets received since the last call.
    pub(super) fn take_tickets(&mut self) -> Vec<SslSession> {
        std::mem::take(
            &mut *self
                .link
                .tickets
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(super) fn decision(&self) -> Option<Decision> {
        self.link
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn alert_sent(&self) -> Option<u8> {
        u8::try_from(self.link.alert_sent.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn alert_received(&self) -> Option<u8> {
        u8::try_from(self.link.alert_received.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn resumed(&self) -> bool {
        self.stream.ssl().session_reused()
    }

    pub(super) fn is_server(&self) -> bool {
        self.stream.ssl().is_server()
    }

    pub(super) fn server_name(&self) -> Option<String> {
        self.stream
            .ssl()
            .servername(NameType::HOST_NAME)
            .map(str::to_owned)
    }

    pub(super) fn version(&self) -> Version {
        if self.stream.ssl().version2() == Some(SslVersion::DTLS1_3) {
            Version::Dtls13
        } else {
            Version::Dtls12
        }
    }

    /// The negotiated cipher suite, by its registered name.
    pub(super) fn cipher(&self) -> &'static str {
        self.stream
            .ssl()
            .current_cipher()
            .and_then(|cipher| cipher.standard_name())
            .unwrap_or("unknown")
    }
}
