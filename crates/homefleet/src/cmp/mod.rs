//! `homefleet cmp …`: certificates from any CA that speaks CMP (RFC 9483), over CoAP, CoAP with DTLS, HTTP or HTTPS.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;

mod ask;
mod enroll;
mod files;
mod info;
mod observe;
mod proxy;
mod revoke;

/// What `homefleet cmp` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Cmp {
    /// Ask a CA for a certificate: for a new key, for one of yours, by a PKCS #10 request, or with a key that the CA makes
    #[command(after_help = "\
Exit codes: 0 the certificate is confirmed, 1 a file cannot be written, 2 usage, 3 a file is not there, 4 the CA refuses, or it
is not to be believed, 5 the CA is not reached or does not answer in time.

Examples:
  homefleet cmp enroll --url coaps://ca.example.net --reference device-1 --secret-file device-1.secret --trust-from-cmp \\
      --subject CN=device-1 --san uri:urn:bbf:usp:id:os::00D09E-1 --out device.pem --out-key device.key --out-ca ca.pem
  homefleet cmp enroll --url https://ca.example.net --cert factory.pem --key factory.key --ca ca.pem \\
      --subject CN=device-1 --out device.pem --out-key device.key
  homefleet cmp enroll --url http://ca.example.net --reference r --secret-file s --csr request.pem --out device.pem
  homefleet cmp enroll --url http://ca.example.net --reference r --secret-file s --central --subject CN=sensor-7 \\
      --out sensor.pem --out-key sensor.key")]
    Enroll(Box<enroll::Enroll>),
    /// Ask for the next certificate with the one there is, for a new key
    #[command(after_help = "\
Exit codes as of `cmp enroll`.

Example:
  homefleet cmp update --url coaps://ca.example.net --cert device.pem --key device.key --ca ca.pem \\
      --out device-2.pem --out-key device-2.key")]
    Update(Box<enroll::Update>),
    /// Have a certificate revoked
    #[command(after_help = "\
Exit codes as of `cmp enroll`.

Examples:
  homefleet cmp revoke --url coaps://ca.example.net --cert device.pem --key device.key --ca ca.pem --reason superseded
  homefleet cmp revoke --url http://ca.example.net --reference r --secret-file s --certificate device.pem")]
    Revoke(Box<revoke::Revoke>),
    /// Ask a CA for its certificates, the successor of a root, what a request should contain, or its revocation list
    #[command(after_help = "\
Exit codes as of `cmp enroll`; a CA that has nothing to tell is no failure.

Examples:
  homefleet cmp info --url coaps://ca.example.net --cert device.pem --key device.key --ca ca.pem ca-certs
  homefleet cmp info --url http://ca.example.net --reference r --secret-file s --root ca.pem root-ca-cert
  homefleet cmp info --url http://ca.example.net --reference r --secret-file s template
  homefleet cmp info --url http://ca.example.net --reference r --secret-file s --root ca.pem crl --out ca.crl")]
    Info(Box<info::InfoCommand>),
    /// Hear what a CA announces: new roots, its certificates, roots that are given up, revocation lists
    #[command(after_help = "\
What is announced counts when somebody signed it whom the CAs of --ca vouch for; a root, when both links prove that it follows one
of them. Ctrl-C ends it. Exit codes as of `cmp enroll`.

Examples:
  homefleet cmp observe --url coaps://ca.example.net --ca ca.pem
  homefleet cmp observe --url coaps://ca.example.net --ca ca.pem --update-ca
  homefleet cmp observe --url coap://ca.example.net --label device --ca ca.pem --once --json")]
    Observe(Box<observe::ObserveCommand>),
    /// Take CMP over CoAP from devices and pass it on to CAs that speak HTTP only (RFC 9482 3), without a server
    #[command(after_help = "\
Examples:
  homefleet cmp proxy --template > proxy.toml
  homefleet cmp proxy --config proxy.toml --check-config
  homefleet cmp proxy --config proxy.toml")]
    Proxy(proxy::Proxy),
}

impl Cmp {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Enroll(command) => command.run(global),
            Self::Update(command) => command.run(global),
            Self::Revoke(command) => command.run(global),
            Self::Info(command) => command.run(global),
            Self::Observe(command) => command.run(global),
            Self::Proxy(command) => command.run(),
        }
    }
}
