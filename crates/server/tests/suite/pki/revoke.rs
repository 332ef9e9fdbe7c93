//! Revocation: states, lists, OCSP, judged by OpenSSL.

use std::time::Duration;

use homefleet_server::pki::{
    ConfirmError, IssuedCertificate, MAX_OCSP_REQUEST, Pki, Reason, RevokeError, Serial,
};
use homefleet_server::store::pki::CertificateState;

use super::world::{DEVICE, World, openssl, order};

const DAY: Duration = Duration::from_secs(86_400);

async fn issued(world: &World) -> IssuedCertificate {
    let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    world.pki.confirm(&issued.serial).await.unwrap();
    issued
}

async fn reason(pki: &Pki, serial: &Serial) -> Option<u8> {
    let record = pki.certificate(serial).await.unwrap().unwrap();
    record.revocation.map(|revocation| revocation.reason)
}

#[tokio::test]
async fn every_reason_revokes_and_is_in_list_and_ocsp() {
    let world = World::new().await;
    for code in Reason::ALL {
        if code == Reason::RemoveFromCrl {
            continue;
        }
        let issued = issued(&world).await;
        world
            .pki
            .revoke(&issued.serial, code, "test")
            .await
            .unwrap();
        // Again is not wrong.
        world
            .pki
            .revoke(&issued.serial, code, "test")
            .await
            .unwrap();
        assert_eq!(reason(&world.pki, &issued.serial).await, Some(code.code()));
    }
    let crl = world.pki.crl().await.unwrap();
    let crl = world.pem("crl.pem", "X509 CRL", &[&crl]);
    let (good, text) = openssl(&["crl", "-in", &crl, "-noout", "-text"]);
    assert!(good, "{text}");
    assert_eq!(text.matches("Serial Number:").count(), 9, "{text}");
    for name in [
        "Key Compromise",
        "CA Compromise",
        "Affiliation Changed",
        "Superseded",
        "Cessation Of Operation",
        "Certificate Hold",
        "Privilege Withdrawn",
        "AA Compromise",
    ] {
        assert_eq!(text.matches(name).count(), 1, "{name} in {text}");
    }
    let [_, chain, _] = world.files(&[]);
    let (good, text) = openssl(&["crl", "-in", &crl, "-noout", "-CAfile", &chain]);
    assert!(good && text.contains("verify OK"), "{text}");
}

#[tokio::test]
async fn openssl_rejects_a_revoked_certificate_by_the_list() {
    let world = World::new().await;
    let issued = issued(&world).await;
    let [root, chain, certificate] = world.files(&issued.der);
    let verify = async || {
        let crl = world.pki.crl().await.unwrap();
        let crl = world.pem("crl.pem", "X509 CRL", &[&crl]);
        let root_crl = world.dir.path().join("pki/root.crl").display().to_string();
        openssl(&[
            "verify",
            "-crl_check_all",
            "-CRLfile",
            &crl,
            "-CRLfile",
            &root_crl,
            "-CAfile",
            &root,
            "-untrusted",
            &chain,
            &certificate,
        ])
    };
    let (good, text) = verify().await;
    assert!(good, "{text}");
    world
        .pki
        .revoke(&issued.serial, Reason::CertificateHold, "test")
        .await
        .unwrap();
    let (good, text) = verify().await;
    assert!(!good && text.contains("certificate revoked"), "{text}");
    world
        .pki
        .revoke(&issued.serial, Reason::RemoveFromCrl, "test")
        .await
        .unwrap();
    let (good, text) = verify().await;
    assert!(good, "{text}");
}

#[tokio::test]
async fn what_is_revoked_for_good_stays_so() {
    let world = World::new().await;
    let issued = issued(&world).await;
    let revoke = async |reason| world.pki.revoke(&issued.serial, reason, "test").await;
    let serial = || issued.serial.clone();
    assert_eq!(
        revoke(Reason::RemoveFromCrl).await,
        Err(RevokeError::NotHeld(serial()))
    );
    revoke(Reason::CertificateHold).await.unwrap();
    revoke(Reason::KeyCompromise).await.unwrap();
    assert_eq!(reason(&world.pki, &issued.serial).await, Some(1));
    assert_eq!(
        revoke(Reason::Superseded).await,
        Err(RevokeError::Revoked(serial()))
    );
    assert_eq!(
        revoke(Reason::CertificateHold).await,
        Err(RevokeError::Revoked(serial()))
    );
    assert_eq!(
        revoke(Reason::RemoveFromCrl).await,
        Err(RevokeError::NotHeld(serial()))
    );
    assert_eq!(
        world.pki.confirm(&issued.serial).await,
        Err(ConfirmError::Revoked(serial()))
    );
    let unknown: Serial = "4711".parse().unwrap();
    let refused = world.pki.revoke(&unknown, Reason::Superseded, "test").await;
    assert_eq!(refused, Err(RevokeError::Unknown(unknown.clone())));
    assert_eq!(
        world.pki.confirm(&unknown).await,
        Err(ConfirmError::Unknown(unknown))
    );
}

