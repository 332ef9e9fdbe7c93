//! The CA's directory: made, imported, opened, shown.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use homefleet_server::clock::{Clock, Millis};
use homefleet_server::pki::{
    self, CaKeyKind, Import, ImportedKey, Init, Pki, PkiConfig, PkiError, TokenPlace,
};
use homefleet_server::store::sqlite::SqliteStore;

use super::world::{DEVICE, PASSPHRASE, World, init, openssl, order};

fn now() -> Millis {
    Millis::from(SystemTime::now())
}

/// Opens the CA with another directory, passphrase or PIN.
async fn open(world: &World, change: impl FnOnce(&mut PkiConfig)) -> Result<Pki, PkiError> {
    let mut config = world.config.clone();
    change(&mut config);
    let file = world.dir.path().join("other.sqlite");
    let store = Arc::new(SqliteStore::open(&file).unwrap());
    Pki::open(&config, store, Clock::system()).await
}

#[tokio::test]
async fn keys_are_under_a_passphrase_and_readable_by_their_owner_only() {
    let world = World::new().await;
    let directory = world.dir.path().join("pki");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for name in ["issuing.key", "root.key", "secrets.key"] {
        let path = directory.join(name);
        assert_eq!(mode(&path), 0o600, "{name}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{name}"
        );
    }
    // OpenSSL opens them by the passphrase, and says what they are under.
    for name in ["issuing.key", "root.key"] {
        let path = directory.join(name).display().to_string();
        let pass = format!("pass:{PASSPHRASE}");
        let (good, text) = openssl(&["pkey", "-in", &path, "-passin", &pass, "-noout", "-text"]);
        assert!(good && text.contains("prime256v1"), "{text}");
        let (_, text) = openssl(&["asn1parse", "-in", &path]);
        for part in ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[tokio::test]
async fn a_wrong_or_missing_passphrase_opens_nothing() {
    let world = World::new().await;
    let key = world.dir.path().join("pki/issuing.key");
    let refused = open(&world, |config| {
        config.passphrase = Some("wrong horse".to_owned().into())
    })
    .await;
    assert_eq!(refused.err(), Some(PkiError::WrongPassphrase(key)));
    let refused = open(&world, |config| config.passphrase = None).await;
    assert_eq!(refused.err(), Some(PkiError::NoPassphrase));
    let nowhere = world.dir.path().join("nowhere");
    let directory = nowhere.clone();
    let refused = open(&world, |config| config.directory = directory).await;
    assert_eq!(refused.err(), Some(PkiError::Missing(nowhere)));
}

#[tokio::test]
async fn the_root_key_can_be_away() {
    let mut world = World::new().await;
    std::fs::remove_file(world.dir.path().join("pki/root.key")).unwrap();
    world.again().await;
    world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    let shown = pki::show(&world.config.directory).unwrap();
    assert_eq!(shown[0].subject, "CN=Issuing,O=Test");
    assert_eq!(
        (shown[0].key_in.as_str(), shown[1].key_in.as_str()),
        ("file", "offline")
    );
    assert_eq!(shown[1].subject, shown[1].issuer);
}

#[test]
fn a_ca_is_not_made_over_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("pki");
    pki::init(&init(&directory, CaKeyKind::P256), now()).unwrap();
    let before = std::fs::read(directory.join("chain.pem")).unwrap();
    let refused = pki::init(&init(&directory, CaKeyKind::P256), now());
    assert_eq!(refused, Err(PkiError::Exists(directory.clone())));
    assert_eq!(std::fs::read(directory.join("chain.pem")).unwrap(), before);
    // A directory with something else in it stays as it is, too.
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("file"), "x").unwrap();
    assert!(pki::init(&init(&other, CaKeyKind::P256), now()).is_err());
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "nothing is left behind"
    );
}

