//! Bringing a session about: over TCP where nothing is in between, over UDP where the device found address translation.
//!
//! ```text
//! NATDetected ──► UDP, from the socket that its Binding Requests came to ──► session? ─► came
//! else        ──► TCP, then UDP where an address is known for it        ──► none:    what was tried, in words
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use homefleet_api::{TaskResult, WakeAttempt, WakeWay};
use homefleet_tr111::connection_request::{ConnectionRequest, authority};
use homefleet_tr111::server::next_timestamp;
use tokio::sync::mpsc;

use super::bootstrap::fresh_password;
use super::stun::Stun;
use super::{Acs, Job, call};
use crate::config::{Learn, split};
use crate::store::{Batch, BindingRecord, CwmpRecord, DeviceRecord, TaskRecord, Write};
use crate::task::queue::Delivery;

/// How long a device may take to come after it took a Connection Request over TCP.
const COMES_WITHIN: Duration = Duration::from_secs(30);
/// Time for a name to be resolved.
const LOOKUP: Duration = Duration::from_secs(5);

/// A session that was brought about, and how.
pub(super) struct Brought {
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) attempts: Vec<WakeAttempt>,
}

/// One way to call a device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// At its ConnectionRequestURL.
    Tcp(String),
    /// Where the STUN server saw it.
    Binding(BindingRecord),
    /// At its UDPConnectionRequestAddress.
    Told(String),
}

impl Acs {
    /// The session that goes on, or one that is brought about.
    ///
    /// # Errors
    /// What was tried.
    pub(super) async fn bring(&self, device: &DeviceRecord) -> Result<Brought, Vec<WakeAttempt>> {
        let mut attempts = Vec::new();
        if let Some(jobs) = self.live(&device.id) {
            return Ok(Brought { jobs, attempts });
        }
        let stun = self.0.stun.get().map(AsRef::as_ref);
        for way in self.ways(device, stun) {
            let (mut attempt, wait) = self.call(device, stun, &way).await;
            if let Some(wait) = wait {
                if let Some(jobs) = self.comes(&device.id, wait).await {
                    attempt.outcome = "the device came".to_owned();
                    self.came(&way);
                    attempts.push(attempt);
                    return Ok(Brought { jobs, attempts });
                }
                attempt.outcome = format!("no session within {} s", wait.as_secs());
            }
            attempts.push(attempt);
        }
        Err(attempts)
    }

    /// Wakes a device because a task says so.
    pub(super) async fn wake(self, device: DeviceRecord, task: TaskRecord) -> Delivery {
        let attempts = match self.bring(&device).await {
            Ok(brought) => brought.attempts,
            Err(attempts) => return Delivery::NotDelivered(in_words(&attempts)),
        };
        let (_, stored) = self.0.core.change(|state, now| {
            let record = state.registry.device(&device.id);
            let cwmp = record.and_then(|record| record.cwmp.as_ref());
            let events = cwmp.map(|cwmp| cwmp.events.clone()).unwrap_or_default();
            let result = TaskResult::Wake { attempts, events };
            state.queue.answered(now, &device.id, &task.id, Ok(result));
            ((), Batch::default())
        });
        match stored.await {
            Ok(_) => Delivery::Taken,
            Err(error) => Delivery::Unclear(error.to_string()),
        }
    }

    /// In which ways a device is called, the most promising first (§2.2.2.2).
    fn ways(&self, device: &DeviceRecord, stun: Option<&Stun>) -> Vec<Way> {
        let Some(cwmp) = &device.cwmp else {
            return Vec::new();
        };
        let tcp = cwmp.connection_request_url.clone().map(Way::Tcp);
        let udp = stun.and_then(|stun| {
            let now = self.0.core.now();
            let binding = stun.binding(now, cwmp).or(cwmp.binding);
            udp_way(cwmp, binding, stun.config.learn)
        });
        let ways = match (behind_nat(cwmp, &udp), udp) {
            (true, Some(udp)) => [Some(udp), None],
            (_, udp) => [tcp, udp],
        };
        ways.into_iter().flatten().collect()
    }

