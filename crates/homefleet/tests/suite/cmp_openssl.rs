//! `homefleet cmp …` against the mock server of `openssl cmp`, in a network namespace of its own, because it listens everywhere.

use std::path::Path;
use std::process::Command;

use crate::support::fresh_dir;

/// Keys and certificates, the mock server, and then the commands; `hf` is our program against it.
fn against_openssl(name: &str, commands: &str) -> String {
    against_openssl_at(name, "http://127.0.0.1:8888/pkix/", "", commands)
}

/// The same at another URL, after `setup`.
pub(crate) fn against_openssl_at(name: &str, url: &str, setup: &str, commands: &str) -> String {
    let dir = fresh_dir(name);
    let script = format!(
        r#"
printf '[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n[ee]\nkeyUsage = digitalSignature\nsubjectKeyIdentifier = hash\n' > req.cnf
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key
openssl req -config req.cnf -extensions ca -x509 -new -key ca.key -days 30 -subj /O=Test/CN=CA -out ca.pem
serial=4096
for n in server device new; do
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $n.key
  openssl req -config req.cnf -new -key $n.key -subj /O=Test/CN=$n -out $n.csr
  openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -set_serial $serial -days 30 -extfile req.cnf -extensions ee -out $n.pem
  serial=$((serial + 1))
done 2>/dev/null
printf 'correct horse' > secret; chmod 600 secret
ip link set lo up
openssl version
serve() {{
  # One mock server for each command, or a failed transaction would spoil the next one's.
  openssl cmp -port 8888 -srv_ref device-1 -srv_secret 'pass:correct horse' -srv_cert server.pem -srv_key server.key \
    -srv_trusted ca.pem -rsp_cert new.pem -rsp_capubs ca.pem -rsp_extracerts ca.pem "$@" > server.log 2>&1 &
  server=$!
  for i in $(seq 200); do (exec 3<> /dev/tcp/127.0.0.1/8888) 2> /dev/null && return; sleep 0.05; done
  cat server.log; exit 1
}}
stop() {{ kill $server; wait $server || true; }}
trap 'kill $server 2> /dev/null || true' EXIT
hf() {{ verb=$1; shift; {program} cmp $verb --url {url} "$@" || {{ code=$?; cat server.log; exit $code; }}; }}
# Its MAC is SHA-1 with 500 iterations.
by_secret="--reference device-1 --secret-file secret --allow-weak-mac"
program={program}
{setup}
{commands}
"#,
        program = env!("CARGO_BIN_EXE_homefleet"),
    );
    run(&dir, &script)
}

fn run(dir: &Path, script: &str) -> String {
    // Whatever is left in the namespace dies with its first process.
    let output = Command::new("unshare")
        .args([
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-euc",
            script,
        ])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn openssl_issues_for_every_kind_of_request_and_protection() {
    against_openssl(
        "cmp-openssl-enroll",
        r#"
serve; hf enroll $by_secret --new-key new.key --subject CN=new --out ir.pem --out-ca pubs.pem; stop
cmp new.pem ir.pem 2> /dev/null || openssl verify -CAfile pubs.pem ir.pem
serve; hf enroll $by_secret --new-key new.key --request cr --subject new --san dns:new.example --out cr.pem; stop
serve; hf enroll $by_secret --csr new.csr --out p10.pem; stop
serve -grant_implicitconf; hf enroll $by_secret --new-key new.key --subject new --implicit-confirm --out implicit.pem; stop
serve; hf enroll --cert device.pem --key device.key --ca ca.pem --new-key new.key --subject new --out signed.pem; stop
serve; hf update --cert new.pem --key new.key --ca ca.pem --new-key new.key --out kur.pem; stop
for f in ir cr p10 implicit signed kur; do
  test "$(openssl x509 -in $f.pem -noout -fingerprint)" = "$(openssl x509 -in new.pem -noout -fingerprint)"
done
"#,
    );
}

#[test]
fn openssl_has_us_poll() {
    let text = against_openssl(
        "cmp-openssl-poll",
        "serve -poll_count 2 -check_after 1; hf enroll $by_secret --new-key new.key --subject new --out polled.pem; stop",
    );
    assert!(
        text.contains("the CA wants us to wait") && text.contains("pollReq sent"),
        "{text}"
    );
}

#[test]
fn openssl_revokes_and_answers_questions() {
    let text = against_openssl(
        "cmp-openssl-revoke",
        r#"
serve; hf revoke $by_secret --certificate new.pem --reason key-compromise; stop
serve; hf revoke --cert device.pem --key device.key --ca ca.pem --certificate new.pem --reason superseded; stop
serve; hf info $by_secret current-crl; stop
"#,
    );
    assert!(text.contains("is revoked"), "{text}");
}

#[test]
fn what_openssl_refuses_is_refused_and_what_it_does_not_protect_is_not_believed() {
    let text = against_openssl(
        "cmp-openssl-refuse",
        r#"
serve -pkistatus 2 -failure 9 -statusstring 'not you'
code=0; (hf enroll $by_secret --new-key new.key --subject new --out refused.pem) || code=$?; test $code = 4; test ! -e refused.pem; stop
serve -send_unprotected
code=0; (hf enroll $by_secret --new-key new.key --subject new --out naked.pem) || code=$?; test $code = 4; test ! -e naked.pem; stop
serve
code=0; (hf enroll --reference device-1 --secret-file secret --new-key new.key --subject new --out weak.pem) || code=$?; test $code = 4; stop
"#,
    );
    assert!(
        text.contains("not you")
            && text.contains("the message is not protected")
            && text.contains("SHA-1 is not accepted"),
        "{text}"
    );
}
