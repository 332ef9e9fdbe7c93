//! The network providers in a network of their own, where links and addresses come and go.
//!
//! Each test starts this program again in new namespaces of the network and the host name (`unshare`,
//! util-linux), where one of the ignored tests runs: whatever is set, and whatever should have been refused, is
//! not this machine's. Without the right to do that it is skipped, with a line that says so; in CI that fails.

use std::{
    env, fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// Tells the inner test in which network namespace the outer one runs.
const OUTSIDE: &str = "HOMEFLEET_TEST_OUTSIDE";

/// The network namespace of this process.
fn namespace() -> PathBuf {
    fs::read_link("/proc/self/ns/net").unwrap()
}

/// Runs an ignored test of this program in a network namespace of its own.
fn in_own_network(test: &str) {
    let mut arguments = vec!["--net", "--uts"];
    if !rustix::process::geteuid().is_root() {
        arguments.push("--map-root-user");
    }
    let probe = Command::new("unshare")
        .args(&arguments)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        let message = format!(
            "SKIPPED {test}: no network namespaces here (unshare {})\n",
            arguments.join(" ")
        );
        assert!(env::var_os("CI").is_none(), "{message}");
        std::io::stderr().write_all(message.as_bytes()).unwrap();
        return;
    }
    let output = Command::new("unshare")
        .args(&arguments)
        .arg(env::current_exe().unwrap())
        .env(OUTSIDE, namespace())
        .args(["--ignored", "--nocapture", test])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn an_address_is_seen_when_it_comes_and_when_it_goes() {
    in_own_network("own_network::address_comes_and_goes");
}

#[test]
fn a_link_is_seen_when_it_comes_and_when_it_goes() {
    in_own_network("own_network::link_comes_and_goes");
}

#[test]
fn interfaces_follow_what_a_controller_sets_when_that_is_allowed() {
    in_own_network("own_network::settings_take_effect");
}

#[test]
fn what_is_the_kernels_cannot_be_set_unless_the_configuration_says_so() {
    in_own_network("own_network::nothing_is_set_unless_allowed");
}

#[test]
fn even_where_changes_are_allowed_the_device_is_not_cut_off() {
    in_own_network("own_network::not_cut_off");
}

#[test]
fn neighbours_are_hosts() {
    in_own_network("own_network::neighbours_are_hosts");
}

#[test]
fn ping_without_a_route_says_so() {
    in_own_network("own_network::no_route");
}

#[test]
fn ping_without_an_answer_counts_failures() {
    in_own_network("own_network::no_answer");
}

#[test]
fn ping_needs_no_privilege_where_the_kernel_allows_it() {
    in_own_network("own_network::datagram_socket");
}

#[test]
fn ping_hears_its_own_answers_among_those_of_others() {
    in_own_network("own_network::raw_socket");
}

/// How long an event may take that is told at once.
const SOON: Duration = Duration::from_secs(5);

mod own_network {
    use std::{
        io,
        net::{IpAddr, Ipv4Addr},
        time::Instant,
    };

    use homefleet_agent::provider::{Options, Wake};
    use homefleet_model::{path::ObjectPath, tree::Change};
    use netlink_packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    };
    use netlink_packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
    };
    use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

    use super::*;
    use crate::provider::Machine;

    /// The providers, and the signal with which they wake the agent.
    struct Watched {
        machine: Machine,
        woken: Receiver<()>,
    }

    impl Watched {
        fn new() -> Self {
            let mut machine = Machine::new(&Options {
                allow_network_changes: true,
                ..Options::default()
            });
            let (wake, woken) = channel();
            let wake = Wake::new(move || wake.send(()).unwrap_or_default());
            for provider in &mut machine.providers {
                provider.watch(wake.clone());
            }
            machine.refresh();
            machine.tree.drain_changes();
            Self { machine, woken }
        }

        /// Waits for the wake, as the agent's core does, until the tree is as wanted.
        fn until(&mut self, what: &str, wanted: impl Fn(&Machine) -> bool) {
            let deadline = Instant::now() + SOON;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                self.woken
                    .recv_timeout(left)
                    .unwrap_or_else(|_| panic!("nobody was woken: {what}"));
                self.machine.refresh();
                if wanted(&self.machine) {
                    return;
                }
            }
        }

        fn interface(&self, name: &str) -> Option<ObjectPath> {
            self.machine.find("Device.IP.Interface.", "Name", name)
        }
    }

    /// Run by hand on its own, a test must not touch the machine's real network.
    fn assert_apart() {
        let outside = env::var_os(OUTSIDE).map(PathBuf::from);
        assert!(
            outside.is_some_and(|outside| outside != namespace()),
            "this test runs only through the one that makes its namespace"
        );
    }

    /// One request to the kernel.
    fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = 1;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        let (answer, _) = socket.recv_from_full()?;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map(|message| message.payload)
        {
            Ok(NetlinkPayload::Error(error)) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(()),
        }
    }

    /// The kernel's number of a link; sysfs shows those of the namespace in which it was mounted.
    fn index(name: &str) -> u32 {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        rustix::net::netdevice::name_to_index(&socket, name).unwrap()
    }

    fn address(name: &str, ip: Ipv4Addr, prefix: u8) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index(name);
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(ip)),
            AddressAttribute::Address(IpAddr::V4(ip)),
        ];
        message
    }

    fn add_bridge(name: &str) {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE).unwrap();
    }

    fn add_address(name: &str, ip: [u8; 4], prefix: u8) {
        ask(
            RouteNetlinkMessage::NewAddress(address(name, ip.into(), prefix)),
            NLM_F_CREATE,
        )
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn address_comes_and_goes() {
        assert_apart();
        let mut watched = Watched::new();
        let lo = watched.interface("lo").unwrap();
        let table = lo.child("IPv4Address");
        assert_eq!(watched.machine.rows(table.as_str()), []);
        add_address("lo", [192, 0, 2, 77], 24);
        let find = |machine: &Machine| machine.find(table.as_str(), "IPAddress", "192.0.2.77");
        watched.until("an address came", |machine| find(machine).is_some());
        let row = find(&watched.machine).unwrap();
        assert_eq!(
            watched.machine.text(row.param("SubnetMask").as_str()),
            "255.255.255.0"
        );
        assert!(
            watched
                .machine
                .tree
                .drain_changes()
                .contains(&Change::Created { path: row.clone() })
        );
        ask(
            RouteNetlinkMessage::DelAddress(address("lo", [192, 0, 2, 77].into(), 24)),
            0,
        )
        .unwrap();
        watched.until("an address went", |machine| find(machine).is_none());
        let changes = watched.machine.tree.drain_changes();
        assert!(
            changes
                .iter()
                .any(|change| matches!(change, Change::Deleted { path, .. } if *path == row))
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn link_comes_and_goes() {
        assert_apart();
        let mut watched = Watched::new();
        add_bridge("br-test");
        let find = |machine: &Machine| machine.find("Device.IP.Interface.", "Name", "br-test");
        watched.until("a link came", |machine| find(machine).is_some());
        let row = find(&watched.machine).unwrap();
        assert_eq!(watched.machine.text(row.param("Status").as_str()), "Down");
        assert_eq!(watched.machine.text(row.param("Type").as_str()), "Normal");
        let mut gone = LinkMessage::default();
        gone.header.index = index("br-test");
        ask(RouteNetlinkMessage::DelLink(gone), 0).unwrap();
        watched.until("a link went", |machine| find(machine).is_none());
        add_bridge("br-test");
        watched.until("the link came again", |machine| find(machine).is_some());
        assert_eq!(
            find(&watched.machine),
            Some(row),
            "the same name is the same row"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn settings_take_effect() {
        assert_apart();
        let mut watched = Watched::new();
        let lo = watched.interface("lo").unwrap();
        let status = lo.param("Status").to_string();
        assert_eq!(watched.machine.text(&status), "Down");
        watched
            .machine
            .apply(lo.param("Enable").as_str(), "true")
            .unwrap();
        watched.until("the loopback is up", |machine| {
            machine.text(&status) == "Up"
        });
        assert!(
            watched
                .machine
                .find(lo.child("IPv4Address").as_str(), "IPAddress", "127.0.0.1")
                .is_some()
        );
        let change =
            watched
                .machine
                .tree
                .drain_changes()
                .into_iter()
                .find_map(|change| match change {
                    Change::ValueChanged { path, old, new } if path.as_str() == status => {
                        Some((old, new))
                    }
                    _ => None,
                });
        assert_eq!(change, Some(("Down".into(), "Up".into())));
        add_bridge("br-test");
        watched.until("a link came", |machine| {
            machine
                .find("Device.IP.Interface.", "Name", "br-test")
                .is_some()
        });
        let bridge = watched.interface("br-test").unwrap();
        let mtu = bridge.param("MaxMTUSize").to_string();
        assert_eq!(watched.machine.text(&mtu), "1500");
        watched.machine.apply(&mtu, "1400").unwrap();
        watched.until("another MTU", |machine| machine.text(&mtu) == "1400");
        watched
            .machine
            .apply(bridge.param("Enable").as_str(), "true")
            .unwrap();
        watched.until("the bridge is enabled", |machine| {
            machine.text(bridge.param("Enable").as_str()) == "true"
        });
        watched
            .machine
            .apply(bridge.param("Enable").as_str(), "false")
            .unwrap();
        watched.until("the bridge is disabled", |machine| {
            machine.text(bridge.param("Enable").as_str()) == "false"
        });
        let error = watched
            .machine
            .apply(bridge.param("Loopback").as_str(), "true")
            .unwrap_err();
        assert!(error.contains("cannot be set"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn nothing_is_set_unless_allowed() {
        assert_apart();
        add_bridge("br-test");
        add_address("br-test", [192, 0, 2, 1], 24);
        let mut machine = Machine::read();
        let bridge = machine
            .find("Device.IP.Interface.", "Name", "br-test")
            .unwrap();
        let address = machine.rows(bridge.child("IPv4Address").as_str()).remove(0);
        let network = "changes of the network are not allowed";
        let refused = [
            (bridge.param("Enable").to_string(), "true", network),
            (bridge.param("MaxMTUSize").to_string(), "1400", network),
            (bridge.param("IPv6Enable").to_string(), "false", network),
            (address.param("IPAddress").to_string(), "192.0.2.2", network),
            ("Device.IP.IPv4Enable".into(), "false", network),
            (
                "Device.DeviceInfo.HostName".into(),
                "other",
                "changes of the system are not allowed",
            ),
            ("Device.Time.Enable".into(), "false", "time daemon"),
            ("Device.Time.NTPServer1".into(), "192.0.2.1", "time daemon"),
            (
                "Device.Time.LocalTimeZone".into(),
                "/etc/passwd",
                "no time zone",
            ),
        ];
        let before: Vec<String> = refused
            .iter()
            .map(|(path, ..)| machine.text(path))
            .collect();
        for (path, value, reason) in &refused {
            let error = machine.apply(path, value).unwrap_err();
            assert!(error.contains(reason), "{path}: {error}");
        }
        machine.refresh();
        let after: Vec<String> = refused
            .iter()
            .map(|(path, ..)| machine.text(path))
            .collect();
        assert_eq!(before, after);
        machine
            .apply(bridge.param("Alias").as_str(), "bridge")
            .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn not_cut_off() {
        assert_apart();
        let mut watched = Watched::new();
        let lo = watched.interface("lo").unwrap();
        let error = watched
            .machine
            .apply(lo.param("Enable").as_str(), "false")
            .unwrap_err();
        assert!(error.contains("loopback interface stays up"), "{error}");
        add_bridge("br-test");
        add_address("br-test", [192, 0, 2, 1], 24);
        watched.machine.refresh();
        let enable = watched.interface("br-test").unwrap().param("Enable");
        watched.machine.apply(enable.as_str(), "true").unwrap();
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.protocol = RouteProtocol::Static;
        route.header.scope = RouteScope::Link;
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![RouteAttribute::Oif(index("br-test"))];
        ask(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE).unwrap();
        // A new provider, because the route is looked up once a second.
        let mut watched = Watched::new();
        let error = watched.machine.apply(enable.as_str(), "false").unwrap_err();
        assert!(error.contains("default route"), "{error}");
        watched
            .machine
            .apply("Device.DeviceInfo.HostName", "br-test.example")
            .unwrap();
        watched.machine.refresh();
        assert_eq!(
            watched.machine.text("Device.DeviceInfo.HostName"),
            "br-test.example"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn neighbours_are_hosts() {
        assert_apart();
        let mut watched = Watched::new();
        add_bridge("br-test");
        add_address("br-test", [192, 0, 2, 1], 24);
        watched.machine.refresh();
        let bridge = watched.interface("br-test").unwrap();
        watched
            .machine
            .apply(bridge.param("Enable").as_str(), "true")
            .unwrap();
        let neighbour = |last: u8| {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.ifindex = index("br-test");
            message.header.state = NeighbourState::Permanent;
            message.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet(Ipv4Addr::new(
                    192, 0, 2, last,
                ))),
                NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 0x50]),
            ];
            message
        };
        ask(
            RouteNetlinkMessage::NewNeighbour(neighbour(50)),
            NLM_F_CREATE,
        )
        .unwrap();
        ask(
            RouteNetlinkMessage::NewNeighbour(neighbour(51)),
            NLM_F_CREATE,
        )
        .unwrap();
        watched.machine.refresh();
        let host = watched
            .machine
            .find("Device.Hosts.Host.", "PhysAddress", "02:00:00:00:00:50")
            .unwrap();
        let text = |machine: &Machine, name: &str| machine.text(host.param(name).as_str());
        assert_eq!(text(&watched.machine, "IPAddress"), "192.0.2.50");
        assert_eq!(text(&watched.machine, "Active"), "true");
        assert_eq!(text(&watched.machine, "InterfaceType"), "Ethernet");
        assert_eq!(
            text(&watched.machine, "Layer3Interface"),
            bridge.as_str().trim_end_matches('.')
        );
        assert_eq!(text(&watched.machine, "IPv4AddressNumberOfEntries"), "2");
        for last in [50, 51] {
            ask(RouteNetlinkMessage::DelNeighbour(neighbour(last)), 0).unwrap();
        }
        watched.machine.refresh();
        assert_eq!(text(&watched.machine, "Active"), "false");
        assert_eq!(
            watched.machine.text("Device.Hosts.HostNumberOfEntries"),
            "1"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn no_route() {
        assert_apart();
        let mut watched = Watched::new();
        let output = watched
            .machine
            .ping(&[("Host", "203.0.113.1")])
            .await
            .unwrap();
        assert_eq!(output["Status"], "Error_NoRouteToHost");
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn no_answer() {
        assert_apart();
        let mut watched = Watched::new();
        let lo = watched.interface("lo").unwrap();
        watched
            .machine
            .apply(lo.param("Enable").as_str(), "true")
            .unwrap();
        fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1").unwrap();
        let output = watched
            .machine
            .ping(&[("Host", "127.0.0.1"), ("Timeout", "50")])
            .await
            .unwrap();
        assert_eq!(output["Status"], "Complete");
        assert_eq!(
            (
                output["SuccessCount"].as_str(),
                output["FailureCount"].as_str()
            ),
            ("0", "3")
        );
        assert_eq!(output["AverageResponseTimeDetailed"], "0");
    }

    /// Both versions of IP, several at once with large packets.
    async fn ping_all(groups: &str) {
        let mut watched = Watched::new();
        let lo = watched.interface("lo").unwrap();
        watched
            .machine
            .apply(lo.param("Enable").as_str(), "true")
            .unwrap();
        fs::write("/proc/sys/net/ipv4/ping_group_range", groups).unwrap();
        let hosts: &[&str] = match fs::exists("/proc/sys/net/ipv6").unwrap() {
            true => &["127.0.0.1", "::1"],
            false => &["127.0.0.1"],
        };
        for host in hosts {
            let (mut one, mut two) = (Machine::read(), Machine::read());
            let args = [
                ("Host", *host),
                ("DataBlockSize", "60000"),
                ("NumberOfRepetitions", "10"),
            ];
            let (first, second) = tokio::join!(one.ping(&args), two.ping(&args));
            for output in [first.unwrap(), second.unwrap()] {
                assert_eq!(
                    (output["Status"].as_str(), output["SuccessCount"].as_str()),
                    ("Complete", "10")
                );
                assert_eq!(output["IPAddressUsed"], *host);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn datagram_socket() {
        assert_apart();
        ping_all("0 0").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a network namespace of its own"]
    async fn raw_socket() {
        assert_apart();
        ping_all("1 0").await;
    }
}