    /// Calls a device one way. Without a time to wait it failed, and the attempt says why.
    async fn call(
        &self,
        device: &DeviceRecord,
        stun: Option<&Stun>,
        way: &Way,
    ) -> (WakeAttempt, Option<Duration>) {
        match (way, stun) {
            (Way::Tcp(url), _) => {
                let called =
                    call::call(device, self.call_login(device), &self.0.policy.reach).await;
                match &called {
                    Ok(()) => self.counted().calls += 1,
                    Err(_) => self.counted().failed_calls += 1,
                }
                let mut attempt = attempt(WakeWay::Tcp, url);
                let wait = called
                    .map_err(|problem| attempt.outcome = problem)
                    .ok()
                    .map(|()| COMES_WITHIN);
                (attempt, wait)
            }
            (Way::Binding(BindingRecord { at, local, .. }), Some(stun)) => {
                let mut attempt = attempt(WakeWay::Udp, &at.to_string());
                let address = authority(*at);
                let to = [(*at, Some(*local))];
                let sent = self.datagram(device, stun, &address, &to, &mut attempt);
                let wait = sent.await;
                (attempt, wait)
            }
            (Way::Told(address), Some(stun)) => {
                let mut attempt = attempt(WakeWay::Udp, address);
                let from = device
                    .cwmp
                    .as_ref()
                    .and_then(|cwmp| cwmp.address.as_deref());
                let from = from.and_then(|address| address.parse().ok());
                let allowed = |to: IpAddr| self.0.policy.reach.allows(to, from);
                let found = match resolve(address, allowed).await {
                    Ok(found) => found,
                    Err(problem) => {
                        attempt.outcome = problem;
                        return (attempt, None);
                    }
                };
                let to: Vec<_> = found.into_iter().map(|at| (at, None)).collect();
                let sent = self.datagram(device, stun, address, &to, &mut attempt);
                let wait = sent.await;
                (attempt, wait)
            }
            (_, None) => {
                let mut attempt = attempt(WakeWay::Udp, "");
                attempt.outcome = "there is no STUN server to send from".to_owned();
                (attempt, None)
            }
        }
    }

    /// Sends a UDP Connection Request to the first address that a socket of ours reaches. On success the time in which the device should come.
    async fn datagram(
        &self,
        device: &DeviceRecord,
        stun: &Stun,
        address: &str,
        to: &[(SocketAddr, Option<SocketAddr>)],
        attempt: &mut WakeAttempt,
    ) -> Option<Duration> {
        let sent = self.send(device, stun, address, to).await;
        match sent {
            Ok(from) => {
                attempt.from = Some(from.to_string());
                attempt.copies = stun.config.copies;
                stun.counted().wakes += 1;
                Some(Duration::from_secs(stun.config.wait))
            }
            Err(problem) => {
                attempt.outcome = problem;
                None
            }
        }
    }

