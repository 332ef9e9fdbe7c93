//! `homefleet cmp …` as a person uses it, against a CA behind HTTP.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use homefleet_cmp::asn1::Failure;

use crate::cmp_ca::{CmpCa, Http, Standing};
use crate::support::{Ran, fresh_dir, run};

/// A CA, and a directory with a secret that it knows.
struct World {
    ca: Arc<CmpCa>,
    http: Http,
    dir: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let ca = CmpCa::new();
        ca.add_secret("device-1", "correct horse");
        let http = runtime.block_on(ca.serve());
        let dir = fresh_dir(name);
        let world = Self {
            ca,
            http,
            dir,
            _runtime: runtime,
        };
        fs::write(world.path("secret"), "correct horse\n").unwrap();
        fs::set_permissions(world.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(world.path("root.pem"), world.ca.root_pem()).unwrap();
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs `homefleet cmp VERB --url …`; what begins with @ is a file of the directory.
    fn run(&self, verb: &str, rest: &[&str]) -> Ran {
        let url = self.http.url();
        let rest: Vec<String> = rest
            .iter()
            .map(|arg| {
                arg.strip_prefix('@')
                    .map_or((*arg).to_owned(), |name| self.path(name))
            })
            .collect();
        let mut args = vec!["cmp", verb, "--url", &url];
        args.extend(rest.iter().map(String::as_str));
        run(&args)
    }

    fn with_secret(&self, verb: &str, rest: &[&str]) -> Ran {
        let mut all = vec!["--reference", "device-1", "--secret-file", "@secret"];
        all.extend(rest);
        self.run(verb, &all)
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    fn enroll(&self) {
        let names = [
            "--subject",
            "CN=device-1",
            "--san",
            "uri:urn:bbf:usp:id:os::1",
        ];
        let files = [
            "--out",
            "@d.pem",
            "--out-key",
            "@d.key",
            "--out-ca",
            "@ca.pem",
        ];
        self.with_secret("enroll", &[&names[..], &files].concat())
            .code(0);
    }
}

fn openssl(args: &[&str]) -> String {
    let output = std::process::Command::new("openssl")
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_certificate_is_enrolled_updated_and_revoked() {
    let world = World::new("cmp-life");
    world.enroll();
    // What came is a key with its certificate, by the CA that came with it, for its owner alone.
    for name in ["d.pem", "d.key", "ca.pem"] {
        assert_eq!(world.mode(name), 0o600, "{name}");
    }
    openssl(&[
        "verify",
        "-CAfile",
        &world.path("ca.pem"),
        &world.path("d.pem"),
    ]);
    let of_key = openssl(&["pkey", "-in", &world.path("d.key"), "-pubout"]);
    let of_certificate = openssl(&["x509", "-in", &world.path("d.pem"), "-noout", "-pubkey"]);
    assert_eq!(of_key, of_certificate);
    let names = openssl(&[
        "x509",
        "-in",
        &world.path("d.pem"),
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    assert!(names.contains("URI:urn:bbf:usp:id:os::1"), "{names}");

    let by_it = ["--cert", "@d.pem", "--key", "@d.key", "--ca", "@ca.pem"];
    let files = ["--out", "@d2.pem", "--out-key", "@d2.key"];
    let ran = world.run("update", &[&by_it[..], &files].concat()).code(0);
    assert!(
        ran.err.contains("kur sent") && ran.err.contains("certConf sent"),
        "{ran:?}"
    );
    let names = openssl(&[
        "x509",
        "-in",
        &world.path("d2.pem"),
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    assert!(names.contains("URI:urn:bbf:usp:id:os::1"), "{names}");
    assert_ne!(
        of_key,
        openssl(&["pkey", "-in", &world.path("d2.key"), "-pubout"])
    );
    assert_eq!(world.ca.valid().len(), 2);

    let by_new = ["--cert", "@d2.pem", "--key", "@d2.key", "--ca", "@ca.pem"];
    let which = ["--certificate", "@d.pem", "--reason", "superseded"];
    world.run("revoke", &[&by_new[..], &which].concat()).code(0);
    assert_eq!(world.ca.records()[0].standing, Standing::Revoked);
    let ran = world.run("revoke", &by_new).code(0);
    assert!(ran.out.contains("is revoked"), "{ran:?}");
    assert_eq!(world.ca.valid(), Vec::<u64>::new());
    // Which then asks for nothing any more.
    let ran = world
        .run("info", &[&by_new[..], &["ca-certs"]].concat())
        .code(4);
    assert!(ran.err.contains("SignerNotTrusted"), "{ran:?}");
}

#[test]
fn json_tells_programs_what_came() {
    let world = World::new("cmp-json");
    let files = [
        "--out",
        "@d.pem",
        "--out-key",
        "@d.key",
        "--subject",
        "device-1",
        "--json",
        "-q",
    ];
    let ran = world.with_secret("enroll", &files).code(0);
    assert_eq!(ran.err, "");
    let told = ran.json();
    assert_eq!(told["subject"], "CN=device-1");
    assert_eq!(told["issuer"], "CN=Test CMP CA");
    assert_eq!(told["serial"], "1001");
    assert_eq!(told["certificate"], world.path("d.pem"));
    let ran = world
        .with_secret("info", &["ca-certs", "--json", "--out", "@ca.pem"])
        .code(0);
    assert_eq!(ran.json()[0]["ca_certs"][0]["subject"], "CN=Test CMP CA");
    assert_eq!(
        fs::read_to_string(world.path("ca.pem")).unwrap().trim(),
        world.ca.root_pem().replace("\r\n", "\n").trim()
    );
}

#[test]
fn a_key_of_ones_own_and_a_pkcs10_request_will_do() {
    let world = World::new("cmp-own");
    let key = world.path("own.key");
    openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        &key,
    ]);
    let ran = world
        .with_secret(
            "enroll",
            &[
                "--new-key",
                "@own.key",
                "--out",
                "@own.pem",
                "--request",
                "cr",
                "--subject",
                "x",
            ],
        )
        .code(0);
    assert!(ran.err.contains("cr sent"), "{ran:?}");
    let of_certificate = openssl(&["x509", "-in", &world.path("own.pem"), "-noout", "-pubkey"]);
    assert_eq!(of_certificate, openssl(&["pkey", "-in", &key, "-pubout"]));
    let csr = world.path("own.csr");
    openssl(&[
        "req",
        "-new",
        "-key",
        &key,
        "-subj",
        "/CN=device-1",
        "-out",
        &csr,
    ]);
    let ran = world
        .with_secret("enroll", &["--csr", "@own.csr", "--out", "@csr.pem"])
        .code(0);
    assert!(ran.err.contains("p10cr sent"), "{ran:?}");
}

#[test]
fn implicit_confirmation_saves_a_message() {
    let world = World::new("cmp-implicit");
    let files = [
        "--out",
        "@d.pem",
        "--out-key",
        "@d.key",
        "--subject",
        "x",
        "--implicit-confirm",
        "--mac",
        "pbmac1",
    ];
    world.with_secret("enroll", &files).code(0);
    assert_eq!(world.ca.trace(), ["ir ip"]);
    assert_eq!(world.ca.valid().len(), 1);
}

#[test]
fn files_that_are_there_are_not_overwritten_and_nobody_is_asked() {
    let world = World::new("cmp-there");
    for there in ["d.pem", "d.key", "ca.pem"] {
        fs::write(world.path(there), "mine").unwrap();
        let files = [
            "--out",
            "@d.pem",
            "--out-key",
            "@d.key",
            "--out-ca",
            "@ca.pem",
        ];
        let ran = world.with_secret("enroll", &files).code(2);
        assert!(ran.err.contains("is not overwritten"), "{ran:?}");
        assert_eq!(fs::read_to_string(world.path(there)).unwrap(), "mine");
        fs::remove_file(world.path(there)).unwrap();
    }
    assert!(world.ca.trace().is_empty());
}

#[test]
fn a_refusal_is_exit_code_4_and_leaves_no_file() {
    let world = World::new("cmp-refused");
    world
        .ca
        .change(|policy| policy.refuse = Some(Failure::BadCertTemplate));
    let files = ["--out", "@d.pem", "--out-key", "@d.key", "--subject", "x"];
    let ran = world.with_secret("enroll", &files).code(4);
    assert!(ran.err.contains("BadCertTemplate: not today"), "{ran:?}");
    assert!(!fs::exists(world.path("d.pem")).unwrap() && !fs::exists(world.path("d.key")).unwrap());
}

#[test]
fn a_ca_that_does_not_know_the_secret_is_not_believed_and_quoted_as_such() {
    let world = World::new("cmp-wrong");
    fs::write(world.path("secret"), "wrong").unwrap();
    let ran = world.with_secret("info", &["ca-certs"]).code(4);
    assert!(
        ran.err.contains("unverified") && ran.err.contains("BadMessageCheck"),
        "{ran:?}"
    );
    // With the CA at hand it is a refusal that counts.
    let ran = world
        .with_secret("info", &["ca-certs", "--ca", "@root.pem"])
        .code(4);
    assert!(
        ran.err
            .contains("the CA refuses: rejection BadMessageCheck"),
        "{ran:?}"
    );
}

#[test]
fn a_ca_that_is_not_there_is_exit_code_5() {
    let world = World::new("cmp-away");
    let secret = world.path("secret");
    let args = [
        "cmp",
        "info",
        "--url",
        "http://127.0.0.1:9",
        "--reference",
        "r",
        "--secret-file",
        &secret,
        "--timeout",
        "1",
        "ca-certs",
    ];
    run(&args).code(5);
}

#[test]
fn what_contradicts_itself_is_exit_code_2() {
    let world = World::new("cmp-usage");
    let by = ["--reference", "device-1", "--secret-file", "@secret"];
    for (verb, rest, wanted) in [
        ("enroll", &["--out", "@a"][..], "--cert"),
        (
            "enroll",
            &["--reference", "r", "--out", "@a"],
            "--secret-file",
        ),
        (
            "update",
            &[&by[..], &["--out", "@a", "--out-key", "@b"]].concat(),
            "give --cert and --key",
        ),
        (
            "enroll",
            &[&by[..], &["--out", "@a"]].concat(),
            "where does the new key go",
        ),
        (
            "enroll",
            &[&by[..], &["--out", "@a", "--central"]].concat(),
            "--out-key",
        ),
        (
            "enroll",
            &[
                &by[..],
                &["--out", "@a", "--out-key", "@b", "--san", "a.example"],
            ]
            .concat(),
            "uri: dns:",
        ),
        (
            "enroll",
            &[
                &by[..],
                &["--out", "@a", "--out-key", "@b", "--subject", "CN="],
            ]
            .concat(),
            "",
        ),
        ("revoke", &by, "which certificate"),
        (
            "info",
            &[&by[..], &["crl"]].concat(),
            "the revocation list of whom",
        ),
    ] {
        let ran = world.run(verb, rest);
        if wanted.is_empty() {
            continue;
        }
        let ran = ran.code(2);
        assert!(ran.err.contains(wanted), "{verb} {rest:?}: {ran:?}");
    }
    fs::set_permissions(world.path("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = world.with_secret("info", &["ca-certs"]).code(2);
    assert!(ran.err.contains("chmod 600"), "{ran:?}");
    let ran = run(&[
        "cmp",
        "info",
        "--url",
        "ftp://x",
        "--reference",
        "r",
        "--secret-file",
        "s",
        "ca-certs",
    ])
    .code(2);
    assert!(ran.err.contains("coap://"), "{ran:?}");
    let secret = world.path("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = run(&[
        "cmp",
        "info",
        "--url",
        "https://127.0.0.1:9",
        "--reference",
        "r",
        "--secret-file",
        &secret,
        "ca-certs",
    ])
    .code(2);
    assert!(ran.err.contains("--trust-from-cmp"), "{ran:?}");
    let ran = run(&[
        "cmp",
        "info",
        "--url",
        "http://a",
        "--reference",
        "r",
        "--secret-file",
        "/nowhere/s",
        "ca-certs",
    ])
    .code(3);
    assert!(ran.err.contains("/nowhere/s"), "{ran:?}");
}

#[test]
fn questions_are_answered_or_not_known() {
    let world = World::new("cmp-info");
    let ran = world.with_secret("info", &["ca-certs"]).code(0);
    assert!(
        ran.out
            .starts_with("CN=Test CMP CA  by CN=Test CMP CA, until"),
        "{ran:?}"
    );
    let ran = world
        .with_secret("info", &["root-ca-cert", "--root", "@root.pem"])
        .code(0);
    assert_eq!(ran.out, "the CA has nothing to tell\n");
    let next = CmpCa::named("Test CMP CA 2");
    world
        .ca
        .change(|policy| policy.next_root = Some(next.root()));
    let ran = world
        .with_secret(
            "info",
            &["root-ca-cert", "--root", "@root.pem", "--out", "@next.pem"],
        )
        .code(0);
    assert!(ran.out.starts_with("CN=Test CMP CA 2  by"), "{ran:?}");
    assert!(
        fs::read_to_string(world.path("next.pem"))
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE")
    );
    for what in ["template", "crl", "current-crl"] {
        let ran = world
            .with_secret("info", &[what, "--root", "@root.pem"])
            .code(0);
        assert!(
            ran.out.contains("the CA does not know 1.3.6.1.5.5.7.4."),
            "{ran:?}"
        );
    }
}

#[test]
fn completions_know_the_commands() {
    let ran = run(&["completions", "bash"]).code(0);
    for word in [
        "enroll",
        "--secret-file",
        "root-ca-cert",
        "cessation-of-operation",
    ] {
        assert!(ran.out.contains(word), "{word}");
    }
}
