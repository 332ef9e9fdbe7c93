//! The recipes of `docs/manual/certificates.md` make certificates that are accepted.

use std::{path::Path, time::SystemTime};

use homefleet_trust::{
    Connection, Context, Decision, Policy, Time, anchors_from_pem, chain_from_pem, decide,
};
use tempfile::TempDir;

use crate::openssl::{read, shell};

/// The fenced `sh` blocks of the manual, in order.
fn recipes() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/certificates.md");
    let text = std::fs::read_to_string(path).unwrap();
    text.split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "openssl dates the certificates with the real time"
)]
fn ask(directory: &Path, chain: &str, anchors: &str, connection: Connection<'_>) -> Decision {
    let policy = Policy::default();
    let anchors = anchors_from_pem(&read(directory, anchors)).unwrap();
    let time = Time::Accurate(SystemTime::now());
    let context = Context::new(&anchors, time, connection, &policy);
    decide(&chain_from_pem(&read(directory, chain)).unwrap(), &context)
}

#[test]
fn the_manuals_recipe_makes_certificates_that_are_accepted() {
    let directory = TempDir::new().unwrap();
    shell(directory.path(), &recipes().concat());

    let target = Some("oui:0044FF:controller-1");
    let connection = Connection::Initiated {
        host: "acs.example.com",
        endpoint_id: target,
    };
    let server = ask(directory.path(), "server-chain.pem", "ca.pem", connection);
    assert!(
        server.is_established(),
        "{}",
        homefleet_trust::explain(&server)
    );
    let identity = server.peer.unwrap();
    assert_eq!(identity.endpoint_ids, ["oui:0044FF:controller-1"]);
    assert_eq!(identity.dns_names, ["acs.example.com"]);

    // By its Endpoint ID alone, as from a device that knows only an address.
    let connection = Connection::Initiated {
        host: "192.0.2.1",
        endpoint_id: target,
    };
    assert!(ask(directory.path(), "server-chain.pem", "ca.pem", connection).is_established());

    let device = ask(
        directory.path(),
        "device-chain.pem",
        "ca.pem",
        Connection::Accepted,
    );
    assert!(
        device.is_established(),
        "{}",
        homefleet_trust::explain(&device)
    );
    assert!(device.peer.unwrap().is_endpoint("os::0044FF-0000000001"));

    // A device is also a server: the operator's side opens connections to it.
    let connection = Connection::Initiated {
        host: "192.0.2.7",
        endpoint_id: Some("os::0044FF-0000000001"),
    };
    assert!(ask(directory.path(), "device-chain.pem", "ca.pem", connection).is_established());

    // Neither is another Endpoint.
    let connection = Connection::Initiated {
        host: "192.0.2.7",
        endpoint_id: Some("os::0044FF-0000000002"),
    };
    assert!(!ask(directory.path(), "device-chain.pem", "ca.pem", connection).is_established());
}

#[test]
fn the_manuals_private_keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    shell(directory.path(), &recipes().concat());
    let mut keys = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "key")
        {
            keys += 1;
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o077,
                0,
                "{:?}",
                entry.path()
            );
        }
    }
    assert_eq!(keys, 4);
}
