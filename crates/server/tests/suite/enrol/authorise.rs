//! Who may ask, and for what: manufacturers' certificates, certificates of ours, RAs, keys made by the CA.

use std::time::Duration;

use homefleet_cmp::asn1::{
    Body, CertTemplate, EncodedMessage, EncryptedKey, Failure, GeneralName, Info, Message, Name,
    ProofOfPossession, RevDetails,
};
use homefleet_cmp::crypto::{KeyKind, KeyPair, MacPolicy, Secret, Signer as _};
use homefleet_cmp::key_delivery::{self, Opener};
use homefleet_cmp::protection::{Distrust, Peers};
use homefleet_cmp::{CertificateParts, oid};
use homefleet_server::Config;
use homefleet_server::config::PkiProfile;

use super::client::{Http, Requester, certificate, key, request, template};
use super::world::{DEVICE, SECRET, World, by_certificate};

/// A CA of a manufacturer in `maker.pem`, and a device's certificate of it in `idevid.pem`.
fn manufacturer(world: &World) {
    world.key("maker");
    world.key("idevid");
    world.shell(
        "openssl req -x509 -new -key maker.key -subj /O=Maker/CN=maker -days 20 -out maker.pem
         openssl req -new -key idevid.key -subj /O=Maker/serialNumber=42 -out idevid.csr
         openssl x509 -req -in idevid.csr -CA maker.pem -CAkey maker.key -set_serial 42 -days 20 -out idevid.pem",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manufacturers_certificate_is_good_for_a_first_certificate_where_it_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let maker = dir.path().join("maker.pem");
    std::fs::write(&maker, "").unwrap();
    let world = World::new().await;
    manufacturer(&world);
    world.key("new");
    let ask = format!(
        "-cmd ir {} -newkey new.key -subject /CN=42 -certout new.pem",
        by_certificate("idevid")
    );
    let path = ".well-known/cmp/p/open";
    let (good, printed) = world.cmp_at(path, &ask).await;
    assert!(!good && printed.contains("signerNotTrusted"), "{printed}");
    std::fs::copy(world.path("maker.pem"), &maker).unwrap();
    let world = world
        .restart_with(|config| config.cmp.manufacturers = vec![maker])
        .await;
    let (good, printed) = world.cmp_at(path, &ask).await;
    assert!(good, "{printed}");
    world.shell("openssl verify -CAfile root.pem -untrusted ca.pem new.pem");
    // It is not ours to be updated, nor to be revoked.
    for ask in [
        format!(
            "-cmd kur {} -newkey new.key -certout more.pem",
            by_certificate("idevid")
        ),
        format!(
            "-cmd rr {} -oldcert new.pem -revreason 1",
            by_certificate("idevid")
        ),
    ] {
        let (good, printed) = world.cmp_at(path, &ask).await;
        assert!(!good && printed.contains("notAuthorized"), "{printed}");
    }
    assert_eq!(world.issued().await, 1);
}

/// A revocation of the certificate in `NAME.der`.
fn revocation(world: &World, name: &str) -> Body {
    let der = homefleet_cmp::asn1::Certificate::from_der(&world.read(name)).unwrap();
    let parts = CertificateParts::read(&der).unwrap();
    let reason = x509_cert::ext::Extension {
        extn_id: oid::REASON_CODE,
        critical: false,
        extn_value: der::asn1::OctetString::new([0x0A, 1, 4]).unwrap(),
    };
    let entry = der::Encode::to_der(&vec![reason]).unwrap();
    Body::Rr(vec![RevDetails {
        cert_details: CertTemplate {
            issuer: Some(parts.issuer),
            serial_number: Some(der::asn1::Int::new(&parts.serial).unwrap()),
            ..CertTemplate::default()
        },
        crl_entry_details: Some(homefleet_cmp::asn1::Extensions::from_der(&entry).unwrap()),
    }])
}

/// A server with a profile of RAs, and an RA's certificate in `ra.pem`.
async fn with_ra() -> World {
    let world = World::with(|config| {
        config.pki.profile.push(PkiProfile {
            name: "ra".to_owned(),
            extended_key_usage: vec!["cmc_ra".to_owned()],
            who: vec!["secret".to_owned()],
            subject: Some("CN=ra".to_owned()),
            san: Vec::new(),
            ..PkiProfile::device()
        });
    })
    .await;
    world
        .add(homefleet_api::NewEnrolmentSecret {
            reference: Some("ra".to_owned()),
            secret: Some(SECRET.to_owned()),
            profile: Some("ra".to_owned()),
            ..Default::default()
        })
        .await;
    world.key("ra");
    let by = super::world::by_secret("ra");
    let (good, printed) = world
        .cmp_at(
            ".well-known/cmp/p/ra",
            &format!("-cmd ir {by} -newkey ra.key -subject /CN=ra -certout ra.pem"),
        )
        .await;
    assert!(good, "{printed}");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ra_adds_its_protection_and_revokes_for_others() {
    let world = with_ra().await;
    world.enrol("device", DEVICE).await;
    world.add_secret("os::00D09E-43", SECRET).await;
    let mut http = Http::to(world.address());
    let key = key(KeyKind::P256);
    let nested = |by: &mut Requester, inner: &[u8]| {
        let decoded = Message::decode(inner, &Default::default()).unwrap();
        let body = Body::Nested(vec![EncodedMessage::from_der(inner).unwrap()]);
        by.message(body, None, |header| {
            header.transaction_id = decoded.header.transaction_id.clone();
            header.sender_nonce = decoded.header.sender_nonce.clone();
        })
    };
    let mut ra = Requester::by_certificate(&world, "ra");
    let ir = Requester::by_secret("os::00D09E-43").ir(&key);
    let mut device = Requester::by_certificate(&world, "device");
    // The certificate of a device adds nothing.
    let reply = http.post(&nested(&mut device, &ir));
    assert_eq!(reply.failure(), [Failure::NotAuthorized]);
    let reply = http.post(&nested(&mut ra, &ir));
    assert!(reply.failure().is_empty(), "{}", reply.status_info());
    // The protection of the RA does not make up for a wrong one inside.
    let wrong = Requester::by("os::00D09E-43", "guessed").ir(&key);
    let reply = http.post(&nested(&mut ra, &wrong));
    assert_eq!(reply.failure(), [Failure::BadMessageCheck]);

    let rr = revocation(&world, "device.der");
    let stranger = Requester::by_secret("os::00D09E-43").message(rr.clone(), None, |_| ());
    assert_eq!(http.post(&stranger).failure(), [Failure::WrongIntegrity]);
    let mut ra = Requester::by_certificate(&world, "ra");
    let reply = http.post(&ra.message(rr.clone(), None, |_| ()));
    assert!(reply.failure().is_empty(), "{}", reply.status_info());
    let again = http.post(&Requester::by_certificate(&world, "ra").message(rr, None, |_| ()));
    assert!(matches!(
        again.failure().as_slice(),
        [] | [Failure::CertRevoked]
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ra_may_say_that_possession_was_verified() {
    let world = with_ra().await;
    let mut http = Http::to(world.address());
    let key = key(KeyKind::P256);
    let mut vouched = request(template("new", &key), None);
    vouched.popo = Some(ProofOfPossession::RaVerified(der::asn1::Null));
    let body = Body::Cr(vec![vouched]);
    let mut ra = Requester::by_certificate(&world, "ra");
    let reply = http.post_to("/.well-known/cmp/p/open", &ra.message(body, None, |_| ()));
    assert!(reply.failure().is_empty(), "{}", reply.status_info());
    let parts = CertificateParts::read(&certificate(&reply.message())).unwrap();
    assert_eq!(parts.public_key, key.public_key());
}

/// Believes everybody: what is tested is the key.
struct Anybody;

impl Peers for Anybody {
    fn secret(&self, _: &[u8]) -> Option<Secret> {
        None
    }

    fn judge(
        &self,
        _: &homefleet_cmp::asn1::Certificate,
        _: &[homefleet_cmp::asn1::Certificate],
    ) -> Result<(), Distrust> {
        Ok(())
    }
}

fn private_key(message: &Message) -> homefleet_cmp::asn1::EnvelopedData {
    let (Body::Ip(content) | Body::Cp(content)) = &*message.body else {
        panic!("{}", message.body.kind());
    };
    let pair = content.response[0].certified_key_pair.as_ref().unwrap();
    match pair.private_key.clone().unwrap() {
        EncryptedKey::EnvelopedData(data) => data,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_makes_a_key_where_the_profile_lets_it() {
    let world = World::new().await;
    world.add_secret(DEVICE, SECRET).await;
    let mut http = Http::to(world.address());
    let wish = || {
        let template = CertTemplate {
            subject: Some(Name::common("new")),
            ..CertTemplate::default()
        };
        vec![request(template, None)]
    };
    let by_secret =
        || Requester::by_secret(DEVICE).message(Body::Ir(wish()), None, |header| header.pvno = 3);
    let refused = http.post(&by_secret());
    assert_eq!(refused.failure(), [Failure::NotAuthorized]);
    let path = "/.well-known/cmp/p/open";
    let reply = http.post_to(path, &by_secret()).message();
    let opener = Opener::Secret(&Secret::new(SECRET), MacPolicy::default());
    let opened = key_delivery::open(&private_key(&reply), &opener, &Anybody).unwrap();
    let made = KeyPair::from_pkcs8(KeyKind::P256, opened.pkcs8()).unwrap();
    let parts = CertificateParts::read(&certificate(&reply)).unwrap();
    assert_eq!(parts.public_key, made.public_key());

    // For the holder of a certificate, by key agreement.
    world.enrol("device", "os::00D09E-43").await;
    let mut device = Requester::by_certificate(&world, "device");
    let cr = device.message(Body::Cr(wish()), None, |header| header.pvno = 3);
    let reply = http.post_to(path, &cr).message();
    let pkcs8 = world.read("device.pk8");
    let opened = key_delivery::open(&private_key(&reply), &Opener::P256(&pkcs8), &Anybody).unwrap();
    let made = KeyPair::from_pkcs8(KeyKind::P256, opened.pkcs8()).unwrap();
    let parts = CertificateParts::read(&certificate(&reply)).unwrap();
    assert_eq!(parts.public_key, made.public_key());
    // The key is nowhere to be found.
    let store = std::fs::read(world.config.store_path()).unwrap();
    let private = &opened.pkcs8()[opened.pkcs8().len() / 2..][..24];
    assert!(!store.windows(private.len()).any(|it| it == private));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_keeps_its_subject() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    let mut http = Http::to(world.address());
    let key = key(KeyKind::P256);
    let mut kur = |subject: Name| {
        let mut device = Requester::by_certificate(&world, "device");
        let mut template = template("x", &key);
        template.subject = Some(subject);
        let body = Body::Kur(vec![request(template, Some(&key))]);
        http.post(&device.message(body, None, |_| ()))
    };
    let reply = kur(Name::common("somebody else"));
    assert_eq!(reply.failure(), [Failure::BadCertTemplate]);
    let reply = kur(Name::common(DEVICE));
    assert!(reply.failure().is_empty(), "{}", reply.status_info());
    assert!(kur(Name::null()).failure().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_after_the_end_is_taken_within_the_grace_of_the_profile() {
    let lifetime = Duration::from_secs(20);
    let with_grace = |grace: u64| {
        move |config: &mut Config| {
            config.pki.default_profile = "open".to_owned();
            for profile in &mut config.pki.profile {
                (profile.lifetime, profile.renewal_grace) = (lifetime.as_secs(), grace);
            }
        }
    };
    let kur = |world: &World| {
        let key = key(KeyKind::P256);
        let mut device = Requester::by_certificate(world, "device");
        let template = template("new", &key);
        let body = Body::Kur(vec![request(template, Some(&key))]);
        Http::to(world.address()).post(&device.message(body, None, |_| ()))
    };
    let world = World::with(with_grace(3600)).await;
    world.enrol("device", DEVICE).await;
    // It ends at a time of the day, not at an event.
    tokio::time::sleep(lifetime + Duration::from_secs(1)).await;
    let reply = kur(&world);
    assert!(reply.failure().is_empty(), "{}", reply.status_info());
    let world = world.restart_with(with_grace(0)).await;
    assert_ne!(kur(&world).failure(), []);
}

/// The answers to questions.
fn ask(world: &World, path: &str, infos: &[Info]) -> Vec<Info> {
    let infos = infos.iter().map(|info| info.write().unwrap()).collect();
    let mut device = Requester::by_certificate(world, "device");
    let genm = device.message(Body::Genm(infos), None, |_| ());
    let reply = Http::to(world.address()).post_to(path, &genm).message();
    let Body::Genp(infos) = &*reply.body else {
        panic!("{}", reply.body.kind());
    };
    infos.iter().map(|info| Info::read(info).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_and_what_is_not_known_is_named() {
    let world = World::new().await;
    world.enrol("device", DEVICE).await;
    world.shell("openssl x509 -in device.pem -outform DER -out device.der");
    let path = "/.well-known/cmp";
    let root = homefleet_cmp::asn1::Certificate::from_der(&world.read("root.der")).unwrap();
    let ca = homefleet_cmp::asn1::Certificate::from_der(&world.read("ca.der")).unwrap();
    let answers = ask(
        &world,
        path,
        &[
            Info::CaCerts(None),
            Info::RootCaCert(Some(root.clone())),
            Info::RootCaCert(Some(ca.clone())),
            Info::CertReqTemplate(None),
            Info::KeyPairTypes(oid::SIGN_KEY_PAIR_TYPES, None),
            Info::SuppLangTags(vec!["de".to_owned()]),
            Info::CurrentCrl(None),
            Info::Other(homefleet_cmp::asn1::InfoTypeAndValue::ask(oid::REG_TOKEN)),
        ],
    );
    let [
        Info::CaCerts(Some(certificates)),
        Info::RootCaKeyUpdate(None),
        Info::RootCaKeyUpdate(None),
        Info::CertReqTemplate(Some(template)),
        Info::KeyPairTypes(_, Some(kinds)),
        Info::SuppLangTags(tags),
        Info::CurrentCrl(Some(crl)),
        Info::UnsupportedOids(oids),
    ] = answers.as_slice()
    else {
        panic!("{answers:?}");
    };
    assert_eq!(certificates, &[ca]);
    assert_eq!(template.key_spec.as_ref().unwrap().len(), 4);
    assert_eq!(kinds.len(), 4);
    assert_eq!(tags, &["en"]);
    assert_eq!(oids, &[oid::REG_TOKEN]);

    // The list is sent when it is newer than what is known.
    let issuer = CertificateParts::read(&certificates[0]).unwrap().subject;
    let name = der::Encode::to_der(&vec![GeneralName::directory(&issuer).unwrap()]).unwrap();
    let source = homefleet_cmp::asn1::CrlSource::Issuer(
        homefleet_cmp::asn1::GeneralNames::from_der(&name).unwrap(),
    );
    let list: x509_cert::crl::CertificateList = der::Decode::from_der(&crl.to_der()).unwrap();
    for (this_update, newer) in [(None, true), (Some(list.tbs_cert_list.this_update), false)] {
        let status = homefleet_cmp::asn1::CrlStatus {
            source: source.clone(),
            this_update,
        };
        let answers = ask(&world, path, &[Info::CrlStatusList(vec![status])]);
        assert!(
            matches!(answers.as_slice(), [Info::Crls(crls)] if crls.is_some() == newer),
            "{answers:?}"
        );
    }
}