    async fn send(
        &self,
        device: &DeviceRecord,
        stun: &Stun,
        address: &str,
        to: &[(SocketAddr, Option<SocketAddr>)],
    ) -> Result<SocketAddr, String> {
        let (username, password) = self
            .call_login(device)
            .filter(|(_, password)| !password.is_empty())
            .ok_or("the device was given no login for Connection Requests yet")?;
        let cnonce = fresh_password().ok_or("no randomness")?;
        // Stored before it leaves: whatever happens to this server or its clock, the next one is later.
        let (timestamp, stored) = self.0.core.change(|state, now| {
            let mut timestamp = None;
            let changed = state.registry.update(&device.id, |record| {
                if let Some(cwmp) = &mut record.cwmp {
                    let last = Some(cwmp.last_wake).filter(|last| *last > 0);
                    cwmp.last_wake = next_timestamp(now.0 / 1000, last);
                    timestamp = Some(cwmp.last_wake);
                }
            });
            let write = changed.map(|record| Write::Device(Box::new(record)));
            (timestamp, Batch(write.into_iter().collect()))
        });
        let timestamp = timestamp.ok_or("the device is gone")?;
        stored.await.map_err(|error| error.to_string())?;
        let request = ConnectionRequest {
            timestamp,
            // It changes with every request, as the timestamp does.
            id: timestamp,
            username,
            cnonce,
        };
        let octets = request.encode(address, password.as_bytes());
        let mut problem = "the name has no address".to_owned();
        for (at, local) in to {
            match stun.server.wake(*at, *local, octets.clone()) {
                Ok(from) => return Ok(from),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(problem)
    }

    /// Waits until a device has a session.
    async fn comes(&self, device: &str, within: Duration) -> Option<mpsc::Sender<Job>> {
        let limit = tokio::time::sleep(within);
        tokio::pin!(limit);
        loop {
            let arrived = self.0.arrived.notified();
            tokio::pin!(arrived);
            // From here on, no arrival is missed.
            arrived.as_mut().enable();
            if let Some(jobs) = self.live(device) {
                return Some(jobs);
            }
            tokio::select! {
                () = arrived => {}
                () = &mut limit => return None,
            }
        }
    }

    fn came(&self, way: &Way) {
        if let (Way::Binding(_) | Way::Told(_), Some(stun)) = (way, self.0.stun.get()) {
            stun.counted().woken += 1;
        }
    }
}

/// Why there is no session, in a line.
pub(super) fn in_words(attempts: &[WakeAttempt]) -> String {
    if attempts.is_empty() {
        return "the device told no address for Connection Requests; it is waited for".to_owned();
    }
    let lines: Vec<_> = attempts.iter().map(WakeAttempt::to_string).collect();
    lines.join("; ")
}

fn attempt(way: WakeWay, to: &str) -> WakeAttempt {
    WakeAttempt {
        way,
        to: to.to_owned(),
        from: None,
        copies: 0,
        outcome: String::new(),
    }
}

/// The newest of what is known, of the kinds that count.
fn udp_way(cwmp: &CwmpRecord, binding: Option<BindingRecord>, learn: Learn) -> Option<Way> {
    let binding = binding.filter(|_| learn != Learn::Notification);
    let told = cwmp.udp_address.as_ref().filter(|_| learn != Learn::Stun);
    match (binding, told) {
        // The same news come both ways; what was proven is as good as what was told.
        (Some(binding), Some(told)) if told.seen > binding.seen => {
            if told.address == authority(binding.at) {
                Some(Way::Binding(binding))
            } else {
                Some(Way::Told(told.address.clone()))
            }
        }
        (Some(binding), _) => Some(Way::Binding(binding)),
        (None, told) => told.map(|told| Way::Told(told.address.clone())),
    }
}

/// Whether a device is behind address translation: it says so, or where it was seen is not where it says that it is.
fn behind_nat(cwmp: &CwmpRecord, udp: &Option<Way>) -> bool {
    if cwmp.nat == Some(true) {
        return true;
    }
    let own = cwmp.connection_request_url.as_deref().and_then(|url| {
        let rest = url.split_once("://")?.1;
        let host = rest.split(['/', '?']).next()?;
        split(host)?.0.parse::<IpAddr>().ok()
    });
    match (udp, own) {
        // What it said before it was seen may have been before it knew.
        (Some(Way::Binding(binding)), Some(own)) => {
            binding.at.ip() != own && (cwmp.nat.is_none() || binding.since > cwmp.nat_seen)
        }
        _ => false,
    }
}

/// Where `host`, `host:port` leads; port 80 is left out (§2.2.2.2.2).
async fn resolve(
    address: &str,
    allowed: impl Fn(IpAddr) -> bool,
) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = split(address).ok_or("what the device told is no host and port")?;
    let port = port.unwrap_or(80);
    let found = tokio::net::lookup_host((host.as_str(), port));
    let found = tokio::time::timeout(LOOKUP, found).await;
    let found = found
        .map_err(|_| format!("{host} was not resolved in time"))?
        .map_err(|error| format!("{host}: {error}"))?;
    let found: Vec<_> = found.filter(|at| allowed(at.ip())).collect();
    match found.is_empty() {
        true => Err(
            "Connection Requests do not go there; acs.call_networks says where they may".to_owned(),
        ),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reach::Reach;
    use super::*;
    use crate::clock::Millis;
    use crate::store::ToldAddress;

    fn binding(at: &str, seen: u64) -> Option<BindingRecord> {
        Some(BindingRecord {
            at: at.parse().ok()?,
            local: "192.0.2.1:3478".parse().ok()?,
            since: Millis(1),
            seen: Millis(seen),
        })
    }

    fn told(address: &str, seen: u64) -> CwmpRecord {
        CwmpRecord {
            udp_address: Some(ToldAddress {
                address: address.to_owned(),
                seen: Millis(seen),
            }),
            ..CwmpRecord::default()
        }
    }

    #[test]
    fn the_newest_of_what_counts_is_taken() {
        let seen = binding("203.0.113.2:4000", 50);
        let way = |cwmp: &CwmpRecord, learn| udp_way(cwmp, seen, learn);
        let newer = told("203.0.113.2:5000", 60);
        let older = told("203.0.113.2:5000", 40);
        let same = told("203.0.113.2:4000", 60);
        let told_way = Some(Way::Told("203.0.113.2:5000".to_owned()));
        let seen_way = seen.map(Way::Binding);
        assert_eq!(way(&newer, Learn::Both), told_way);
        assert_eq!(way(&newer, Learn::Stun), seen_way);
        assert_eq!(way(&older, Learn::Both), seen_way);
        assert_eq!(way(&older, Learn::Notification), told_way);
        assert_eq!(way(&same, Learn::Both), seen_way);
        assert_eq!(way(&CwmpRecord::default(), Learn::Notification), None);
    }

    #[test]
    fn nat_is_what_the_device_says_or_what_is_seen() {
        let mut cwmp = CwmpRecord {
            connection_request_url: Some("http://192.168.1.20:7547/x".to_owned()),
            ..CwmpRecord::default()
        };
        let seen = binding("203.0.113.2:4000", 1).map(Way::Binding);
        let own = binding("192.168.1.20:7547", 1).map(Way::Binding);
        assert!(behind_nat(&cwmp, &seen));
        assert!(!behind_nat(&cwmp, &own));
        assert!(!behind_nat(&cwmp, &None));
        (cwmp.nat, cwmp.nat_seen) = (Some(false), Millis(1));
        assert!(!behind_nat(&cwmp, &seen));
        cwmp.nat_seen = Millis(0);
        assert!(behind_nat(&cwmp, &seen));
        cwmp.nat = Some(true);
        assert!(behind_nat(&cwmp, &own));
    }

    #[tokio::test]
    async fn told_addresses_are_resolved_and_some_are_not_sent_to() {
        let here: IpAddr = [198, 51, 100, 7].into();
        let at = |text: &str| Ok(text.parse::<SocketAddr>().into_iter().collect());
        // Where the device's sessions come from, and nowhere else.
        let reach = Reach::default();
        let own = |to: IpAddr| reach.allows(to, Some(here));
        assert_eq!(resolve("198.51.100.7", own).await, at("198.51.100.7:80"));
        for text in [
            "198.51.100.8:80",
            "127.0.0.1:80",
            "localhost:80",
            "[::1]:80",
        ] {
            assert!(resolve(text, own).await.is_err(), "{text}");
        }
        // Where the operator says.
        let networks = ["2001:db8::/32", "127.0.0.0/8"].map(str::to_owned);
        let named = Reach::parse(&networks).unwrap_or_default();
        let named = |to: IpAddr| named.allows(to, None);
        let six = resolve("[2001:db8::7]:4000", named).await;
        assert_eq!(six, at("[2001:db8::7]:4000"));
        assert!(resolve("localhost:4000", named).await.is_ok());
        for text in ["no.such.name.invalid:80", "127.0.0.1:0", "http://127.0.0.1"] {
            assert!(resolve(text, named).await.is_err(), "{text}");
        }
    }
}
