//! Headers of an envelope (TR-069 §3.5.1, Table 4).

use super::{Field as _, Reader, Writer};
use crate::{DecodeError, Version, error::shortened};

/// What stands in the SOAP Header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `ID`: a response repeats that of its request.
    pub id: Option<String>,
    /// `HoldRequests`: the ACS asks the CPE to send no requests for now. Only in envelopes of an ACS.
    pub hold_requests: bool,
    /// `SessionTimeout` of CWMP 1.3: for how many seconds the CPE asks the ACS to wait for its next message.
    pub session_timeout: Option<u32>,
    /// `SupportedCWMPVersions` of CWMP 1.4: what the CPE speaks; versions we do not know are left out.
    pub supported_versions: Option<Vec<Version>>,
    /// `UseCWMPVersion` of CWMP 1.4: what the ACS has chosen.
    pub use_version: Option<Version>,
    /// A header that the sender wants understood (`mustUnderstand="1"`) and that we do not know.
    pub not_understood: Option<String>,
}

impl Header {
    /// A header with an ID and nothing else.
    pub fn with_id(id: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            ..Self::default()
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let marked = |writer: &mut Writer, name: &str, mark: &str, text: &str| {
            writer.raw("<cwmp:");
            writer.raw(name);
            writer.raw(" SOAP-ENV:mustUnderstand=\"");
            writer.raw(mark);
            writer.raw("\">");
            writer.text(text);
            writer.raw("</cwmp:");
            writer.raw(name);
            writer.raw(">");
        };
        writer.open("SOAP-ENV:Header");
        if let Some(id) = &self.id {
            marked(writer, "ID", "1", id);
        }
        if self.hold_requests {
            marked(writer, "HoldRequests", "1", "1");
        }
        if let Some(seconds) = self.session_timeout {
            marked(writer, "SessionTimeout", "0", &seconds.to_string());
        }
        if let Some(versions) = &self.supported_versions {
            let all: Vec<_> = versions.iter().map(|version| version.as_str()).collect();
            marked(writer, "SupportedCWMPVersions", "0", &all.join(","));
        }
        if let Some(version) = self.use_version {
            marked(writer, "UseCWMPVersion", "1", version.as_str());
        }
        writer.close("SOAP-ENV:Header");
    }

    /// Reads the children of a Header, whatever their prefixes.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        while let Some(child) = reader.child()? {
            match child.local_name().as_ref() {
                "ID" => self.id = Some(reader.text()?.into_owned()),
                "HoldRequests" => self.hold_requests = bool::read(reader, "HoldRequests")?,
                // Of the first edition: that no requests follow. Nothing depends on it.
                "NoMoreRequests" => reader.skip()?,
                "SessionTimeout" => {
                    self.session_timeout = Some(u32::read(reader, "SessionTimeout")?);
                }
                "SupportedCWMPVersions" => {
                    let text = reader.text()?;
                    let named =
                        |version: &Version| text.split(',').any(|own| own.parse() == Ok(*version));
                    let known = Version::ALL.into_iter().filter(named);
                    self.supported_versions = Some(known.collect());
                }
                "UseCWMPVersion" => match reader.text()?.parse() {
                    Ok(version) => self.use_version = Some(version),
                    Err(_) => self.not_understood = Some("UseCWMPVersion".to_owned()),
                },
                other => {
                    let mandatory = reader.attribute(&child, "mustUnderstand")?;
                    if matches!(mandatory.as_deref().map(str::trim), Some("1" | "true")) {
                        self.not_understood = Some(shortened(other));
                    }
                    reader.skip()?;
                }
            }
        }
        Ok(())
    }
}
