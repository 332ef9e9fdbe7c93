//! `homefleet cmp proxy`: devices over CoAP in front, CAs of ours and of others over HTTP behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use homefleet_api::NewEnrolmentSecret;
use homefleet_cli::demo::pki::Authority;

use crate::cmp_openssl::against_openssl_at;
use crate::support::{Ran, fresh_dir, run, signal, world};

/// A proxy of its own; it ends with the test.
struct Proxy {
    child: Child,
    coap: String,
    coaps: String,
    status: String,
}

impl Proxy {
    /// In front of one upstream, with a certificate of its own.
    fn start(dir: &Path, upstream: &str) -> Self {
        let authority = Authority::open(dir).unwrap();
        let names = ["127.0.0.1"];
        authority
            .endpoint(dir, "proxy", "proto::proxy", &names)
            .unwrap();
        let text = format!(
            "version = 1\n[log]\nfilter = \"off\"\n[proxy]\ncoap_listen = \"127.0.0.1:0\"\ncoaps_listen = \"127.0.0.1:0\"\n\
             status_listen = \"127.0.0.1:0\"\ncertificate = \"{dir}/proxy.pem\"\nkey = \"{dir}/proxy.key\"\n\
             [[proxy.upstream]]\nname = \"ca\"\n{upstream}\n[[proxy.route]]\nupstream = \"ca\"\n\
             [[proxy.route]]\nupstream = \"ca\"\nlabel = \"home\"\n",
            dir = dir.display()
        );
        let file = dir.join("proxy.toml");
        fs::write(&file, text).unwrap();
        let config = file.to_str().unwrap();
        run(&["cmp", "proxy", "--config", config, "--check-config"]).code(0);
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_homefleet")])
            .args(["cmp", "proxy", "--config", config])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let find = |start: &str| {
            let mut words = line.split([' ', ',']).map(str::trim);
            words
                .find(|word| word.starts_with(start))
                .unwrap_or_else(|| panic!("{line}"))
                .to_owned()
        };
        Self {
            coap: find("coap://"),
            coaps: find("coaps://"),
            status: find("http://"),
            child,
        }
    }

    /// GET of one of the pages of the status address: status and body.
    fn page(&self, path: &str) -> (String, String) {
        let address = self.status.trim_start_matches("http://");
        let address = address.trim_end_matches("/status");
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap_or_default();
        (status.to_owned(), body.to_owned())
    }

