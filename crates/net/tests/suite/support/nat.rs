//! A home behind a real Linux NAT gateway, in network namespaces of its own.
//!
//! ```text
//! inside 192.168.77.20 ── 192.168.77.1 gateway 203.0.113.2 ── 203.0.113.1 world
//! ```

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use super::tool::skip;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Three namespaces; they go with this.
pub(crate) struct Home {
    name: String,
}

impl Home {
    /// `None`, loudly, where namespaces cannot be made. A binding lasts for `timeout` seconds without traffic.
    pub(crate) fn new(timeout: u32) -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let home = Self {
            name: format!("hf{}n{number}", std::process::id()),
        };
        if let Err(why) = home.build(timeout) {
            skip(&format!("network namespaces: {why}"));
            return None;
        }
        Some(home)
    }

    fn build(&self, timeout: u32) -> Result<(), String> {
        for place in ["inside", "gateway", "world"] {
            run("ip", &["netns", "add", &self.namespace(place)])?;
            self.run(place, "ip link set lo up")?;
        }
        for (place, link) in [("inside", "lan"), ("world", "wan")] {
            let [there, gateway] = [place, "gateway"].map(|place| self.namespace(place));
            let pair = ["link", "add", link, "netns", &there, "type", "veth"];
            let peer = ["peer", "name", link, "netns", &gateway];
            run("ip", &[&pair[..], &peer[..]].concat())?;
        }
        for (place, link, address) in [
            ("inside", "lan", "192.168.77.20/24"),
            ("gateway", "lan", "192.168.77.1/24"),
            ("gateway", "wan", "203.0.113.2/24"),
            ("world", "wan", "203.0.113.1/24"),
        ] {
            self.run(place, &format!("ip address add {address} dev {link}"))?;
            self.run(place, &format!("ip link set {link} up"))?;
        }
        self.run("inside", "ip route add default via 192.168.77.1")?;
        self.run("gateway", "sysctl -qw net.ipv4.ip_forward=1")?;
        self.run("gateway", "nft add table ip nat")?;
        self.run(
            "gateway",
            "nft add chain ip nat post { type nat hook postrouting priority 100 ; }",
        )?;
        // Another mapping is another port, as with most gateways of homes.
        self.run(
            "gateway",
            "nft add rule ip nat post oifname wan masquerade random",
        )?;
        for which in ["timeout", "timeout_stream"] {
            let set = format!("sysctl -qw net.netfilter.nf_conntrack_udp_{which}={timeout}");
            self.run("gateway", &set)?;
        }
        Ok(())
    }

    /// Runs a command in one of the namespaces.
    pub(crate) fn run(&self, place: &str, command: &str) -> Result<(), String> {
        let namespace = self.namespace(place);
        let words = ["netns", "exec", &namespace].into_iter();
        let words: Vec<_> = words.chain(command.split(' ')).collect();
        run("ip", &words)
    }

    /// The gateway forgets every mapping, as after a restart.
    pub(crate) fn forget(&self) {
        self.run("gateway", "conntrack -F").unwrap();
    }

    /// Runs `work` in a thread whose sockets are in a namespace.
    pub(crate) fn enter<T: Send + 'static>(
        &self,
        place: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.namespace(place))).unwrap();
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    fn namespace(&self, place: &str) -> String {
        format!("{}{place}", self.name)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for place in ["inside", "gateway", "world"] {
            let _gone = run("ip", &["netns", "delete", &self.namespace(place)]);
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {}: {said}", words.join(" ")))
}
