//! Bounds and timers of TLS.

use std::time::Duration;

use crate::dtls::Budget;

/// Limits and timers of a [`Tls`](super::Tls).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Versions offered and accepted. Default both.
    pub versions: TlsVersions,
    /// Time a handshake may take, without the wait for a decision. Default 20 s.
    pub handshake_timeout: Duration,
    /// Time the decision about a peer may wait for evidence, in a handshake or when it is made anew. Default 60 s.
    pub decision_timeout: Duration,
    /// Handshakes of peers that came to us and are not done; at the bound the oldest is ended. Default 1024.
    pub max_half_open: usize,
    /// Peers held while the decision about them waits for evidence; at the bound the oldest is ended, and the oldest of those
    /// that showed the same certificate when they are more than a quarter of the bound. Connections that are open already do not
    /// count. Default 256.
    pub max_held: usize,
    /// New inbound handshakes per address prefix ([`Tls::accept_from`](super::Tls::accept_from)).
    pub prefix_budget: Budget,
    /// Leading bits of an IPv4 address that make its prefix, 0 to 32. Default 24.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that make its prefix, 0 to 128. Default 56, what one subscriber is given.
    pub ipv6_prefix: u8,
    /// New inbound handshakes from everywhere.
    pub global_budget: Budget,
    /// Prefixes whose budget is remembered. Default 4096.
    pub max_prefixes: usize,
    /// Whether sessions are kept and resumed. A peer that resumes one is judged again from the chain of the first. Default
    /// true.
    pub resumption: bool,
    /// Sessions of peers that came to us that are kept for resumption, some 3 kB each and never more than 20. Default 1024.
    pub max_sessions: usize,
    /// Servers whose sessions are kept for resumption, two each. Default 64.
    pub max_servers: usize,
    /// Time without a byte from a peer accepted on nothing but first use after which it is not trusted any more (R-SEC.6).
    /// Default 30 s.
    pub first_use_idle: Duration,
    /// Whether a peer that came to us may show no certificate: the verifier is then asked about an empty chain, and has to be one that
    /// takes such peers. Sessions are not to be resumed then. Default false (R-MTP.1).
    pub anonymous: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            versions: TlsVersions::Both,
            handshake_timeout: Duration::from_secs(20),
            decision_timeout: Duration::from_secs(60),
            max_half_open: 1024,
            max_held: 256,
            prefix_budget: Budget {
                burst: 1000,
                per_second: 200,
            },
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            global_budget: Budget {
                burst: 4000,
                per_second: 2000,
            },
            max_prefixes: 4096,
            resumption: true,
            max_sessions: 1024,
            max_servers: 64,
            first_use_idle: Duration::from_secs(30),
            anonymous: false,
        }
    }
}

/// TLS versions offered and accepted. Older ones never are (R-MTP.0, RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3; the newest both sides have is chosen.
    Both,
    /// RFC 5246 only.
    Tls12,
    /// RFC 8446 only.
    Tls13,
}
