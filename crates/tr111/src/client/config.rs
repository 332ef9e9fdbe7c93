//! What the operator sets, and what a device maker may.

use std::{fmt, net::SocketAddr, time::Duration};

/// The parameters of `ManagementServer.` (TR-111 Part 2 Table 6), and bounds of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// STUNServerAddress and STUNServerPort, resolved; without them the ACS's host and port 3478 (§2.2.1.1).
    pub server: SocketAddr,
    /// Address and port on which UDP Connection Requests are listened for, as this host sees them.
    pub local: SocketAddr,
    /// STUNUsername; empty for none.
    pub username: String,
    /// STUNPassword; without one nothing is ever sent with MESSAGE-INTEGRITY.
    pub password: Vec<u8>,
    /// STUNMinimumKeepAlivePeriod.
    pub minimum: Duration,
    /// STUNMaximumKeepAlivePeriod; `None` for -1.
    pub maximum: Option<Duration>,
    /// Longest silence that is tried when the operator set no maximum.
    pub longest: Duration,
    /// The period where the timeout cannot be found out, because the server ignores RESPONSE-ADDRESS; held between minimum and maximum.
    pub fallback: Duration,
    /// In the monitoring phase, every how many refreshes the binding is tested first (§2.2.1.2).
    pub monitor_every: u32,
    /// How exactly the timeout is found out.
    pub resolution: Duration,
}

impl ClientConfig {
    /// No credentials, a period between 30 s and 5 min.
    pub fn new(server: SocketAddr, local: SocketAddr) -> Self {
        Self {
            server,
            local,
            username: String::new(),
            password: Vec::new(),
            minimum: Duration::from_secs(30),
            maximum: Some(Duration::from_secs(300)),
            longest: Duration::from_secs(900),
            fallback: Duration::from_secs(30),
            monitor_every: 10,
            resolution: Duration::from_secs(1),
        }
    }

    /// Whether a 401 can be answered.
    pub(super) fn has_credentials(&self) -> bool {
        !self.username.is_empty() && !self.password.is_empty()
    }

    /// A period within the operator's limits.
    pub(super) fn held(&self, period: Duration) -> Duration {
        let maximum = self.maximum.unwrap_or(self.longest);
        period
            .max(self.minimum)
            .min(maximum.max(SHORTEST))
            .max(SHORTEST)
    }
}

/// Whatever is configured, requests are at least this far apart.
const SHORTEST: Duration = Duration::from_secs(1);

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("server", &self.server)
            .field("local", &self.local)
            .field("username", &self.username)
            .field("minimum", &self.minimum)
            .field("maximum", &self.maximum)
            .finish_non_exhaustive()
    }
}
