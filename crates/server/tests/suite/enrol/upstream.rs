//! The server as an RA in front of CAs elsewhere: `openssl cmp` on both sides of it, and another server of ours (RFC 9483 §5.2).

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use homefleet_api::{ApprovalState, DecideApproval, NewEnrolmentSecret};
use homefleet_server::config::CmpUpstream;

use super::world::{DEVICE, SECRET, World, by_secret, run};

/// Where everybody asks.
const PATH: &str = ".well-known/cmp/p/elsewhere";

/// The mock server of `openssl cmp`, over HTTP; it ends with the test.
struct Mock(Child);

impl Drop for Mock {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn mock(dir: &Path, port: u16, options: &str) -> Mock {
    let script = format!(
        "cd '{}' && exec openssl cmp -config '' -port {port} -srv_cert server.pem -srv_key server.key -srv_trusted ca.pem \
         -rsp_cert device.pem -rsp_extracerts ca.pem {options} 2>&1",
        dir.join("elsewhere").display()
    );
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ACCEPT") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it did not start");
    }
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Mock(child)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A CA elsewhere, with keys for its server, an RA and a device, in `elsewhere`.
fn elsewhere(dir: &Path) {
    let (good, printed) = run(
        dir,
        r#"
mkdir -p elsewhere; cd elsewhere
printf '[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n[ee]\nkeyUsage = digitalSignature\nsubjectKeyIdentifier = hash\nextendedKeyUsage = 1.3.6.1.5.5.7.3.28\n' > req.cnf
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key
openssl req -config req.cnf -extensions ca -x509 -new -key ca.key -days 30 -subj /O=Elsewhere/CN=CA -out ca.pem
serial=4096
for n in server ra device; do
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $n.key
  openssl req -config req.cnf -new -key $n.key -subj /O=Elsewhere/CN=$n -out $n.csr
  openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -set_serial $serial -days 30 -extfile req.cnf -extensions ee -out $n.pem
  serial=$((serial + 1))
done 2>/dev/null
cp ca.pem ../elsewhere-ca.pem; cp device.key ..
"#,
    );
    assert!(good, "{printed}");
}

/// An RA of a CA at this URL.
async fn ra(url: String, change: impl FnOnce(&mut CmpUpstream)) -> World {
    World::with(|config| {
        let dir = config.pki.directory.as_ref().unwrap();
        let dir = dir.parent().unwrap().to_owned();
        elsewhere(&dir);
        let file = |name: &str| dir.join("elsewhere").join(name);
        let mut upstream = CmpUpstream {
            trust: vec![file("ca.pem")],
            devices: vec![file("ca.pem")],
            certificate: Some(file("ra.pem")),
            key: Some(file("ra.key")),
            ..CmpUpstream::new("elsewhere", url)
        };
        change(&mut upstream);
        config.cmp.old_polling = true;
        config.cmp.upstream.push(upstream);
    })
    .await
}

fn mock_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/pkix/")
}

/// By the secret, for the key that the mock server has a certificate for.
fn ir(device: &str) -> String {
    format!(
        "-cmd ir {} -newkey device.key -subject /CN=device -certout got.pem -total_timeout 100",
        by_secret(device)
    )
}