#[test]
fn shapes_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut Init)| {
        let mut init = init(&dir.path().join("pki"), CaKeyKind::P256);
        change(&mut init);
        pki::init(&init, now()).unwrap_err()
    };
    let weak = PkiError::WeakPassphrase { found: 5, least: 8 };
    assert_eq!(
        refused(|init| init.passphrase = "horse".to_owned().into()),
        weak
    );
    assert_eq!(
        refused(|init| init.root_passphrase = Some("horse".to_owned().into())),
        weak
    );
    for change in [
        (|init| init.issuing.lifetime = init.root.lifetime * 2) as fn(&mut Init),
        |init| init.issuing.subject = "nothing".to_owned(),
        |init| init.root.subject = String::new(),
        |init| init.issuing.subject.clone_from(&init.root.subject),
    ] {
        assert!(matches!(refused(change), PkiError::Option(_)));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// An issuing CA as OpenSSL makes it: chain and key files.
fn foreign(dir: &Path, constraints: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let path = |name: &str| dir.join(name).display().to_string();
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    let run = |arguments: &[&str]| {
        let (good, text) = openssl(arguments);
        assert!(good, "{text}");
    };
    run(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-keyout",
        &path("r.key"),
        "-out",
        &path("r.pem"),
        "-subj",
        "/CN=Foreign Root",
        "-days",
        "3650",
    ]);
    run(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-aes256",
        "-pass",
        "pass:their passphrase",
        "-out",
        &path("i.key"),
    ]);
    run(&[
        "req",
        "-new",
        "-key",
        &path("i.key"),
        "-passin",
        "pass:their passphrase",
        "-out",
        &path("i.csr"),
        "-subj",
        "/CN=Foreign Issuing",
    ]);
    std::fs::write(
        dir.join("i.ext"),
        format!("basicConstraints=critical,{constraints}\n{usage}\nsubjectKeyIdentifier=hash\n"),
    )
    .unwrap();
    run(&[
        "x509",
        "-req",
        "-in",
        &path("i.csr"),
        "-CA",
        &path("r.pem"),
        "-CAkey",
        &path("r.key"),
        "-CAcreateserial",
        "-extfile",
        &path("i.ext"),
        "-out",
        &path("i.pem"),
        "-days",
        "3000",
    ]);
    let chain = std::fs::read_to_string(path("i.pem")).unwrap()
        + &std::fs::read_to_string(path("r.pem")).unwrap();
    std::fs::write(path("c.pem"), chain).unwrap();
    (dir.join("c.pem"), dir.join("i.key"))
}

fn imported(dir: &Path, chain: &Path, key: &Path) -> Import {
    Import {
        directory: dir.join("imported"),
        chain: chain.to_owned(),
        key: ImportedKey::File(key.to_owned(), "their passphrase".to_owned().into()),
        passphrase: PASSPHRASE.to_owned().into(),
        iterations: Some(1000),
    }
}

#[tokio::test]
async fn an_issuing_ca_that_openssl_made_is_imported_and_issues() {
    let world = World::new().await;
    let (chain, key) = foreign(world.dir.path(), "CA:TRUE,pathlen:0");
    let import = imported(world.dir.path(), &chain, &key);
    pki::import(&import).unwrap();
    let pki = open(&world, |config| config.directory = import.directory.clone())
        .await
        .unwrap();
    let issued = pki.issue(order(DEVICE), now()).await.unwrap();
    let path = |name: &str| world.dir.path().join(name).display().to_string();
    let certificate = world.pem("certificate.pem", "CERTIFICATE", &[&issued.der]);
    let crl = world.pem("crl.pem", "X509 CRL", &[&pki.crl().await.unwrap()]);
    let (good, text) = openssl(&[
        "verify",
        "-crl_check",
        "-CRLfile",
        &crl,
        "-CAfile",
        &path("r.pem"),
        "-untrusted",
        &path("i.pem"),
        &certificate,
    ]);
    assert!(good, "{text}");
    assert_eq!(
        pki::import(&import),
        Err(PkiError::Exists(import.directory.clone()))
    );
}

