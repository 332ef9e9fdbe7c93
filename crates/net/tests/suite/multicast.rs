//! RFC 7252 §8: groups that a node hears, on the loopback interface; libcoap asks.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::time::Duration;

use homefleet_coap::{Code, Message, Token, Type};
use homefleet_net::coap::{ALL_COAP_NODES, ALL_COAP_NODES_LINK, ALL_COAP_NODES_SITE, Group};
use homefleet_net::mtp::{CoapMtp, CoapMtpConfig, Interface};
use homefleet_usp::Record;

use crate::support::nodes::mtp_config;
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::Ca;
use crate::support::tool::{Tool, have, skip};

const LIMIT: Duration = Duration::from_secs(60);
const LOOPBACK: &str = "lo";
const LOOPBACK_INDEX: u32 = 1;
const LINKS: &str = "</usp>";

fn config(listen: &str, groups: Vec<Group>) -> CoapMtpConfig {
    let ca = Ca::new("Test CA");
    let mut config = mtp_config(AGENT, Interface::Agent, &ca.endpoint(AGENT), ca.verifier());
    config.plain_listen = Some(listen.parse().unwrap());
    config.groups = groups;
    config.coap.leisure = Duration::from_millis(10);
    config
}

fn on_loopback(addr: IpAddr) -> Group {
    Group {
        addr,
        interface: Some(LOOPBACK.to_owned()),
    }
}

