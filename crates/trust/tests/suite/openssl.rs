//! Certificates made by the `openssl` command: what rcgen cannot make, and a second maker of what it can.

use std::{path::Path, process::Command};

use der::asn1::ObjectIdentifier;
use homefleet_trust::{
    Anchor, Connection, Context, Policy, Refusal, Revocation, RevocationPolicy, RevocationReason,
    Time, Unknown, anchors_from_pem, chain_from_pem, decide,
};
use tempfile::TempDir;

/// Runs a shell script in a directory; it has to succeed.
pub fn shell(directory: &Path, script: &str) {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

/// Makes `ca.pem` with these key and signing options, `peer.pem` under it with those, and asks.
fn refusal(ca_key: &str, ca_options: &str, peer_key: &str, peer_options: &str) -> Option<Refusal> {
    let directory = TempDir::new().unwrap();
    let script = format!(
        "printf '[req]\\ndistinguished_name = dn\\nx509_extensions = ca\\n[dn]\\n[ca]\\n\
         basicConstraints = critical, CA:TRUE\\n' > req.cnf
         openssl genpkey {ca_key} -out ca.key
         openssl req -config req.cnf -x509 -new -key ca.key -days 30 -subj /CN=CA {ca_options} -out ca.pem
         openssl genpkey {peer_key} -out peer.key
         openssl req -config req.cnf -new -key peer.key -subj /CN=peer -out peer.csr
         openssl x509 -req -in peer.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 30 {peer_options} -out peer.pem"
    );
    shell(directory.path(), &script);
    ask(
        &read(directory.path(), "peer.pem"),
        &anchors_from_pem(&read(directory.path(), "ca.pem")).unwrap(),
    )
}

fn ask(chain: &str, anchors: &[Anchor]) -> Option<Refusal> {
    let policy = Policy::default();
    let context = Context::new(anchors, Time::Unknown, Connection::Accepted, &policy);
    decide(&chain_from_pem(chain).unwrap(), &context)
        .refusal()
        .cloned()
}

const EC: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const EC_384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const RSA_1024: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";

fn algorithm(level: usize, oid: &str) -> Option<Refusal> {
    Some(Refusal::SignatureAlgorithm {
        level,
        algorithm: ObjectIdentifier::new(oid).unwrap(),
    })
}

#[test]
fn ordinary_openssl_certificates_are_accepted() {
    for (ca, options) in [
        (EC, "-sha256"),
        (EC, "-sha384"),
        (EC, "-sha512"),
        (EC_384, "-sha256"),
        (EC_384, "-sha384"),
        (RSA, "-sha256"),
        ("-algorithm ED25519", ""),
    ] {
        assert_eq!(refusal(ca, options, EC, options), None, "{ca} {options}");
    }
}

#[test]
fn rsa_pss_is_accepted_with_sha_2_and_a_salt_as_long_as_the_hash() {
    for hash in ["-sha256", "-sha384", "-sha512"] {
        let pss = format!("{hash} -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1");
        assert_eq!(refusal(RSA, &pss, RSA, &pss), None, "{hash}");
    }
}

#[test]
fn rsa_pss_with_other_parameters_is_refused() {
    let oid = "1.2.840.113549.1.1.10";
    for options in [
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20",
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:31",
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:48",
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 -sigopt rsa_mgf1_md:sha1",
        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 -sigopt rsa_mgf1_md:sha384",
        "-sha1 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1",
    ] {
        assert_eq!(
            refusal(RSA, "-sha256", EC, options),
            algorithm(0, oid),
            "{options}"
        );
    }
}

#[test]
fn an_rsa_pss_key_signs_only_as_it_says() {
    let restricted = "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha256 \
                      -pkeyopt rsa_pss_keygen_mgf1_md:sha256 -pkeyopt rsa_pss_keygen_saltlen:32";
    assert_eq!(refusal(restricted, "-sha256", restricted, "-sha256"), None);
    let free = "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048";
    assert_eq!(
        refusal(
            free,
            "-sha384 -sigopt rsa_pss_saltlen:-1",
            EC,
            "-sha384 -sigopt rsa_pss_saltlen:-1"
        ),
        None
    );
}

#[test]
fn a_signature_that_an_rsa_pss_key_may_not_make_is_bad() {
    // The anchor's key says "PSS with SHA-256 only"; the same key, taken out of this wrapping, signs otherwise.
    let directory = TempDir::new().unwrap();
    let make = "
        printf '[req]\\ndistinguished_name = dn\\nx509_extensions = ca\\n[dn]\\n[ca]\\n\
        basicConstraints = critical, CA:TRUE\\n' > req.cnf
        openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha256 \
            -pkeyopt rsa_pss_keygen_mgf1_md:sha256 -pkeyopt rsa_pss_keygen_saltlen:32 -out ca.key
        openssl req -config req.cnf -x509 -new -key ca.key -sha256 -days 30 -subj /CN=CA -out ca.pem
        openssl pkey -in ca.key -outform DER -out ca.der
        at=$(openssl asn1parse -inform DER -in ca.der | awk -F: '/OCTET STRING/ { at = $1 } END { print at }')
        openssl asn1parse -inform DER -in ca.der -strparse $at -out inner.der -noout
        openssl rsa -inform DER -in inner.der -out plain.key
        openssl req -config req.cnf -x509 -new -key plain.key -sha256 -days 30 -subj /CN=CA -out alias.pem
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out peer.key
        openssl req -config req.cnf -new -key peer.key -subj /CN=peer -out peer.csr
        sign() {
            name=$1
            shift
            openssl x509 -req -in peer.csr -CA alias.pem -CAkey plain.key -set_serial 1 -days 30 \"$@\" -out $name.pem
        }
        sign allowed -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1
        sign other-hash -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1
        sign pkcs1 -sha256";
    shell(directory.path(), make);
    let text = |name| read(directory.path(), name);
    let anchors = anchors_from_pem(&text("ca.pem")).unwrap();
    assert_eq!(ask(&text("allowed.pem"), &anchors), None);
    let bad = Some(Refusal::BadSignature { level: 0 });
    assert_eq!(ask(&text("other-hash.pem"), &anchors), bad);
    assert_eq!(ask(&text("pkcs1.pem"), &anchors), bad);
    // Under the key without the restriction, all three are good.
    let alias = anchors_from_pem(&text("alias.pem")).unwrap();
    for name in ["allowed.pem", "other-hash.pem", "pkcs1.pem"] {
        assert_eq!(ask(&text(name), &alias), None, "{name}");
    }
}

#[test]
fn sha_1_and_md5_signatures_are_refused() {
    assert_eq!(
        refusal(RSA, "-sha256", EC, "-sha1"),
        algorithm(0, "1.2.840.113549.1.1.5")
    );
    assert_eq!(
        refusal(RSA, "-sha256", EC, "-md5"),
        algorithm(0, "1.2.840.113549.1.1.4")
    );
    assert_eq!(
        refusal(RSA, "-sha256", EC, "-sha224"),
        algorithm(0, "1.2.840.113549.1.1.14")
    );
    assert_eq!(
        refusal(EC, "-sha256", EC, "-sha1"),
        algorithm(0, "1.2.840.10045.4.1")
    );
}

#[test]
fn an_anchors_own_signature_does_not_matter() {
    assert_eq!(refusal(RSA, "-sha1", EC, "-sha256"), None);
}

#[test]
fn rsa_below_2048_bits_is_refused_as_peer_and_as_issuer() {
    assert_eq!(
        refusal(RSA, "-sha256", RSA_1024, "-sha256"),
        Some(Refusal::KeySize {
            level: 0,
            bits: 1024
        })
    );
    assert_eq!(
        refusal(RSA_1024, "-sha256", RSA, "-sha256"),
        Some(Refusal::KeySize {
            level: 1,
            bits: 1024
        })
    );
}

#[test]
fn other_key_kinds_are_refused() {
    for (key, oid) in [
        ("-algorithm ED448", "1.3.101.113"),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
            "1.3.132.0.10",
        ),
    ] {
        let algorithm = ObjectIdentifier::new(oid).unwrap();
        assert_eq!(
            refusal(EC, "-sha256", key, "-sha256"),
            Some(Refusal::KeyAlgorithm {
                level: 0,
                algorithm
            }),
            "{key}"
        );
    }
}