#[test]
fn what_cannot_issue_is_not_imported() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = foreign(dir.path(), "CA:TRUE,pathlen:0");
    let good = imported(dir.path(), &chain, &key);
    let refused = |import: &Import| pki::import(import).unwrap_err();
    let mut wrong = good.clone();
    wrong.key = ImportedKey::File(key.clone(), "wrong passphrase".to_owned().into());
    assert_eq!(refused(&wrong), PkiError::WrongPassphrase(key.clone()));
    // The key of another CA, here the root's, in the clear, and then under a passphrase.
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut other = good.clone();
    other.key = ImportedKey::File(
        dir.path().join("r.key"),
        "their passphrase".to_owned().into(),
    );
    assert!(
        matches!(refused(&other), PkiError::File { .. }),
        "a key in the clear"
    );
    openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        &path("r.key"),
        "-out",
        &path("old.key"),
        "-v2",
        "des3",
        "-passout",
        "pass:their passphrase",
    ]);
    let mut old = good.clone();
    old.key = ImportedKey::File(
        dir.path().join("old.key"),
        "their passphrase".to_owned().into(),
    );
    let error = refused(&old).to_string();
    assert!(
        error.contains("openssl pkcs8 -topk8 -v2 aes-256-cbc"),
        "{error}"
    );
    openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        &path("r.key"),
        "-out",
        &path("r8.key"),
        "-scrypt",
        "-passout",
        "pass:their passphrase",
    ]);
    other.key = ImportedKey::File(
        dir.path().join("r8.key"),
        "their passphrase".to_owned().into(),
    );
    assert_eq!(refused(&other), PkiError::KeyDiffers);
    // Chains that lead nowhere.
    let certificate = |problem: &str, import: &Import| {
        let error = refused(import);
        assert!(
            matches!(&error, PkiError::Certificate { problem: found, .. } if found.contains(problem)),
            "{error}"
        );
    };
    let mut reversed = good.clone();
    reversed.chain = dir.path().join("reversed.pem");
    let text = std::fs::read_to_string(path("r.pem")).unwrap()
        + &std::fs::read_to_string(path("i.pem")).unwrap();
    std::fs::write(&reversed.chain, text).unwrap();
    certificate("not issued by the next one", &reversed);
    let mut empty = good.clone();
    empty.chain = dir.path().join("empty.pem");
    std::fs::write(&empty.chain, "").unwrap();
    assert!(matches!(refused(&empty), PkiError::Certificate { .. }));
    let (leaf, leaf_key) = foreign(dir.path(), "CA:FALSE");
    certificate(
        "not the certificate of a CA",
        &imported(dir.path(), &leaf, &leaf_key),
    );
    assert!(!good.directory.exists());
}