#[tokio::test]
async fn confirming_again_is_not_wrong() {
    let world = World::new().await;
    let issued = issued(&world).await;
    world.pki.confirm(&issued.serial).await.unwrap();
    let record = world
        .pki
        .certificate(&issued.serial)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.state, CertificateState::Valid);
}

#[tokio::test]
async fn a_list_is_made_on_change_and_on_schedule_and_its_number_never_goes_back() {
    let mut world = World::new().await;
    let number = async |world: &World| {
        let crl = world.pki.crl().await.unwrap();
        let file = world.pem("crl.pem", "X509 CRL", &[&crl]);
        let (_, text) = openssl(&["crl", "-in", &file, "-noout", "-crlnumber"]);
        let number = text.trim().strip_prefix("crlNumber=0x").unwrap().to_owned();
        u64::from_str_radix(&number, 16).unwrap()
    };
    assert_eq!(number(&world).await, 1);
    assert_eq!(number(&world).await, 1, "asking makes none");
    let issued = issued(&world).await;
    assert_eq!(number(&world).await, 1, "issuing makes none");
    world
        .pki
        .revoke(&issued.serial, Reason::Superseded, "test")
        .await
        .unwrap();
    assert_eq!(number(&world).await, 2);
    world.pass(DAY);
    assert_eq!(number(&world).await, 3, "a day is the schedule");
    world.again().await;
    assert_eq!(number(&world).await, 4);
    // Certificates that ended are in one more list, and then in none.
    let revoked = |crl: &[u8]| {
        let file = world.pem("crl.pem", "X509 CRL", &[crl]);
        let (_, text) = openssl(&["crl", "-in", &file, "-noout", "-text"]);
        text.matches("Serial Number:").count()
    };
    world.pass(92 * DAY);
    assert_eq!(revoked(&world.pki.crl().await.unwrap()), 1);
    world.pass(7 * DAY);
    assert_eq!(revoked(&world.pki.crl().await.unwrap()), 0);
}

