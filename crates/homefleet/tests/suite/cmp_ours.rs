//! `homefleet cmp …` against our own server, over all four schemes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use homefleet_api::NewEnrolmentSecret;

use crate::support::{Ran, fresh_dir, run, run_in_world, world};

#[test]
fn our_server_issues_renews_informs_and_revokes() {
    for scheme in ["coap", "coaps", "http", "https"] {
        let dir = fresh_dir(&format!("cmp-ours-{scheme}"));
        let path = |name: &str| dir.join(name).display().to_string();
        let device = format!("os::00D09E-{scheme}");
        let world = world();
        let access = world.running.access();
        let added = access.add_enrolment_secret(NewEnrolmentSecret {
            reference: Some(device.clone()),
            secret: Some("correct horse battery".to_owned()),
            device: Some(device.clone()),
            profile: None,
            uses: Some(1),
            expires_in: None,
        });
        world.runtime.block_on(added).unwrap();
        fs::write(path("secret"), "correct horse battery").unwrap();
        fs::set_permissions(path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let url = world.running.cmp_url(scheme).unwrap();
        let cmp = |verb: &str, rest: &[&str]| -> Ran {
            let rest: Vec<String> = rest
                .iter()
                .map(|arg| arg.strip_prefix('@').map_or((*arg).to_owned(), &path))
                .collect();
            let mut args = vec!["cmp", verb, "--url", &url];
            args.extend(rest.iter().map(String::as_str));
            run(&args)
        };
        let subject = format!("CN={device}");
        let by_secret = [
            "--reference",
            &device,
            "--secret-file",
            "@secret",
            "--trust-from-cmp",
        ];
        let asked = [
            "--subject",
            &subject,
            "--out",
            "@d.pem",
            "--out-key",
            "@d.key",
            "--out-ca",
            "@ca.pem",
        ];
        cmp("enroll", &[&by_secret[..], &asked].concat()).code(0);
        // Once is once.
        let again = [
            "--subject",
            &subject,
            "--out",
            "@e.pem",
            "--out-key",
            "@e.key",
        ];
        cmp("enroll", &[&by_secret[..], &again].concat()).code(4);
        assert!(!fs::exists(path("e.key")).unwrap());

        // From now on the server is believed for its certificate.
        let by_it = ["--cert", "@d.pem", "--key", "@d.key", "--ca", "@ca.pem"];
        let ran = cmp("info", &[&by_it[..], &["ca-certs"]].concat()).code(0);
        assert!(ran.out.contains("Homefleet demo authority"), "{ran:?}");
        for what in ["root-ca-cert", "template", "crl"] {
            cmp("info", &[&by_it[..], &[what]].concat()).code(0);
        }
        // What is announced is heard over CoAP, and believed for its signature.
        let observe = ["--ca", "@ca.pem", "--once"];
        if scheme.starts_with("coap") {
            let heard = cmp("observe", &observe).code(0);
            assert!(heard.out.contains("revocation list of"), "{heard:?}");
            let heard = cmp(
                "observe",
                &[&observe[..], &["--json", "--label", "device"]].concat(),
            );
            assert_eq!(heard.code(0).json()[0]["kind"], "crlann");
            cmp("observe", &[&observe[..], &["--label", "nobody"]].concat()).code(4);
        } else {
            cmp("observe", &observe).code(2);
        }
        let next = ["--out", "@d2.pem", "--out-key", "@d2.key"];
        let ran = cmp("update", &[&by_it[..], &next].concat()).code(0);
        assert!(ran.out.contains(&device), "{ran:?}");
        let by_next = ["--cert", "@d2.pem", "--key", "@d2.key", "--ca", "@ca.pem"];
        cmp(
            "revoke",
            &[&by_next[..], &["--reason", "key-compromise"]].concat(),
        )
        .code(0);
        // What is revoked asks for nothing any more.
        let more = ["--out", "@d3.pem", "--out-key", "@d3.key"];
        cmp("update", &[&by_next[..], &more].concat()).code(4);
        let ran = run_in_world(&["certificate", "list", "--device", &device]).code(0);
        assert!(ran.out.contains("revoked"), "{ran:?}");
    }
}