#[test]
fn a_version_1_root_is_an_anchor_and_a_version_1_intermediate_is_no_ca() {
    let directory = TempDir::new().unwrap();
    let make = "
        printf '[req]\\ndistinguished_name = dn\\n[dn]\\n' > req.cnf
        for name in root middle peer; do
            openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name.key
            openssl req -config req.cnf -new -key $name.key -subj /CN=$name -out $name.csr
        done
        openssl x509 -req -in root.csr -signkey root.key -days 30 -out root.pem
        openssl x509 -req -in middle.csr -CA root.pem -CAkey root.key -set_serial 1 -days 30 -out middle.pem
        openssl x509 -req -in peer.csr -CA root.pem -CAkey root.key -set_serial 2 -days 30 -out peer.pem
        openssl x509 -req -in peer.csr -CA middle.pem -CAkey middle.key -set_serial 3 -days 30 -out below.pem";
    shell(directory.path(), make);
    let text = |name| read(directory.path(), name);
    let anchors = anchors_from_pem(&text("root.pem")).unwrap();
    assert_eq!(ask(&text("peer.pem"), &anchors), None);
    let chain = text("below.pem") + &text("middle.pem");
    assert_eq!(ask(&chain, &anchors), Some(Refusal::NotACa { level: 1 }));
}