async fn approval(world: &World, state: ApprovalState) -> String {
    for _ in 0..1200 {
        let page = world.access.approvals(Some(state), None, 10).await.unwrap();
        if let [approval] = page.approvals.as_slice() {
            assert_eq!(approval.profile, "elsewhere");
            return approval.id.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no request came");
}

async fn decide(world: &World, id: &str, approve: bool) {
    let decision = DecideApproval {
        approve,
        reason: Some("seen it".to_owned()),
    };
    world.access.decide_approval(id, decision).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_goes_through_the_ra_to_openssl() {
    let port = free_port();
    let world = ra(mock_url(port), |_| ()).await;
    let dir = world.dir.path();
    world.add_secret(DEVICE, SECRET).await;
    // The device knows our secret, the CA our certificate, neither the other's. One mock server for each command.
    let behind = mock(dir, port, "");
    let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
    assert!(good, "{printed}");
    drop(behind);
    world
        .shell("openssl verify -CAfile elsewhere-ca.pem got.pem; cmp got.pem elsewhere/device.pem");
    // The secret was good for one.
    let behind = mock(dir, port, "");
    let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
    assert!(!good && printed.contains("notAuthorized"), "{printed}");
    drop(behind);
    let by_it = "-cert got.pem -key device.key -trusted root.pem -untrusted ca.pem";
    for command in [
        "-cmd cr -newkey device.key -subject /CN=device -certout cr.pem",
        "-cmd kur -newkey device.key -certout kur.pem",
        "-cmd p10cr -csr elsewhere/device.csr -certout p10.pem",
        "-cmd rr -oldcert got.pem -revreason 1",
        "-cmd genm",
    ] {
        let behind = mock(dir, port, "");
        let options = format!("{command} {by_it}");
        let (good, printed) = world.cmp_at(PATH, &options).await;
        assert!(good, "{command}: {printed}");
        drop(behind);
    }
    assert_eq!(world.issued().await, 0);
    let audit = world.audit().await;
    assert!(audit.iter().any(|(action, label, _, allowed)| {
        action == "cmp.relay" && label == "elsewhere" && *allowed
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ca_delays_is_polled_for_at_the_ca() {
    let port = free_port();
    let world = ra(mock_url(port), |_| ()).await;
    world.add_secret(DEVICE, SECRET).await;
    let _behind = mock(world.dir.path(), port, "-poll_count 2 -check_after 1");
    let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
    assert!(good, "{printed}");
    assert!(printed.contains("POLLREQ"), "{printed}");
    // Nothing of it was here, but the secret, which is used up.
    let known = world.access.approvals(None, None, 10).await.unwrap();
    assert!(known.approvals.is_empty());
    let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
    assert!(!good && printed.contains("notAuthorized"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_an_operator_over_a_restart_and_then_goes_to_the_ca() {
    let port = free_port();
    let world = ra(mock_url(port), |it| it.approve = vec!["ir".to_owned()]).await;
    let uses = NewEnrolmentSecret {
        device: Some(DEVICE.to_owned()),
        secret: Some(SECRET.to_owned()),
        ..NewEnrolmentSecret::default()
    };
    world.add(uses).await;
    let _behind = mock(world.dir.path(), port, "");
    let (dir, address) = (world.dir.path().to_owned(), world.address());
    let client = tokio::task::spawn_blocking(move || {
        let script = format!(
            "exec timeout 120 openssl cmp -config '' -server {address} -path {PATH} {} 2>&1",
            ir(DEVICE)
        );
        run(&dir, &script)
    });
    let id = approval(&world, ApprovalState::Pending).await;
    let world = world.restart().await;
    decide(&world, &id, true).await;
    let (good, printed) = client.await.unwrap();
    // While the server is away, a client may find nobody: then it comes again, and finds that it was approved.
    if !good {
        assert!(
            printed.contains("refused") || printed.contains("transfer"),
            "{printed}"
        );
        let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
        assert!(good, "{printed}");
    }
    let approval = world.access.approval(&id).await.unwrap();
    assert_eq!(approval.state, ApprovalState::Used);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_an_operator_denies_never_reaches_the_ca() {
    let world = ra(mock_url(free_port()), |it| {
        it.approve = vec!["ir".to_owned()];
    })
    .await;
    world.add_secret(DEVICE, SECRET).await;
    let options = ir(DEVICE);
    let (asked, ()) = tokio::join!(world.cmp_at(PATH, &options), async {
        let id = approval(&world, ApprovalState::Pending).await;
        decide(&world, &id, false).await;
    });
    let (good, printed) = asked;
    assert!(!good && printed.contains("seen it"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_ca_that_is_not_there() {
    let port = free_port();
    let world = ra(mock_url(port), |_| ()).await;
    world.add_secret(DEVICE, SECRET).await;
    let options = ir(DEVICE);
    let (asked, _behind) = tokio::join!(world.cmp_at(PATH, &options), async {
        approval(&world, ApprovalState::Approved).await;
        mock(world.dir.path(), port, "")
    });
    let (good, printed) = asked;
    assert!(good, "{printed}");
    assert!(printed.contains("POLLREQ"), "{printed}");
    approval(&world, ApprovalState::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_is_added_in_front_of_another_server_of_ours() {
    let trusting = |dir: &Path| dir.join("elsewhere").join("ca.pem");
    let behind = World::with(|config| {
        let dir = config.pki.directory.as_ref().unwrap();
        let dir = dir.parent().unwrap().to_owned();
        elsewhere(&dir);
        let relays = &mut config.cmp.registration_authorities;
        relays.push(trusting(&dir));
    })
    .await;
    let url = format!("http://{}", behind.address());
    let keys = behind.dir.path().join("elsewhere");
    let world = ra(url, |it| {
        it.nest = true;
        it.certificate = Some(keys.join("ra.pem"));
        it.key = Some(keys.join("ra.key"));
    })
    .await;
    // Both know the device's secret: the answer is protected by the CA itself.
    behind.add_secret(DEVICE, SECRET).await;
    world.add_secret(DEVICE, SECRET).await;
    let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
    assert!(good, "{printed}");
    assert_eq!((behind.issued().await, world.issued().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_believed_or_may_not_pass_is_refused_and_the_ca_not_asked() {
    let world = ra(mock_url(free_port()), |it| {
        it.allow = ["ir", "certConf"].map(str::to_owned).into();
        it.wait = false;
    })
    .await;
    world.add_secret(DEVICE, SECRET).await;
    let by = by_secret(DEVICE);
    let wrong = ir(DEVICE).replace(&format!("pass:{SECRET}"), "pass:not it");
    let stranger = "-cmd ir -cert stranger.pem -key device.key -trusted root.pem -untrusted ca.pem -newkey device.key \
                    -subject /CN=device -certout got.pem";
    // Of another CA: OpenSSL sends no certificate that is self-signed.
    world.shell(
        "openssl req -x509 -new -key device.key -subj /CN=other -days 2 -out other.pem && \
         openssl req -new -key device.key -subj /CN=stranger -config /dev/null -out stranger.csr && \
         openssl x509 -req -in stranger.csr -CA other.pem -CAkey device.key -set_serial 7 -days 2 -out stranger.pem",
    );
    for (options, says) in [
        // It is protected by a signature, which a device with a secret may not be able to verify.
        (wrong.as_str(), "received ERROR"),
        (stranger, "signerNotTrusted"),
        (&format!("-cmd genm {by}"), "notAuthorized"),
        // Nobody is there, and nothing is to wait.
        (&ir(DEVICE), "502"),
    ] {
        let (good, printed) = world.cmp_at(PATH, options).await;
        assert!(!good && printed.contains(says), "{says}: {printed}");
    }
    let known = world.access.approvals(None, None, 10).await.unwrap();
    assert!(known.approvals.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_nobody_elses_certificate_revoked_or_updated_through_the_ra() {
    let world = ra(mock_url(free_port()), |it| it.wait = false).await;
    let by_it = "-cert elsewhere/device.pem -key device.key -trusted root.pem -untrusted ca.pem";
    for command in [
        "-cmd rr -oldcert elsewhere/server.pem -revreason 1",
        "-cmd kur -oldcert elsewhere/server.pem -newkey device.key -certout got.pem",
    ] {
        let (good, printed) = world.cmp_at(PATH, &format!("{command} {by_it}")).await;
        assert!(
            !good && printed.contains("notAuthorized"),
            "{command}: {printed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_ca_that_is_not_believed_is_not_handed_on() {
    let port = free_port();
    let world = ra(mock_url(port), |it| {
        let root = it.trust[0].with_file_name("device.pem");
        it.trust = vec![root];
    })
    .await;
    world.add_secret(DEVICE, SECRET).await;
    let _behind = mock(world.dir.path(), port, "");
    let (good, printed) = world.cmp_at(PATH, &ir(DEVICE)).await;
    assert!(!good && printed.contains("502"), "{printed}");
    assert!(!world.path("got.pem").exists());
}