/// Waits until so many groups are heard: the counters are told when the node has begun.
async fn heard(mtp: &CoapMtp, groups: u64) {
    let done = async {
        while mtp.stats().node.groups != groups {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, done).await.unwrap();
}

async fn bind(listen: &str, groups: Vec<Group>) -> (CoapMtp, u16) {
    let mtp = CoapMtp::bind(config(listen, groups)).await.unwrap();
    let port = mtp.plain_addr().unwrap().port();
    (mtp, port)
}

/// A socket whose datagrams to groups leave on the loopback interface.
fn asker() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn message(kind: Type, id: u16, code: Code, path: &str) -> Message {
    let mut message = Message::empty(kind, id);
    message.code = code;
    message.token = Token::new(&id.to_be_bytes()).unwrap();
    message.options.set_path(path);
    message
}

fn discovery(kind: Type, id: u16) -> Vec<u8> {
    message(kind, id, Code::GET, ".well-known/core").encode()
}

/// The next answer's message ID or token, as both are the question's.
fn answer(socket: &UdpSocket) -> (Message, SocketAddr) {
    let mut buffer = [0; 2000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (Message::decode(&buffer[..length]).unwrap(), from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libcoap_discovers_us_by_asking_the_group_of_all_coap_nodes() {
    if !have("coap-client-notls", &[]) {
        return;
    }
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let groups = vec![on_loopback(ALL_COAP_NODES)];
        let Ok(mtp) = CoapMtp::bind(config(listen, groups)).await else {
            skip("no IPv6 here");
            continue;
        };
        heard(&mtp, 1).await;
        let port = mtp.plain_addr().unwrap().port();
        let uri = format!("coap://224.0.1.187:{port}/.well-known/core");
        // From this address, which also says on which interface.
        let arguments = ["-a", "127.0.0.1", "-N", "-m", "get", &uri];
        let client = Tool::start("coap-client-notls", &arguments);
        assert!(client.wait_for(LINKS, LIMIT), "{}", client.output());
        assert!(client.output().contains("bbf.usp.a"), "{}", client.output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_gets_a_non_confirmable_answer_from_our_own_address() {
    let (_mtp, port) = bind("0.0.0.0:0", vec![on_loopback(ALL_COAP_NODES)]).await;
    let socket = asker();
    let group = (ALL_COAP_NODES, port);
    socket
        .send_to(&discovery(Type::NonConfirmable, 7), group)
        .unwrap();
    let (answer, from) = answer(&socket);
    assert_eq!(
        (answer.kind, answer.code),
        (Type::NonConfirmable, Code::CONTENT)
    );
    assert_eq!(answer.token, Token::new(&7_u16.to_be_bytes()).unwrap());
    assert_eq!(from, SocketAddr::from(([127, 0, 0, 1], port)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_discovery_is_heard_in_a_group() {
    let mut config = config("0.0.0.0:0", vec![on_loopback(ALL_COAP_NODES)]);
    let (events, mut inbox) = tokio::sync::mpsc::channel(8);
    config.events = events;
    let mtp = CoapMtp::bind(config).await.unwrap();
    let port = mtp.plain_addr().unwrap().port();
    let socket = asker();
    let record = Record::no_session(
        AGENT.parse().unwrap(),
        CONTROLLER.parse().unwrap(),
        b"x".to_vec(),
    );
    let mut post = message(Type::NonConfirmable, 1, Code::POST, "usp");
    post.options.set_content_format(42);
    post.options.add_query("reply-to=coap://127.0.0.1:9/usp");
    post.payload = record.encode();
    let send = |bytes: &[u8], to: IpAddr| socket.send_to(bytes, (to, port)).unwrap();
    send(&post.encode(), ALL_COAP_NODES);
    // A Confirmable request is not for a group.
    send(&discovery(Type::Confirmable, 2), ALL_COAP_NODES);
    let elsewhere = message(Type::NonConfirmable, 3, Code::GET, "elsewhere");
    send(&elsewhere.encode(), ALL_COAP_NODES);
    // They come one after the other, and this one is answered at once: the others were before it.
    let own = Ipv4Addr::LOCALHOST.into();
    send(&discovery(Type::Confirmable, 4), own);
    let (first, _) = answer(&socket);
    assert_eq!((first.kind, first.id), (Type::Acknowledgement, 4));
    // Whatever the group was to be told would come within the leisure, before the answer to this one.
    std::thread::sleep(Duration::from_millis(50));
    send(&discovery(Type::Confirmable, 5), own);
    assert_eq!(answer(&socket).0.id, 5);
    assert!(inbox.try_recv().is_err());
    assert_eq!(mtp.stats().rejected, 0);

    // To us alone, the same Record is taken.
    post.id = 6;
    send(&post.encode(), own);
    assert_eq!(answer(&socket).0.code, Code::CHANGED);
    assert!(inbox.try_recv().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_another_program_here_has_joined_is_not_ours() {
    let (_mtp, port) = bind("0.0.0.0:0", Vec::new()).await;
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    let IpAddr::V4(group) = ALL_COAP_NODES else {
        unreachable!("an IPv4 address")
    };
    let interface = socket2::InterfaceIndexOrAddress::Index(LOOPBACK_INDEX);
    other.join_multicast_v4_n(&group, &interface).unwrap();
    let socket = asker();
    socket
        .send_to(&discovery(Type::NonConfirmable, 1), (ALL_COAP_NODES, port))
        .unwrap();
    socket
        .send_to(
            &discovery(Type::Confirmable, 2),
            (Ipv4Addr::LOCALHOST, port),
        )
        .unwrap();
    assert_eq!(answer(&socket).0.id, 2);
    std::thread::sleep(Duration::from_millis(50));
    socket
        .send_to(
            &discovery(Type::Confirmable, 3),
            (Ipv4Addr::LOCALHOST, port),
        )
        .unwrap();
    assert_eq!(answer(&socket).0.id, 3);
}

/// An interface of a network namespace; the loopback interface carries no groups of IPv6.
const VETH: &str = "hf0";

/// Runs a test of this file again in a network namespace of its own, with an interface that carries groups of IPv6.
fn in_a_namespace(test: &str) {
    const SETUP: &str = r#"
        ip link set lo up && ip link add hf0 type veth peer name hf1 && ip link set hf0 addrgenmode none &&
        ip link set hf0 up && ip link set hf1 up && ip -6 addr add fd00::1/64 dev hf0 nodad &&
        exec "$0" "$@""#;
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", SETUP, this])
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return skip(&format!("unshare: {error}")),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("running 1 test") {
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    } else {
        skip(&format!("a network namespace: {said}"));
    }
}

#[test]
fn groups_of_ipv6_are_heard() {
    in_a_namespace("multicast::groups_of_ipv6_in_a_namespace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a network namespace, by the test before it"]
async fn groups_of_ipv6_in_a_namespace() {
    let addrs = [ALL_COAP_NODES_LINK, ALL_COAP_NODES_SITE];
    let on_veth = |addr| Group {
        addr,
        interface: Some(VETH.to_owned()),
    };
    let groups = addrs.map(on_veth).to_vec();
    let mtp = CoapMtp::bind(config("[::]:0", groups)).await.unwrap();
    heard(&mtp, 2).await;
    let socket = UdpSocket::bind("[fd00::1]:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let port = mtp.plain_addr().unwrap().port();
    let index = nix::net::if_::if_nametoindex(VETH).unwrap();
    for (id, addr) in (1..).zip(addrs) {
        let IpAddr::V6(addr) = addr else {
            unreachable!("an IPv6 address")
        };
        let to = SocketAddrV6::new(addr, port, 0, index);
        let question = discovery(Type::NonConfirmable, id);
        socket.send_to(&question, to).unwrap();
        let (answer, _) = answer(&socket);
        assert_eq!(answer.token, Token::new(&id.to_be_bytes()).unwrap());
        assert!(String::from_utf8_lossy(&answer.payload).contains(LINKS));
    }
}

#[tokio::test]
async fn a_group_whose_interface_is_not_there_holds_nothing_up() {
    let group = Group {
        addr: ALL_COAP_NODES,
        interface: Some("nowhere0".to_owned()),
    };
    let (mtp, _) = bind("0.0.0.0:0", vec![group, on_loopback(ALL_COAP_NODES)]).await;
    heard(&mtp, 1).await;
}

#[tokio::test]
async fn groups_that_can_never_be_heard_are_refused() {
    let group = |addr: &str| on_loopback(addr.parse().unwrap());
    for (listen, addr, why) in [
        ("0.0.0.0:0", "10.0.0.1", "no multicast address"),
        ("127.0.0.1:0", "224.0.1.187", "one address only"),
        ("0.0.0.0:0", "ff02::fd", "IPv4 only"),
    ] {
        let error = CoapMtp::bind(config(listen, vec![group(addr)]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why), "{error}");
    }
    let mut secure_only = config("0.0.0.0:0", vec![group("224.0.1.187")]);
    secure_only.plain_listen = None;
    let error = CoapMtp::bind(secure_only).await.unwrap_err();
    assert!(
        error.to_string().contains("`coap` is not configured"),
        "{error}"
    );
}

#[test]
fn all_coap_nodes_are_those_that_the_socket_can_hear() {
    let all = |listen: &str| {
        let groups = Group::all_coap_nodes(listen.parse().unwrap(), Some(LOOPBACK));
        assert!(
            groups
                .iter()
                .all(|group| group.interface.as_deref() == Some(LOOPBACK))
        );
        groups
            .iter()
            .map(|group| group.addr.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("0.0.0.0:5683"), ["224.0.1.187"]);
    assert_eq!(all("[::]:5683"), ["224.0.1.187", "ff02::fd", "ff05::fd"]);
}
