//! What is encoded is valid by the Broadband Forum's schemas (`tests/data/xsd`), as xmllint judges.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use homefleet_cwmp::{Envelope, Header, Message, Version, soap::EncodeOptions};

use crate::samples;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/xsd")
}

/// Whether xmllint is there; in CI it has to be.
fn has_xmllint() -> bool {
    match Command::new("xmllint").arg("--version").output() {
        Ok(output) => {
            println!(
                "{}",
                String::from_utf8_lossy(&output.stderr)
                    .lines()
                    .next()
                    .unwrap_or("")
            );
            true
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "xmllint: {error}");
            eprintln!("SKIPPED: xmllint (package libxml2-utils) is missing: {error}");
            false
        }
    }
}

/// What xmllint says about all documents at once, by the schema of a version.
fn validate(version: Version, documents: &[Vec<u8>]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let number = version.as_str().replace('.', "-");
    let schema = format!(
        r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
        <xs:import namespace="http://schemas.xmlsoap.org/soap/envelope/" schemaLocation="{0}/soap-envelope.xsd"/>
        <xs:import namespace="{1}" schemaLocation="{0}/cwmp-{number}.xsd"/></xs:schema>"#,
        data().display(),
        version.namespace().urn(),
    );
    let schema_file = folder.path().join("all.xsd");
    std::fs::write(&schema_file, schema).unwrap();
    let mut command = Command::new("xmllint");
    command
        .env("XML_CATALOG_FILES", data().join("catalog.xml"))
        .args(["--nonet", "--noout", "--schema"])
        .arg(&schema_file);
    for (number, document) in documents.iter().enumerate() {
        let file = folder.path().join(format!("{number}.xml"));
        std::fs::write(&file, document).unwrap();
        command.arg(file);
    }
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn header(version: Version, message: &Message) -> Header {
    let mut header = Header::with_id("1 & 2");
    header.hold_requests = message.is_request();
    if version >= Version::V1_3 {
        header.session_timeout = Some(40);
    }
    if version >= Version::V1_4 {
        header.supported_versions = Some(Version::ALL.to_vec());
        header.use_version = Some(version);
    }
    header
}

/// Whether `version` has the message as our samples fill it.
fn has(version: Version, message: &Message) -> bool {
    let fits = match message {
        // 1.0 lists the codes of failed transfers.
        Message::TransferComplete(_) => version >= Version::V1_1,
        Message::SetParameterAttributes(_) => true,
        // Lightweight notifications are 1.4's; the schema of 1.2 has them too.
        Message::GetParameterAttributesResponse(_) => version >= Version::V1_2,
        // File types without X came to this answer later.
        Message::GetAllQueuedTransfersResponse(_) => version >= Version::V1_1,
        // Types with an instance number are 1.2's.
        Message::Upload(_) => version >= Version::V1_2,
        Message::Download(_) | Message::RequestDownload(_) => true,
        Message::Fault(fault) => {
            version >= Version::V1_1 || fault.code.0 <= 9013 && fault.code.0 != 8006
        }
        _ => true,
    };
    fits && message
        .method()
        .is_none_or(|method| method.since() <= version)
}

#[test]
fn every_message_is_valid_by_the_schema_of_every_version_that_has_it() {
    if !has_xmllint() {
        return;
    }
    for version in Version::ALL {
        let documents: Vec<_> = samples::messages()
            .into_iter()
            .filter(|message| has(version, message))
            .enumerate()
            .map(|(number, message)| {
                let header = header(version, &message);
                let declaration = number % 2 == 0;
                Envelope::new(version.namespace(), header, message)
                    .encode_with(&EncodeOptions { declaration })
            })
            .collect();
        assert!(documents.len() >= 60, "{version}: {}", documents.len());
        assert_eq!(validate(version, &documents), Ok(()), "{version}");
    }
}

#[test]
fn the_schemas_refuse_what_is_wrong() {
    if !has_xmllint() {
        return;
    }
    let right = Envelope::new(
        Version::V1_4.namespace(),
        header(Version::V1_4, &samples::inform().into()),
        samples::inform(),
    );
    let right = String::from_utf8(right.encode()).unwrap();
    assert_eq!(
        validate(Version::V1_4, &[right.clone().into_bytes()]),
        Ok(())
    );
    let wrong = [
        ("<OUI>00D09E</OUI>", "<OUI>00d09e</OUI>"),
        ("<RetryCount>3</RetryCount>", ""),
        ("xsi:type=\"xsd:int\">-7", "xsi:type=\"xsd:int\">seven"),
        ("<EventCode>1 BOOT<", "<EventCode>BOOT<"),
        ("cwmp:Inform>", "cwmp:Infirm>"),
        ("<cwmp:ID SOAP-ENV:mustUnderstand=\"1\">", "<cwmp:ID>"),
    ];
    for (from, to) in wrong {
        let document = right.replace(from, to);
        assert_ne!(document, right, "{from}");
        let result = validate(Version::V1_4, &[document.into_bytes()]);
        assert!(result.is_err(), "{from} as {to}");
    }
}
