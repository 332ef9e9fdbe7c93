//! Bounds and credentials of the association table.

use std::fmt;
use std::io;
use std::time::Duration;

use boring::pkey::{PKey, Private};
use boring::x509::X509;

/// Longest time of a configuration, a hundred years: adding it to an instant cannot overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Longest first interval between two flights: that between later ones, too (RFC 6347 §4.2.4.1).
const SLOWEST: Duration = Duration::from_secs(60);

/// Limits and timers of a [`Sessions`](super::Sessions) table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Largest UDP payload sent, in bytes; handshake flights are fragmented to it (RFC 6347 §4.1.1.1, RFC 9147 §4.4).
    /// Default 1232: IPv6's minimum MTU of 1280 less 48 bytes of IPv6 and UDP header.
    pub mtu: usize,
    /// Associations of any kind held at once; at the bound new peers are refused. Default 100,000.
    pub max_sessions: usize,
    /// Handshakes begun by peers and not yet authenticated; at the bound the oldest is dropped. Default 1024.
    pub max_half_open: usize,
    /// Established associations whose peers showed the same certificate; at the bound the one not heard from for the
    /// longest is closed, so that nobody fills the table from many ports. A certificate that several Agents share by design
    /// (R-SEC.11, R-SEC.12) has no such bound, only [`Config::max_sessions`]. Default 16.
    pub max_per_certificate: usize,
    /// What a client that comes to us has to show. Default [`ClientCertificate::Required`].
    pub client_certificate: ClientCertificate,
    /// Established associations with peers that the [`Verifier`](super::Verifier) took without judging them
    /// ([`Basis::NotVerified`](homefleet_trust::Basis::NotVerified)); at the bound the one not heard from for the longest is closed.
    /// Default 4096.
    pub max_not_verified: usize,
    /// New inbound handshakes per address prefix.
    pub prefix_budget: Budget,
    /// Leading bits of an IPv4 address that make its prefix, 0 to 32. Default 24.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that make its prefix, 0 to 128. Default 56, what one subscriber is given.
    pub ipv6_prefix: u8,
    /// New inbound handshakes from everywhere. Each costs a key exchange and a signature before anything is known of
    /// the peer: this is what a flood can take of the processor.
    pub global_budget: Budget,
    /// Beyond the global budget: handshakes of clients that were turned away for it and send the same ClientHello
    /// again, as clients do and a flood from forged addresses does not.
    pub patient_budget: Budget,
    /// ClientHellos turned away for the global budget that are remembered, 8 bytes each. Default 65,536.
    pub max_turned_away: usize,
    /// Prefixes whose budget is remembered. Default 4096.
    pub max_prefixes: usize,
    /// Half-open handshakes from which on an unvalidated address is sent at most three times what it sent
    /// (the rule of RFC 9000 §8.1). Default 128.
    pub pressure: usize,
    /// Times its own bytes that an unvalidated address is sent at most while there is no pressure: a flight with a
    /// certificate chain is several times a ClientHello, and waiting for another one would cost every honest peer a
    /// second. Default 12.
    pub amplification: u32,
    /// How often a flight is repeated to an unvalidated address that says nothing meanwhile. Default 2.
    pub unanswered_repeats: u32,
    /// Time without traffic after which an association is closed. Default 1 hour.
    pub idle_timeout: Duration,
    /// Time without a message after which the association of a peer is closed that is accepted on nothing but first use
    /// (R-SEC.6). Default 30 s.
    pub first_use_idle: Duration,
    /// Time a handshake may take in all, waiting for a decision included. Default 60 s.
    pub handshake_timeout: Duration,
    /// Handshakes held while their decision waits for evidence; at the bound the oldest is ended, and the oldest of those
    /// that showed the same certificate when they are more than a quarter of the bound. Associations that are open already do not
    /// count. Default 256.
    pub max_held: usize,
    /// First retransmission interval of a handshake flight (RFC 6347 §4.2.4.1: 1 s). Default 1 s.
    pub initial_retransmit: Duration,
    /// Versions offered and accepted. Default both.
    pub versions: Versions,
    /// Whether tickets are issued, kept and offered. A resumed association is verified again from the chain of
    /// the first one. Default true.
    pub resumption: bool,
    /// Tickets of servers kept for resumption. Default 1024.
    pub max_tickets: usize,
    /// Bytes of a peer's certificate chain that are reassembled. Default 65,536.
    pub max_chain_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: 1232,
            max_sessions: 100_000,
            max_half_open: 1024,
            max_per_certificate: 16,
            client_certificate: ClientCertificate::Required,
            max_not_verified: 4096,
            prefix_budget: Budget {
                burst: 1000,
                per_second: 200,
            },
            global_budget: Budget {
                burst: 4000,
                per_second: 2000,
            },
            patient_budget: Budget {
                burst: 500,
                per_second: 500,
            },
            max_turned_away: 65_536,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            max_prefixes: 4096,
            pressure: 128,
            amplification: 12,
            unanswered_repeats: 2,
            idle_timeout: Duration::from_secs(3600),
            first_use_idle: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(60),
            max_held: 256,
            initial_retransmit: Duration::from_secs(1),
            versions: Versions::Both,
            resumption: true,
            max_tickets: 1024,
            max_chain_bytes: 65_536,
        }
    }
}

