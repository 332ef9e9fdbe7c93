//! A certificate authority kept by the `openssl` command: it revokes, makes lists, and answers by its own responder.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::live::free_port;
use super::pki::Issued;
use super::tool::Tool;

const CONFIGURATION: &str = "
[ca]
default_ca = own
[own]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = 7
default_days = 365
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
CN = Revoking CA
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
";

/// Where a responder may run.
pub(crate) fn responder_url() -> String {
    format!("http://127.0.0.1:{}/", free_port())
}

/// The authority, with everything in a temporary directory.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        authority.write("ca.cnf", CONFIGURATION);
        authority.write("index.txt", "");
        authority.write("serial", "1000\n");
        authority.write("crlnumber", "01\n");
        authority.key("ca.key");
        authority.openssl(
            "req -x509 -new -config ca.cnf -extensions root -key ca.key -days 365 -out ca.pem",
        );
        authority
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> String {
        self.read("ca.pem")
    }

    /// A certificate for an Endpoint on this machine, with more extensions: `crlDistributionPoints = URI:…` and the like.
    pub(crate) fn issue(&self, id: &str, more: &str) -> Issued {
        let name = id.replace([':', '/'], "-");
        self.write(
            &format!("{name}.cnf"),
            &format!(
                "{CONFIGURATION}\n[leaf]\nbasicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n\
                 extendedKeyUsage = serverAuth, clientAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n\
                 subjectAltName = URI:urn:bbf:usp:id:{id}, DNS:localhost\n{more}\n"
            ),
        );
        self.key(&format!("{name}.key"));
        self.openssl(&format!(
            "req -new -config ca.cnf -subj /CN={name} -key {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "ca -batch -config {name}.cnf -extensions leaf -notext -in {name}.csr -out {name}.pem"
        ));
        Issued {
            chain: self.read(&format!("{name}.pem")),
            key: self.read(&format!("{name}.key")),
        }
    }

    /// Revokes the certificate of an Endpoint.
    pub(crate) fn revoke(&self, id: &str) {
        let name = id.replace([':', '/'], "-");
        self.openssl(&format!(
            "ca -config ca.cnf -revoke {name}.pem -crl_reason keyCompromise"
        ));
    }

    /// Forgets all it issued, so that its responder knows none.
    pub(crate) fn forget(&self) {
        self.write("index.txt", "");
    }

    /// A new list, DER. `more`: options such as `-crl_nextupdate 20200102000000Z`.
    pub(crate) fn list(&self, more: &str) -> Vec<u8> {
        self.openssl(&format!("ca -config ca.cnf -gencrl -out list.pem {more}"));
        self.openssl("crl -in list.pem -outform DER -out list.der");
        std::fs::read(self.path("list.der")).unwrap()
    }

    /// Runs the responder at a [`responder_url`]. It signs as the authority itself, and knows what was issued and revoked before.
    pub(crate) fn responder(&self, url: &str) -> Tool {
        let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
        let (index, ca, key) = (
            self.path("index.txt"),
            self.path("ca.pem"),
            self.path("ca.key"),
        );
        let tool = Tool::start(
            "openssl",
            &[
                "ocsp",
                "-port",
                port,
                "-index",
                &index,
                "-CA",
                &ca,
                "-rsigner",
                &ca,
                "-rkey",
                &key,
                "-nmin",
                "5",
                "-ignore_err",
            ],
        );
        assert!(
            tool.wait_for(
                "aiting for OCSP client connections",
                Duration::from_secs(30)
            ),
            "{}",
            tool.output()
        );
        tool
    }

    fn key(&self, name: &str) {
        self.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}"
        ));
    }

    fn openssl(&self, command: &str) {
        let output = Command::new("openssl")
            .args(command.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "openssl {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(&self.path(name))).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
}
