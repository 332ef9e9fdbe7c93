//! What the CA publishes over HTTP: its certificates, its list of the revoked, OCSP; and what operators see of it.
#![allow(clippy::print_stdout)]

use homefleet_api::{RevocationReason, RevokeCertificate, Role};
use homefleet_server::CoreError;

use super::client::Http;
use super::world::{DEVICE, World};
use crate::live;

/// The serial number of the device's certificate.
async fn serial(world: &World) -> String {
    let found = world.access.certificates(Default::default()).await.unwrap();
    let ours = found
        .certificates
        .into_iter()
        .find(|it| it.device.is_some());
    ours.unwrap().serial
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_in_the_list_and_ocsp_says_so() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    let address = world.address();
    let ocsp = format!(
        "openssl ocsp -issuer ca.pem -cert device.pem -url http://{address}/pki/ocsp -CAfile root.pem -verify_other ca.pem 2>&1"
    );
    let printed = world.shell(&ocsp);
    assert!(
        printed.contains("Response verify OK") && printed.contains("device.pem: good"),
        "{printed}"
    );
    let verify = format!(
        "curl -s http://{address}/pki/ca.crl | openssl crl -inform DER -out ca.crl.pem
         openssl crl -in ca.crl.pem -CAfile ca.pem -noout 2>&1
         openssl verify -partial_chain -trusted ca.pem -crl_check -CRLfile ca.crl.pem device.pem 2>&1 || true"
    );
    let printed = world.shell(&verify);
    assert!(
        printed.contains("verify OK") && printed.contains("device.pem: OK"),
        "{printed}"
    );

    let serial = serial(&world).await;
    let revoke = RevokeCertificate {
        reason: RevocationReason::KeyCompromise,
    };
    let viewer = live::access(&world.server, Role::Viewer).await;
    let refused = viewer.revoke_certificate(&serial, revoke.clone()).await;
    assert!(matches!(refused, Err(CoreError::Forbidden { .. })));
    world
        .access
        .revoke_certificate(&serial, revoke)
        .await
        .unwrap();

    let printed = world.shell(&ocsp);
    assert!(
        printed.contains("device.pem: revoked") && printed.contains("keyCompromise"),
        "{printed}"
    );
    let printed = world.shell(&verify);
    assert!(printed.contains("certificate revoked"), "{printed}");
    // GET with the request in the path (RFC 6960 A.1).
    let printed = world.shell(&format!(
        "openssl ocsp -issuer ca.pem -cert device.pem -no_nonce -reqout request.der >/dev/null
         path=$(base64 -w0 request.der | sed 's,/,%2F,g;s,+,%2B,g;s,=,%3D,g')
         curl -s http://{address}/pki/ocsp/$path -o answer.der
         openssl ocsp -respin answer.der -issuer ca.pem -cert device.pem -CAfile root.pem -verify_other ca.pem 2>&1"
    ));
    assert!(printed.contains("device.pem: revoked"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_and_nothing_else() {
    let world = World::new().await;
    let mut http = Http::to(world.address());
    let mut get = |line: &str| http.raw(format!("{line} HTTP/1.1\r\nHost: ca\r\n\r\n").as_bytes());
    let crl = get("GET /pki/ca.crl");
    assert_eq!(
        (crl.status, crl.header("content-type")),
        (200, Some("application/pkix-crl"))
    );
    assert!(crl.header("cache-control").unwrap().contains("max-age"));
    let ca = get("GET /pki/ca.cer");
    assert_eq!(ca.header("content-type"), Some("application/pkix-cert"));
    assert_eq!(ca.body, world.read("ca.der"));
    assert_eq!(get("DELETE /pki/ca.crl").status, 405);
    assert_eq!(get("GET /pki/ocsp").status, 405);
    assert_eq!(get("GET /pki/ocsp/%%%").status, 400);
    assert_eq!(get("GET /pki/ca.crlx").status, 404);
    assert_eq!(get("GET /devices").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_counted_and_the_ca_tells_of_itself() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    Http::to(world.address()).post(b"x");
    let pki = world.access.pki().await.unwrap();
    assert_eq!(pki.subject, "CN=Issuing,O=Test");
    assert!(pki.profiles.contains(&"device".to_owned()));
    assert_eq!(
        pki.addresses,
        [format!("http://{}/.well-known/cmp", world.address())]
    );
    assert_eq!((pki.transactions, pki.pending_approvals), (0, 0));
    let token = world
        .server
        .create_token(homefleet_api::NewToken {
            name: "metrics".to_owned(),
            role: Role::Viewer,
            expires_in: None,
        })
        .await
        .unwrap();
    let text = world.shell(&format!(
        "curl -s -H 'Authorization: Bearer {}' http://{}/metrics",
        token.secret,
        world.server.http_addr()
    ));
    for line in [
        "homefleet_cmp_issued_total 1",
        "homefleet_cmp_confirmed_total 1",
        "homefleet_cmp_refused_total{failure=\"BadDataFormat\"} 1",
        "homefleet_cmp_transactions 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let secrets = world.access.enrolment_secrets(None, None, 0).await.unwrap();
    assert_eq!(secrets.secrets[0].used, 1);
    world.access.remove_enrolment_secret(DEVICE).await.unwrap();
    let gone = world.access.remove_enrolment_secret(DEVICE).await;
    assert!(matches!(gone, Err(CoreError::NotFound { .. })));
}

/// A small file system of its own; it goes with this.
struct Disk<'a>(&'a std::path::Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // It is gone with the machine, if not now.
        let _unmounted = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0)
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_issues_nothing_and_says_so() {
    let place = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(place.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("SKIPPED: only root can make a small disk");
        return;
    }
    let disk = Disk(place.path());
    let world = World::with(|config| config.data_dir = place.path().join("data")).await;
    world.add_secret(DEVICE, super::world::SECRET).await;
    let fill = format!(
        "head -c 20m /dev/zero > {}/rest 2>/dev/null || true",
        place.path().display()
    );
    world.shell(&fill);
    let mut http = Http::to(world.address());
    let key = super::client::key(homefleet_cmp::crypto::KeyKind::P256);
    let reply = http.post(&super::client::Requester::by_secret(DEVICE).ir(&key));
    assert_eq!(
        reply.failure(),
        [homefleet_cmp::asn1::Failure::SystemUnavail]
    );
    std::fs::remove_file(place.path().join("rest")).unwrap();
    assert_eq!(world.issued().await, 0);
    // With room again, it goes on: the secret was not used up.
    let reply = http.post(&super::client::Requester::by_secret(DEVICE).ir(&key));
    assert!(reply.failure().is_empty(), "{}", reply.status_info());
    world.server.stop().await;
    drop(disk);
}