/// A SoftHSM token in a directory of its own.
#[allow(clippy::print_stderr)]
fn token(dir: &Path) -> Option<TokenPlace> {
    let module = "/usr/lib/softhsm/libsofthsm2.so";
    if !Path::new(module).exists() {
        assert!(std::env::var_os("CI").is_none(), "softhsm2 is missing");
        eprintln!("SKIPPED: softhsm2 is missing");
        return None;
    }
    let tokens = dir.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let file = dir.join("softhsm2.conf");
    std::fs::write(
        &file,
        format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    let output = std::process::Command::new("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            "homefleet",
            "--pin",
            "123456",
            "--so-pin",
            "654321",
        ])
        .env("SOFTHSM2_CONF", &file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(TokenPlace {
        module: module.into(),
        token: "homefleet".to_owned(),
        key: "issuing".to_owned(),
    })
}

const TOKEN: &str = "HOMEFLEET_TEST_TOKEN";

/// The process that has the token: the module reads its configuration from the environment.
#[tokio::test]
#[ignore = "started by a_key_in_a_token_issues"]
async fn helper_has_a_token() {
    let Some(dir) = std::env::var_os(TOKEN) else {
        return;
    };
    let dir = Path::new(&dir);
    let world = World::new().await;
    for (place, kind) in [CaKeyKind::P256, CaKeyKind::P384, CaKeyKind::Rsa3072]
        .into_iter()
        .enumerate()
    {
        let token = TokenPlace {
            module: "/usr/lib/softhsm/libsofthsm2.so".into(),
            token: "homefleet".to_owned(),
            key: format!("issuing{place}"),
        };
        let mut init = init(&dir.join(format!("pki{place}")), CaKeyKind::P256);
        init.issuing.key = kind;
        init.token = Some((token.clone(), "123456".to_owned().into()));
        pki::init(&init, now()).unwrap();
        assert!(!init.directory.join("issuing.key").exists());
        let opened = async |pin: Option<&str>| {
            open(&world, |config| {
                config.directory.clone_from(&init.directory);
                config.pin = pin.map(|pin| pin.to_owned().into());
            })
            .await
        };
        assert_eq!(opened(None).await.err(), Some(PkiError::NoPin));
        let pki = opened(Some("123456")).await.unwrap();
        let issued = pki.issue(order(DEVICE), now()).await.unwrap();
        let chain = pki.chain();
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let root = world.pem("root.pem", "CERTIFICATE", &[&pki.root()]);
        let chain = world.pem("chain.pem", "CERTIFICATE", &chain);
        let certificate = world.pem("certificate.pem", "CERTIFICATE", &[&issued.der]);
        let (good, text) = openssl(&[
            "verify",
            "-CAfile",
            &root,
            "-untrusted",
            &chain,
            &certificate,
        ]);
        assert!(good, "{kind}: {text}");
        assert_eq!(pki::show(&init.directory).unwrap()[0].key_in, "pkcs11");
        // The same key, imported: it stays where it is.
        let import = Import {
            directory: dir.join(format!("imported{place}")),
            chain: init.directory.join("chain.pem"),
            key: ImportedKey::Token(token.clone(), "123456".to_owned().into()),
            passphrase: PASSPHRASE.to_owned().into(),
            iterations: Some(1000),
        };
        pki::import(&import).unwrap();
        // A second one is not made over it.
        init.directory = dir.join("again");
        let refused = pki::init(&init, now()).unwrap_err();
        assert!(
            matches!(&refused, PkiError::Token(problem) if problem.contains("there already")),
            "{refused}"
        );
        let mut elsewhere = import.clone();
        elsewhere.directory = dir.join("elsewhere");
        let missing = TokenPlace {
            token: "other".to_owned(),
            ..token.clone()
        };
        elsewhere.key = ImportedKey::Token(missing, "123456".to_owned().into());
        assert!(matches!(pki::import(&elsewhere), Err(PkiError::Token(_))));
        let missing = TokenPlace {
            key: "other".to_owned(),
            ..token
        };
        elsewhere.key = ImportedKey::Token(missing, "123456".to_owned().into());
        assert!(matches!(pki::import(&elsewhere), Err(PkiError::Token(_))));
    }
    let mut sensible = init(&dir.join("edwards"), CaKeyKind::Ed25519);
    let token = TokenPlace {
        module: "/usr/lib/softhsm/libsofthsm2.so".into(),
        token: "homefleet".to_owned(),
        key: "edwards".to_owned(),
    };
    sensible.token = Some((token, "123456".to_owned().into()));
    assert!(matches!(
        pki::init(&sensible, now()),
        Err(PkiError::Option(_))
    ));
    std::fs::write(dir.join("done"), "").unwrap();
}

#[test]
fn a_key_in_a_token_issues() {
    let dir = tempfile::tempdir().unwrap();
    if token(dir.path()).is_none() {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "pki::setup::helper_has_a_token",
            "--nocapture",
        ])
        .env(TOKEN, dir.path())
        .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && dir.path().join("done").exists(),
        "{text}"
    );
}

#[tokio::test]
async fn a_directory_of_another_version_or_with_unknown_keys_is_refused() {
    let world = World::new().await;
    let path = world.dir.path().join("pki/ca.toml");
    for text in ["version = 2\n", "version = 1\nkey = \"x\"\n", "nothing"] {
        std::fs::write(&path, text).unwrap();
        let refused = open(&world, |_| ()).await.err().unwrap();
        assert!(
            matches!(&refused, PkiError::File { path: at, .. } if *at == path),
            "{refused}"
        );
    }
}
