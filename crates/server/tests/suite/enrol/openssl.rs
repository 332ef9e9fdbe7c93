//! `openssl cmp` against our HTTP listener, every command that it has (RFC 9483 §4, RFC 9811).

use homefleet_api::{CertificateState, NewEnrolmentSecret};

use super::world::{DEVICE, SECRET, World, by_certificate, by_secret};

#[tokio::test(flavor = "multi_thread")]
async fn ir_by_a_secret_gives_a_certificate_that_openssl_verifies() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    let printed = world.shell(
        "openssl verify -CAfile root.pem -untrusted ca.pem device.pem
         openssl x509 -in device.pem -noout -ext subjectAltName",
    );
    assert!(printed.contains("device.pem: OK"), "{printed}");
    assert!(
        printed.contains(&format!("URI:urn:bbf:usp:id:{DEVICE}")),
        "{printed}"
    );
    let found = world.access.certificates(Default::default()).await.unwrap();
    let certificate = found
        .certificates
        .iter()
        .find(|it| it.device.as_deref() == Some(DEVICE))
        .unwrap();
    assert_eq!(certificate.state, CertificateState::Valid);
    assert_eq!(certificate.profile, "device");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_good_for_as_many_certificates_as_it_says() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    let again = format!(
        "-cmd ir {} -newkey device.key -subject /CN=new -certout again.pem",
        by_secret(DEVICE)
    );
    let (good, printed) = world.cmp(&again).await;
    assert!(!good && printed.contains("notAuthorized"), "{printed}");
    assert_eq!(world.issued().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn kur_cr_p10cr_and_rr_by_the_certificate() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    world.key("new");
    let by = by_certificate("device");
    let (good, printed) = world
        .cmp(&format!("-cmd kur {by} -newkey new.key -certout new.pem"))
        .await;
    assert!(good, "{printed}");
    let (good, printed) = world
        .cmp_at(
            ".well-known/cmp/p/open/certification",
            &format!("-cmd cr {by} -newkey new.key -subject /CN=other -certout other.pem"),
        )
        .await;
    assert!(good, "{printed}");
    world.shell("openssl req -new -key new.key -subj /CN=pkcs10 -addext subjectAltName=DNS:p10.example -out new.csr");
    let (good, printed) = world
        .cmp_at(
            ".well-known/cmp/p/open/pkcs10",
            &format!("-cmd p10cr {by} -csr new.csr -certout p10.pem"),
        )
        .await;
    assert!(good, "{printed}");
    let printed = world.shell(
        "openssl verify -CAfile root.pem -untrusted ca.pem new.pem other.pem p10.pem
         openssl x509 -in p10.pem -noout -subject -ext subjectAltName",
    );
    assert!(printed.contains("DNS:p10.example"), "{printed}");
    assert!(printed.contains("CN = pkcs10"), "{printed}");
    let (good, printed) = world
        .cmp(&format!("-cmd rr {by} -oldcert device.pem -revreason 4"))
        .await;
    assert!(good, "{printed}");
    // What is revoked asks for nothing any more.
    let (good, printed) = world
        .cmp(&format!("-cmd kur {by} -newkey new.key -certout late.pem"))
        .await;
    assert!(!good && printed.contains("certRevoked"), "{printed}");
    // Nor does one certificate speak for another.
    let (good, printed) = world
        .cmp(&format!(
            "-cmd rr {} -oldcert other.pem -revreason 1",
            by_certificate("new")
        ))
        .await;
    assert!(!good && printed.contains("notAuthorized"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_serves_clients_with_and_without_a_certificate() {
    let world = World::with(|config| {
        config.cmp.https_listen = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let address = world.server.cmp_https_addr().unwrap();
    world.add_secret(DEVICE, SECRET).await;
    world.key("device");
    let script = |options: &str| {
        format!(
            "exec timeout 120 openssl cmp -config '' -server {address} -path .well-known/cmp -tls_used -tls_trusted {} {options} 2>&1",
            world.config.tls.anchors.display()
        )
    };
    let ask = script(&format!(
        "-cmd ir {} -newkey device.key -subject /CN=new -certout device.pem",
        by_secret(DEVICE)
    ));
    let printed = world.shell(&ask);
    assert!(printed.contains("https://"), "{printed}");
    world.shell("openssl verify -CAfile root.pem -untrusted ca.pem device.pem");
    let ask = script(&format!(
        "-cmd genm {} -tls_cert device.pem -tls_key device.key",
        by_certificate("device")
    ));
    world.shell(&ask);
    let wanted = format!("https://{address}/.well-known/cmp");
    let pki = world.access.pki().await.unwrap();
    assert!(pki.addresses.contains(&wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn genm_is_answered() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    let (good, printed) = world
        .cmp(&format!(
            "-cmd genm {} -infotype signKeyPairTypes",
            by_certificate("device")
        ))
        .await;
    assert!(good, "{printed}");
    let (good, printed) = world.cmp(&format!("-cmd genm {}", by_secret(DEVICE))).await;
    assert!(good, "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_confirmation_is_the_profiles_choice() {
    let world = World::new().await;
    world.key("new");
    for (path, state) in [
        (".well-known/cmp/p/open", "implicitConfirm"),
        (".well-known/cmp", "certConf"),
    ] {
        world
            .add(NewEnrolmentSecret {
                reference: Some(state.to_owned()),
                device: Some(DEVICE.to_owned()),
                secret: Some(SECRET.to_owned()),
                ..NewEnrolmentSecret::default()
            })
            .await;
        let (good, printed) = world
            .cmp_at(
                path,
                &format!(
                    "-cmd ir {} -newkey new.key -subject /CN=new -certout new.pem -implicit_confirm -verbosity 7",
                    by_secret(state)
                ),
            )
            .await;
        assert!(good, "{printed}");
        let confirmed = printed.contains("sending CERTCONF");
        assert_eq!(confirmed, state == "certConf", "{printed}");
    }
    let found = world.access.certificates(Default::default()).await.unwrap();
    let states = found.certificates.iter().map(|it| it.state);
    assert!(states.eq(found.certificates.iter().map(|_| CertificateState::Valid)));
}