#[test]
fn crls_of_openssl_ca_are_read_under_each_accepted_kind_of_key() {
    let free = "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048";
    let rsa_4096 = "-algorithm RSA -pkeyopt rsa_keygen_bits:4096";
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1";
    for (key, options) in [
        (EC, "-md sha256"),
        (EC_384, "-md sha384"),
        (RSA, "-md sha512"),
        (rsa_4096, "-md sha256"),
        (free, &format!("-md sha256 {pss}")),
        ("-algorithm ED25519", "-md null"),
    ] {
        let digest = options.replace("-md null", "").replace("-md ", "-");
        let directory = TempDir::new().unwrap();
        let script = format!(
            "printf '[ca]\\ndefault_ca = d\\n[d]\\ndatabase = index.txt\\ncrlnumber = number\\ndefault_crl_days = 7\\n\
             default_md = sha256\\n[req]\\ndistinguished_name = dn\\nx509_extensions = e\\n[dn]\\n[e]\\n\
             basicConstraints = critical, CA:TRUE\\nkeyUsage = critical, keyCertSign, cRLSign\\n' > ca.cnf
             : > index.txt; echo 01 > number
             openssl genpkey {key} -out ca.key
             openssl req -config ca.cnf -x509 -new -key ca.key -days 30 -subj /CN=CA {digest} -out ca.pem
             openssl genpkey {EC} -out peer.key
             openssl req -config ca.cnf -new -key peer.key -subj /CN=peer -out peer.csr
             for serial in 17 18; do
                 openssl x509 -req -in peer.csr -CA ca.pem -CAkey ca.key -set_serial $serial -days 30 {digest} -out peer$serial.pem
             done
             openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke peer18.pem -crl_reason superseded
             openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl {options} -out crl.pem
             openssl crl -in crl.pem -outform DER -out crl.der"
        );
        shell(directory.path(), &script);
        let anchors = anchors_from_pem(&read(directory.path(), "ca.pem")).unwrap();
        let mut revocation = Revocation::new(RevocationPolicy {
            unknown: Unknown::Refuse,
            ..RevocationPolicy::default()
        });
        let der = std::fs::read(directory.path().join("crl.der")).unwrap();
        assert_eq!(
            revocation.add_crl(&der, &anchors, Time::Unknown),
            Ok(()),
            "{key}"
        );
        let policy = Policy::default();
        let mut context = Context::new(&anchors, Time::Unknown, Connection::Accepted, &policy);
        context.revocation = Some(&revocation);
        let ask = |name| {
            let chain = chain_from_pem(&read(directory.path(), name)).unwrap();
            decide(&chain, &context).refusal().cloned()
        };
        assert_eq!(ask("peer17.pem"), None, "{key}");
        let (level, reason) = (0, RevocationReason::Superseded);
        assert_eq!(
            ask("peer18.pem"),
            Some(Refusal::Revoked { level, reason }),
            "{key}"
        );
    }
}

#[test]
fn rsa_of_3072_and_4096_bits_is_accepted_with_pss_and_without() {
    for bits in [3072, 4096] {
        let key = format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}");
        let pss = "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1";
        assert_eq!(refusal(&key, "-sha256", &key, pss), None, "{bits}");
    }
}
