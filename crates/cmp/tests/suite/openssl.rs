//! Keys, certificates and CMP messages made by the `openssl` command.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};

use homefleet_cmp::{
    asn1::{Certificate, Name},
    crypto::{KeyKind, KeyPair, Secret},
    protection::{Distrust, Peers},
};
use tempfile::TempDir;

/// Runs a shell script in a directory; it has to succeed. Gives what it printed.
pub fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(directory)
        .output()
        .unwrap();
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{script}\n{printed}");
    printed
}

/// The reference and the secret that everybody here shares.
pub const REFERENCE: &str = "device-1";
pub const SECRET: &str = "correct horse";

/// A CA and, for each name, a key with a certificate under it: `NAME.key`, `NAME.pk8`, `NAME.pem`, `NAME.der`.
pub struct Pki {
    directory: TempDir,
}

const NAMES: [(&str, &str); 6] = [
    ("server", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("device", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("new", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
    ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ("ed25519", "-algorithm ED25519"),
];

/// Made once for all tests.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let mut script = "printf '[req]\\ndistinguished_name = dn\\n[dn]\\n[ca]\\nbasicConstraints = critical, CA:TRUE\\n\
             subjectKeyIdentifier = hash\\n[ee]\\nbasicConstraints = CA:FALSE\\nsubjectKeyIdentifier = hash\\n\
             keyUsage = digitalSignature\\n' > req.cnf
             openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key
             openssl req -config req.cnf -extensions ca -x509 -new -key ca.key -days 30 -subj /O=Test/CN=CA -out ca.pem
             openssl x509 -in ca.pem -outform DER -out ca.der
             openssl pkcs8 -topk8 -nocrypt -in ca.key -outform DER -out ca.pk8\n"
            .to_owned();
        for (serial, (name, options)) in NAMES.iter().enumerate() {
            script += &format!(
                "openssl genpkey {options} -out {name}.key
                 openssl pkcs8 -topk8 -nocrypt -in {name}.key -outform DER -out {name}.pk8
                 openssl req -config req.cnf -new -key {name}.key -subj /O=Test/CN={name} -out {name}.csr
                 openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {} -days 30 -extfile req.cnf -extensions ee -out {name}.pem
                 openssl x509 -in {name}.pem -outform DER -out {name}.der\n",
                4096 + serial
            );
        }
        shell(directory.path(), &script);
        Pki { directory }
    })
}

impl Pki {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_der(&self.read(&format!("{name}.der"))).unwrap()
    }

    pub fn key(&self, name: &str) -> Arc<KeyPair> {
        let kind = match name {
            "p384" => KeyKind::P384,
            "rsa" => KeyKind::Rsa,
            "ed25519" => KeyKind::Ed25519,
            _ => KeyKind::P256,
        };
        self.key_as(name, kind)
    }

    pub fn key_as(&self, name: &str, kind: KeyKind) -> Arc<KeyPair> {
        Arc::new(KeyPair::from_pkcs8(kind, &self.read(&format!("{name}.pk8"))).unwrap())
    }

    /// Runs `openssl cmp` with these options against its mock server, which shares the secret and has the certificate `server`.
    /// Gives the messages in the order they were sent: request, response, and so on.
    pub fn cmp(&self, options: &str) -> Vec<Vec<u8>> {
        let messages = TempDir::new().unwrap();
        let at = messages.path().display();
        let name = |kind: &str| {
            (0..8)
                .map(|i| format!("{at}/{i}.{kind}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        shell(
            self.directory.path(),
            &format!(
                "openssl cmp -config '' {options} -recipient /O=Test/CN=CA -use_mock_srv -srv_ref {REFERENCE} -srv_secret 'pass:{SECRET}' \
                 -srv_cert server.pem -srv_key server.key -srv_trusted ca.pem -rsp_cert new.pem \
                 -reqout {} -rspout {} -certout {at}/cert.pem",
                name("req"),
                name("rsp"),
            ),
        );
        (0..8)
            .flat_map(|i| ["req", "rsp"].map(|kind| messages.path().join(format!("{i}.{kind}"))))
            .filter_map(|path| std::fs::read(path).ok())
            .collect()
    }
}

/// Protected by the shared secret.
pub fn by_secret() -> String {
    format!("-ref {REFERENCE} -secret 'pass:{SECRET}'")
}

/// Protected by a certificate.
pub fn by_certificate(name: &str) -> String {
    format!("-cert {name}.pem -key {name}.key -trusted ca.pem")
}

/// Everybody who is under the CA, and the shared secret.
pub struct Known;

impl Peers for Known {
    fn secret(&self, reference: &[u8]) -> Option<Secret> {
        (reference == REFERENCE.as_bytes()).then(|| Secret::new(SECRET))
    }

    fn judge(&self, signer: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        let ca = homefleet_cmp::CertificateParts::read(&pki().certificate("ca")).unwrap();
        let parts = homefleet_cmp::CertificateParts::read(signer).unwrap();
        parts
            .verify(&ca.public_key)
            .map_err(|error| Distrust::Untrusted(error.to_string()))
    }

    /// The server's certificate is an RA's too.
    fn judge_relay(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust> {
        if *signer == pki().certificate("server") {
            self.judge(signer, others)
        } else {
            Err(Distrust::Unauthorized("not an RA".to_owned()))
        }
    }

    fn certificate(&self, _: &Name, _: Option<&[u8]>) -> Option<Certificate> {
        None
    }
}