    fn upstream(&self) -> serde_json::Value {
        let (_, status) = self.page("/status");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["upstreams"][0].clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be over already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn every_operation_goes_through_the_proxy_to_our_ca_over_http() {
    let dir = fresh_dir("cmp-proxy-ours");
    let world = world();
    let ca = world.running.cmp_url("http").unwrap();
    // Our CA takes chunked requests.
    let proxy = Proxy::start(
        &dir,
        &format!("url = \"{ca}\"\nchunked = true\ncheck = \"protection\""),
    );
    let path = |name: &str| dir.join(name).display().to_string();
    fs::write(path("secret"), "correct horse battery").unwrap();
    fs::set_permissions(path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    for (scheme, url) in [("coap", &proxy.coap), ("coaps", &proxy.coaps)] {
        let device = format!("os::00D09E-proxy-{scheme}");
        let access = world.running.access();
        let added = access.add_enrolment_secret(NewEnrolmentSecret {
            reference: Some(device.clone()),
            secret: Some("correct horse battery".to_owned()),
            device: Some(device.clone()),
            profile: None,
            uses: Some(4),
            expires_in: None,
        });
        world.runtime.block_on(added).unwrap();
        let cmp = |verb: &str, rest: &[&str]| -> Ran {
            let rest: Vec<String> = rest
                .iter()
                .map(|arg| arg.strip_prefix('@').map_or((*arg).to_owned(), &path))
                .collect();
            let mut args = vec!["cmp", verb, "--url", url, "--trust-from-cmp"];
            args.extend(rest.iter().map(String::as_str));
            run(&args)
        };
        let subject = format!("CN={device}");
        let by_secret = ["--reference", &device, "--secret-file", "@secret"];
        let named = ["--subject", &subject];
        let kept = ["--out", "@d.pem", "--out-key", "@d.key"];
        let trusting = ["--out-ca", "@root.pem"];
        // ir, certConf.
        let asked = [&by_secret[..], &named, &kept, &trusting].concat();
        cmp("enroll", &asked).code(0);
        // A key that the CA would make; its profile does not let it, and the refusal comes back as the CA said it.
        let central = ["--central", "--out", "@c.pem", "--out-key", "@c.key"];
        let refused = cmp("enroll", &[&by_secret[..], &named, &central].concat()).code(4);
        assert!(refused.err.contains("NotAuthorized"), "{refused:?}");
        // p10cr.
        let made = Command::new("openssl")
            .args([
                "req",
                "-new",
                "-key",
                &path("d.key"),
                "-config",
                "/dev/null",
            ])
            .args(["-subj", &format!("/CN={device}"), "-out", &path("d.csr")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let csr = ["--csr", "@d.csr", "--out", "@p.pem"];
        cmp("enroll", &[&by_secret[..], &csr].concat()).code(0);
        // genm, each kind.
        let by_it = ["--cert", "@d.pem", "--key", "@d.key", "--ca", "@root.pem"];
        for what in ["ca-certs", "root-ca-cert", "template", "crl", "current-crl"] {
            cmp("info", &[&by_it[..], &[what]].concat()).code(0);
        }
        // kur, rr.
        let next = ["--out", "@d2.pem", "--out-key", "@d2.key"];
        cmp("update", &[&by_it[..], &next].concat()).code(0);
        let by_next = ["--cert", "@d2.pem", "--key", "@d2.key", "--ca", "@root.pem"];
        let reason = ["--reason", "key-compromise"];
        cmp("revoke", &[&by_next[..], &reason].concat()).code(0);
        // What the CA refuses is refused by the CA: its protected error comes through.
        let more = ["--out", "@d3.pem", "--out-key", "@d3.key"];
        cmp("update", &[&by_next[..], &more].concat()).code(4);
        for file in ["d", "d2"] {
            for kind in ["pem", "key"] {
                fs::remove_file(path(&format!("{file}.{kind}"))).unwrap();
            }
        }
        fs::remove_file(path("p.pem")).unwrap();
        fs::remove_file(path("root.pem")).unwrap();
    }
    let upstream = proxy.upstream();
    assert_eq!(upstream["health"], "good");
    assert_eq!(upstream["failed"], 0);
    assert_eq!(upstream["forwarded"], upstream["answered"]);
    let (status, metrics) = proxy.page("/metrics");
    assert!(status.contains("200"), "{status}");
    let answered = upstream["answered"].as_u64().unwrap();
    let line = format!("homefleet_cmp_proxy_answered_total{{upstream=\"ca\"}} {answered}");
    assert!(answered > 20 && metrics.contains(&line), "{metrics}");
}

#[test]
fn every_operation_goes_through_the_proxy_to_openssl() {
    let setup = r#"
cat > proxy.toml << END
version = 1
[proxy]
coaps_listen = "127.0.0.1:5684"
certificate = "server.pem"
key = "server.key"
[[proxy.upstream]]
name = "openssl"
url = "http://127.0.0.1:8888/pkix/"
[[proxy.route]]
upstream = "openssl"
END
$program cmp proxy --config proxy.toml 2> proxy.log &
for i in $(seq 200); do grep -q coaps:// proxy.log && break; sleep 0.05; done
by_secret="$by_secret --trust-from-cmp"
"#;
    let text = against_openssl_at(
        "cmp-proxy-openssl",
        "coaps://127.0.0.1:5684",
        setup,
        r#"
serve; hf enroll $by_secret --new-key new.key --subject CN=new --out ir.pem --out-ca pubs.pem; stop
serve; hf enroll $by_secret --new-key new.key --request cr --subject new --san dns:new.example --out cr.pem; stop
serve; hf enroll $by_secret --csr new.csr --out p10.pem; stop
serve -grant_implicitconf; hf enroll $by_secret --new-key new.key --subject new --implicit-confirm --out implicit.pem; stop
by_certificate="--cert device.pem --key device.key --ca ca.pem --trust-from-cmp"
serve; hf enroll $by_certificate --new-key new.key --subject new --out signed.pem; stop
serve; hf update --cert new.pem --key new.key --ca ca.pem --trust-from-cmp --new-key new.key --out kur.pem; stop
for f in ir cr p10 implicit signed kur; do
  test "$(openssl x509 -in $f.pem -noout -fingerprint)" = "$(openssl x509 -in new.pem -noout -fingerprint)"
done
serve -poll_count 2 -check_after 1; hf enroll $by_secret --new-key new.key --subject new --out polled.pem; stop
serve; hf revoke $by_certificate --certificate new.pem --reason superseded; stop
serve; hf info $by_secret current-crl; stop
serve -send_error
code=0; (hf enroll $by_secret --new-key new.key --subject new --out refused.pem) || code=$?; test $code = 4; test ! -e refused.pem; stop
# Nobody there any more.
code=0; (hf enroll $by_secret --timeout 10 --new-key new.key --subject new --out refused.pem) || code=$?; test $code = 5
"#,
    );
    for said in ["the CA wants us to wait", "is revoked", "5.02"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_proxy_runs_from_its_file_reads_its_certificate_again_and_ends_on_sigterm() {
    let dir = fresh_dir("cmp-proxy-life");
    let proxy = Proxy::start(&dir, "url = \"http://127.0.0.1:1/cmp\"\nrest_after = 1");
    let (ready, _) = proxy.page("/readyz");
    assert!(ready.contains("200"), "{ready}");
    assert_eq!(proxy.page("/healthz").1, "ok\n");
    let secret = dir.join("secret");
    fs::write(&secret, "s").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let mut asked = 0;
    let mut ask = |url: &str| {
        asked += 1;
        let file = |kind: &str| dir.join(format!("{asked}.{kind}")).display().to_string();
        let by = [
            "--reference",
            "r",
            "--secret-file",
            secret.to_str().unwrap(),
        ];
        let rest = ["--subject", "x", "--timeout", "10", "--trust-from-cmp"];
        let (out, key) = (file("pem"), file("key"));
        let kept = ["--out", &out, "--out-key", &key];
        run(&[&["cmp", "enroll", "--url", url], &by[..], &rest, &kept].concat())
    };
    // Nobody is behind: that is told, and then that it may come again.
    ask(&proxy.coaps).code(5);
    ask(&format!("{}/.well-known/cmp/p/home", proxy.coap)).code(5);
    let (ready, _) = proxy.page("/readyz");
    assert!(ready.contains("503"), "{ready}");
    let upstream = proxy.upstream();
    assert_eq!(upstream["health"], "resting");
    assert!(upstream["failed"].as_u64() > Some(0), "{upstream}");
    assert!(upstream["busy"].as_u64() > Some(0), "{upstream}");
    let none = ask(&format!("{}/.well-known/cmp/p/other", proxy.coap));
    assert!(none.err.contains("4.04"), "{none:?}");
    signal(&proxy.child, "HUP");
    signal(&proxy.child, "TERM");
    let mut proxy = proxy;
    assert_eq!(proxy.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_file_of_a_proxy_is_checked_and_there_is_a_template() {
    let dir = fresh_dir("cmp-proxy-file");
    let file = dir.join("proxy.toml");
    let config = file.to_str().unwrap();
    run(&["cmp", "proxy"]).code(2);
    run(&["cmp", "proxy", "--config", config]).code(3);
    let template = run(&["cmp", "proxy", "--template"]).code(0).out;
    fs::write(&file, &template).unwrap();
    let told = run(&["cmp", "proxy", "--config", config, "--check-config"]).code(2);
    assert!(told.err.contains("proxy.coaps_listen"), "{told:?}");
    let text = "version = 1\n[proxy]\ncoap_listen = \"127.0.0.1:0\"\n[[proxy.upstream]]\nname = \"a\"\n\
        url = \"https://a\"\nca = [\"nowhere.pem\"]\n[[proxy.route]]\nupstream = \"a\"\n";
    fs::write(&file, text).unwrap();
    let told = run(&["cmp", "proxy", "--config", config, "--check-config"]).code(2);
    let said = "proxy.upstream[].ca: nowhere.pem";
    assert!(told.err.contains(said), "{told:?}");
}