#[tokio::test]
async fn a_list_that_cannot_be_stored_is_not_given_out_and_the_last_one_stands_while_it_is_good() {
    let world = World::new().await;
    let issued = issued(&world).await;
    let first = world.pki.crl().await.unwrap();
    world
        .pki
        .revoke(&issued.serial, Reason::Superseded, "test")
        .await
        .unwrap();
    let database = rusqlite::Connection::open(world.dir.path().join("store.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON pki_document BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
        )
        .unwrap();
    assert_eq!(world.pki.crl().await.unwrap(), first);
    world.pass(8 * DAY);
    assert!(world.pki.crl().await.is_err());
    database.execute_batch("DROP TRIGGER full").unwrap();
    assert_ne!(world.pki.crl().await.unwrap(), first);
}

/// Asks by `openssl ocsp`, through files.
async fn ask(world: &World, serial: &Serial, options: &[&str]) -> String {
    let [root, chain, _] = world.files(&[]);
    let path = |name: &str| world.dir.path().join(name).display().to_string();
    let (request, response) = (path("request.der"), path("response.der"));
    let serial = format!("0x{serial}");
    let mut arguments = vec!["ocsp"];
    arguments.extend_from_slice(options);
    arguments.extend(["-issuer", &chain, "-serial", &serial]);
    let mut asking = arguments.clone();
    asking.extend(["-reqout", &request]);
    openssl(&asking);
    let answer = world.pki.ocsp(&std::fs::read(&request).unwrap()).await;
    std::fs::write(&response, answer).unwrap();
    // The request has its nonce already.
    let mut reading = vec![
        "ocsp",
        "-no_nonce",
        "-reqin",
        &request,
        "-respin",
        &response,
    ];
    reading.extend(options.iter().filter(|option| **option != "-no_nonce"));
    reading.extend([
        "-CAfile",
        &root,
        "-verify_other",
        &chain,
        "-issuer",
        &chain,
        "-serial",
        &serial,
    ]);
    let (_, text) = openssl(&reading);
    text
}

#[tokio::test]
async fn openssl_verifies_ocsp_responses() {
    let world = World::new().await;
    let issued = issued(&world).await;
    for hash in ["-sha1", "-sha256"] {
        let text = ask(&world, &issued.serial, &[hash]).await;
        assert!(text.contains("Response verify OK"), "{hash}: {text}");
        assert!(text.contains(": good"), "{hash}: {text}");
        assert!(!text.contains("WARNING"), "the nonce is there: {text}");
    }
    let text = ask(&world, &issued.serial, &["-no_nonce"]).await;
    assert!(
        text.contains("Response verify OK") && text.contains(": good"),
        "{text}"
    );
    let text = ask(&world, &"4711".parse().unwrap(), &[]).await;
    assert!(text.contains(": unknown"), "{text}");
    world
        .pki
        .revoke(&issued.serial, Reason::KeyCompromise, "test")
        .await
        .unwrap();
    let text = ask(&world, &issued.serial, &[]).await;
    assert!(
        text.contains(": revoked") && text.contains("Reason: keyCompromise"),
        "{text}"
    );
}

#[tokio::test]
async fn ocsp_knows_nothing_of_other_cas() {
    let (world, other) = (World::new().await, World::new().await);
    let issued = issued(&world).await;
    // The serial number of one of ours, as of a CA with the same name and another key.
    let path = |name: &str| world.dir.path().join(name).display().to_string();
    let [_, chain, _] = other.files(&[]);
    let serial = format!("0x{}", issued.serial);
    let request = path("request.der");
    openssl(&[
        "ocsp", "-issuer", &chain, "-serial", &serial, "-reqout", &request,
    ]);
    let answer = world.pki.ocsp(&std::fs::read(&request).unwrap()).await;
    std::fs::write(path("response.der"), answer).unwrap();
    let (_, text) = openssl(&[
        "ocsp",
        "-respin",
        &path("response.der"),
        "-noverify",
        "-resp_text",
    ]);
    assert!(text.contains("Cert Status: unknown"), "{text}");
}

#[tokio::test]
async fn malformed_ocsp_requests_are_told_so() {
    const MALFORMED: [u8; 5] = [0x30, 0x03, 0x0A, 0x01, 0x01];
    let world = World::new().await;
    let [_, chain, _] = world.files(&[]);
    let path = world.dir.path().join("request.der").display().to_string();
    openssl(&[
        "ocsp", "-issuer", &chain, "-serial", "0x4711", "-reqout", &path,
    ]);
    let good = std::fs::read(&path).unwrap();
    assert_ne!(world.pki.ocsp(&good).await, MALFORMED);
    for length in 0..good.len() {
        assert_eq!(
            world.pki.ocsp(&good[..length]).await,
            MALFORMED,
            "{length} bytes"
        );
    }
    let mut long = good.clone();
    long.resize(MAX_OCSP_REQUEST + 1, 0);
    assert_eq!(world.pki.ocsp(&long).await, MALFORMED);
    // A nonce without any byte, and one that is too long (RFC 8954).
    let of_nonce = |nonce: &[u8]| nonced(&good, nonce);
    assert_ne!(world.pki.ocsp(&of_nonce(&[7; 32])).await, MALFORMED);
    assert_eq!(world.pki.ocsp(&of_nonce(&[])).await, MALFORMED);
    assert_eq!(world.pki.ocsp(&of_nonce(&[7; 33])).await, MALFORMED);
    // More certificates than are answered for.
    let mut arguments = vec!["ocsp", "-issuer", &chain];
    for _ in 0..17 {
        arguments.extend(["-serial", "0x4711"]);
    }
    arguments.extend(["-reqout", &path]);
    openssl(&arguments);
    assert_eq!(
        world.pki.ocsp(&std::fs::read(&path).unwrap()).await,
        MALFORMED
    );
}

/// The request with another nonce: OpenSSL puts its extensions last.
fn nonced(request: &[u8], nonce: &[u8]) -> Vec<u8> {
    let tlv = |tag: u8, parts: &[&[u8]]| {
        let contents = parts.concat();
        let length = u8::try_from(contents.len()).unwrap();
        let mut out = vec![tag];
        if length >= 0x80 {
            out.push(0x81);
        }
        out.push(length);
        out.extend(contents);
        out
    };
    // SEQUENCE { SEQUENCE { requestList, [2] … } }, all shorter than 128 bytes but the outer ones.
    // The nonce's OID stands behind three short headers; a hash may look like any one of them.
    let oid = [6, 9, 0x2B, 6, 1, 5, 5, 7, 0x30, 1, 2];
    let at = request.windows(oid.len()).position(|it| it == oid).unwrap() - 6;
    assert_eq!(request[at], 0xA2);
    let start = request[..at].iter().position(|&byte| byte == 0x30).unwrap();
    let header = |at: usize| if request[at + 1] & 0x80 == 0 { 2 } else { 3 };
    let inner = start + header(start);
    let list = &request[inner + header(inner)..at];
    let extension = tlv(0x30, &[&oid, &tlv(4, &[&tlv(4, &[nonce])])]);
    let extensions = tlv(0xA2, &[&tlv(0x30, &[&extension])]);
    tlv(0x30, &[&tlv(0x30, &[list, &extensions])])
}

#[tokio::test]
async fn the_ca_renews_the_certificates_of_its_services() {
    let world = World::new().await;
    let before = world.pki.signer().unwrap().chain;
    world.pki.upkeep().await.unwrap();
    assert_eq!(world.pki.signer().unwrap().chain, before);
    world.pass(61 * DAY);
    world.pki.upkeep().await.unwrap();
    let after = world.pki.signer().unwrap().chain;
    assert_ne!(after, before);
    let [root, chain, certificate] = world.files(&after[0]);
    let (good, text) = openssl(&[
        "verify",
        "-CAfile",
        &root,
        "-untrusted",
        &chain,
        &certificate,
    ]);
    assert!(good || text.contains("not yet valid"), "{text}");
    // Nobody renewed it in time.
    world.pass(91 * DAY);
    assert!(world.pki.signer().is_err());
}

#[tokio::test]
async fn the_services_keep_their_keys_over_a_restart() {
    let mut world = World::new().await;
    let before = world.pki.signer().unwrap().chain;
    world.again().await;
    assert_eq!(world.pki.signer().unwrap().chain, before);
}