impl Config {
    /// Cuts times that could not be reckoned with, such as [`Duration::MAX`] for "never".
    pub(super) fn with_bounded_times(self) -> Self {
        Self {
            idle_timeout: self.idle_timeout.min(LONGEST),
            first_use_idle: self.first_use_idle.min(LONGEST),
            handshake_timeout: self.handshake_timeout.min(LONGEST),
            initial_retransmit: self.initial_retransmit.min(SLOWEST),
            ..self
        }
    }
}

/// What a client that comes to us has to show. Whatever it shows, the [`Verifier`](super::Verifier) decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Without a certificate the handshake fails (R-MTP.1).
    Required,
    /// It is asked for one and need not have one: the verifier is then asked about an empty chain.
    Requested,
}

/// A token bucket: `burst` at once, refilled at `per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most handshakes at once.
    pub burst: u32,
    /// Handshakes added per second.
    pub per_second: u32,
}

/// DTLS versions offered and accepted. Version 1.0 never is (RFC 7925 §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3; the newest both sides have is chosen.
    Both,
    /// RFC 6347 only.
    Dtls12,
    /// RFC 9147 only.
    Dtls13,
}

/// Version an association ended up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 6347.
    Dtls12,
    /// RFC 9147.
    Dtls13,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dtls12 => "DTLS 1.2",
            Self::Dtls13 => "DTLS 1.3",
        })
    }
}

/// Our certificate, its intermediates and the private key (R-COAP.16). The default is to have none: a client then shows nothing when it is
/// asked, and a server can serve nobody.
#[derive(Clone, Default)]
pub struct Credentials {
    chain: Vec<X509>,
    key: Option<PKey<Private>>,
}

impl Credentials {
    /// From a PEM chain, leaf first, and the PEM key (PKCS#8, SEC1 or PKCS#1) of the leaf.
    ///
    /// # Errors
    /// When either text holds nothing usable, or the key does not belong to the leaf.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CredentialsError> {
        let chain = X509::stack_from_pem(chain.as_bytes())
            .map_err(|error| CredentialsError::Chain(error.to_string()))?;
        let leaf = chain.first().ok_or(CredentialsError::Empty)?;
        let key = PKey::private_key_from_pem(key.as_bytes())
            .map_err(|error| CredentialsError::Key(error.to_string()))?;
        let public = leaf
            .public_key()
            .map_err(|error| CredentialsError::Chain(error.to_string()))?;
        if !public.public_eq(&key) {
            return Err(CredentialsError::Mismatch);
        }
        let key = Some(key);
        Ok(Self { chain, key })
    }

    /// The certificates, leaf first.
    pub(super) fn chain(&self) -> &[X509] {
        &self.chain
    }

    /// `None`: there are none.
    pub(super) fn key(&self) -> Option<&PKey<Private>> {
        self.key.as_ref()
    }

    /// The certificates as DER, leaf first.
    pub(crate) fn chain_der(&self) -> io::Result<Vec<Vec<u8>>> {
        let der = self.chain.iter().map(|certificate| certificate.to_der());
        der.collect::<Result<_, _>>().map_err(io::Error::other)
    }

    /// The key as PKCS#8; `None`: there are no credentials. Whoever takes it wipes it.
    pub(crate) fn key_pkcs8(&self) -> io::Result<Option<Vec<u8>>> {
        let key = self.key.as_ref().map(|key| key.private_key_to_der_pkcs8());
        key.transpose().map_err(io::Error::other)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Credentials")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Why a chain and a key are no credentials. Never quotes key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The chain is not PEM certificates.
    #[error("the certificate chain is not PEM certificates: {0}")]
    Chain(String),
    /// The chain has no certificate.
    #[error("the certificate chain holds no certificate")]
    Empty,
    /// The key is not a PEM private key.
    #[error("the private key is not PEM (PKCS#8, SEC1 or PKCS#1): {0}")]
    Key(String),
    /// The key is another one's.
    #[error("the private key does not belong to the first certificate of the chain")]
    Mismatch,
}
