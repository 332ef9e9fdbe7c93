//! `homefleet cmp info`: general messages (RFC 9483 §4.3).

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use homefleet_cmp::asn1::{
    Certificate, CertificateList, Control, CrlSource, CrlStatus, GeneralNames, Info,
};
use homefleet_cmp::client::{Outcome, Request};
use homefleet_net::cmp::entity::{certificates_to_pem, issuer_names};
use homefleet_net::cmp::session::{Applicant, Progress};
use serde_json::{Value, json};
use x509_cert::der::Decode as _;

use super::ask::{Ask, otherwise};
use super::files;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// `cmp info`.
#[derive(Debug, Args)]
pub(crate) struct InfoCommand {
    #[command(flatten)]
    ask: Ask,
    /// What is asked for
    #[arg(value_enum, value_name = "WHAT")]
    what: What,
    /// PEM file of the CA that it is about: the root that is followed, the issuer of the revocation list [default: the first of --ca]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// File for the certificates (PEM) or the revocation list (DER) that come
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// CA certificates there are (caCerts)
    CaCerts,
    /// The root that follows this one (rootCaCert)
    RootCaCert,
    /// What a request should contain (certReqTemplate)
    Template,
    /// The revocation list of an issuer (crlStatusList)
    Crl,
    /// The revocation list, as of old (currentCRL)
    CurrentCrl,
}

struct Asking {
    info: Info,
    tell: fn(&Progress),
}

impl Applicant for Asking {
    fn request(&mut self) -> Result<Request, String> {
        Ok(Request::Info(vec![self.info.clone()]))
    }

    fn progress(&mut self, progress: &Progress) {
        (self.tell)(progress);
    }
}

/// What came, for people, for programs, and for a file.
struct Told {
    text: String,
    json: Value,
    file: Option<Vec<u8>>,
}

impl InfoCommand {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let about = self.root.as_ref().or(self.ask.ca.as_ref());
        let about: Option<Certificate> = match about {
            Some(path) => Some(files::certificates(path)?.swap_remove(0)),
            None => None,
        };
        let info = match self.what {
            What::CaCerts => Info::CaCerts(None),
            What::RootCaCert => Info::RootCaCert(about),
            What::Template => Info::CertReqTemplate(None),
            What::CurrentCrl => Info::CurrentCrl(None),
            What::Crl => {
                let about = about.ok_or_else(|| {
                    Failure::Usage("the revocation list of whom? give --root or --ca".to_owned())
                })?;
                Info::CrlStatusList(vec![CrlStatus {
                    source: CrlSource::Issuer(issuer(&about)?),
                    this_update: None,
                }])
            }
        };
        files::not_there(self.out.as_deref())?;
        let asker = self.ask.asker(false)?;
        let mut asking = Asking {
            info,
            tell: asker.teller(),
        };
        let infos = match asker.run(&mut asking)? {
            Outcome::Info(infos) => infos,
            other => return Err(otherwise(other)),
        };
        let told: Vec<Told> = infos.iter().map(tell).collect();
        if let Some(path) = &self.out {
            let file: Vec<u8> = told
                .iter()
                .filter_map(|told| told.file.clone())
                .flatten()
                .collect();
            if file.is_empty() {
                output::note("homefleet: nothing came that could be written");
            } else {
                files::write(path, &file)?;
            }
        }
        if global.json {
            let all: Vec<&Value> = told.iter().map(|told| &told.json).collect();
            return output::json(&all);
        }
        told.iter().try_for_each(|told| output::line(&told.text))
    }
}

fn issuer(certificate: &Certificate) -> Result<GeneralNames, Failure> {
    issuer_names(certificate).map_err(|error| Failure::Failed(error.to_string()))
}

fn tell(info: &Info) -> Told {
    match info {
        Info::CaCerts(found) => certificates("ca_certs", found.as_deref().unwrap_or_default()),
        Info::RootCaKeyUpdate(found) => {
            let all: Vec<Certificate> = found
                .iter()
                .flat_map(|update| {
                    let links = [&update.new_with_old, &update.old_with_new];
                    let links = links.into_iter().filter_map(Clone::clone);
                    std::iter::once(update.new_with_new.clone()).chain(links)
                })
                .collect();
            certificates("root_ca_key_update", &all)
        }
        Info::Crls(found) => lists(found.as_deref().unwrap_or_default()),
        Info::CurrentCrl(found) => lists(found.as_slice()),
        Info::CertReqTemplate(found) => template(found.as_deref()),
        Info::UnsupportedOids(oids) => {
            let oids: Vec<String> = oids.iter().map(ToString::to_string).collect();
            Told {
                text: format!("the CA does not know {}", oids.join(", ")),
                json: json!({ "unsupported": oids }),
                file: None,
            }
        }
        other => {
            let kind = other.write().map(|entry| entry.info_type.to_string());
            let kind = kind.unwrap_or_default();
            Told {
                text: format!("the CA answers {kind}"),
                json: json!({ "other": kind }),
                file: None,
            }
        }
    }
}

fn certificates(name: &str, all: &[Certificate]) -> Told {
    let ders: Vec<Vec<u8>> = all.iter().map(Certificate::to_der).collect();
    let read = |der: &Vec<u8>| x509_cert::Certificate::from_der(der).ok();
    let shown: Vec<(String, String, String)> = ders
        .iter()
        .filter_map(read)
        .map(|certificate| {
            let body = certificate.tbs_certificate();
            (
                body.subject().to_string(),
                body.issuer().to_string(),
                body.validity().not_after.to_string(),
            )
        })
        .collect();
    let lines: Vec<String> = shown
        .iter()
        .map(|(subject, issuer, end)| format!("{subject}  by {issuer}, until {end}"))
        .collect();
    let entries: Vec<Value> = shown
        .iter()
        .map(|(subject, issuer, end)| json!({ "subject": subject, "issuer": issuer, "not_after": end }))
        .collect();
    Told {
        text: or_nothing(lines),
        json: json!({ name: entries }),
        file: Some(certificates_to_pem(ders.iter().map(Vec::as_slice)).into_bytes()),
    }
}

fn lists(all: &[CertificateList]) -> Told {
    let ders: Vec<Vec<u8>> = all.iter().map(CertificateList::to_der).collect();
    let shown: Vec<(String, String, usize)> = ders
        .iter()
        .filter_map(|der| {
            x509_cert::crl::CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).ok()
        })
        .map(|list| {
            let list = list.tbs_cert_list;
            (
                list.issuer.to_string(),
                list.this_update.to_string(),
                list.revoked_certificates.map_or(0, |all| all.len()),
            )
        })
        .collect();
    let lines: Vec<String> = shown
        .iter()
        .map(|(issuer, from, revoked)| {
            format!("revocation list of {issuer}, of {from}: {revoked} revoked")
        })
        .collect();
    let entries: Vec<Value> = shown
        .iter()
        .map(|(issuer, from, revoked)| json!({ "issuer": issuer, "this_update": from, "revoked": revoked }))
        .collect();
    Told {
        text: or_nothing(lines),
        json: json!({ "crls": entries }),
        file: Some(ders.concat()),
    }
}

fn template(found: Option<&homefleet_cmp::asn1::CertReqTemplate>) -> Told {
    let Some(found) = found else {
        return Told {
            text: "nothing in particular".to_owned(),
            json: json!({ "template": null }),
            file: None,
        };
    };
    let subject = found.cert_template.subject.as_ref().map(|name| {
        x509_cert::name::Name::from_der(&name.to_der())
            .map_or_else(|_| "?".to_owned(), |name| name.to_string())
    });
    let extensions: Vec<String> = found
        .cert_template
        .extensions
        .as_ref()
        .and_then(|all| Vec::<x509_cert::ext::Extension>::from_der(&all.to_der()).ok())
        .unwrap_or_default()
        .iter()
        .map(|extension| {
            let oid = extension.extn_id;
            let name = x509_cert::der::oid::db::DB.by_oid(&oid);
            name.map_or_else(|| oid.to_string(), str::to_owned)
        })
        .collect();
    let keys: Vec<String> = found
        .key_spec
        .iter()
        .flatten()
        .map(|control| match Control::read(control) {
            Ok(Control::AlgId(algorithm)) => {
                let name = x509_cert::der::oid::db::DB.by_oid(&algorithm.oid);
                name.map_or_else(|| algorithm.oid.to_string(), str::to_owned)
            }
            Ok(Control::RsaKeyLen(bits)) => format!("RSA with {bits} bits"),
            _ => control.oid.to_string(),
        })
        .collect();
    let mut lines = Vec::new();
    lines.extend(
        subject
            .as_ref()
            .map(|subject| format!("subject     {subject}")),
    );
    if !extensions.is_empty() {
        lines.push(format!("extensions  {}", extensions.join(", ")));
    }
    if !keys.is_empty() {
        lines.push(format!("keys        {}", keys.join(", ")));
    }
    Told {
        text: or_nothing(lines),
        json: json!({ "template": { "subject": subject, "extensions": extensions, "keys": keys } }),
        file: None,
    }
}

fn or_nothing(lines: Vec<String>) -> String {
    if lines.is_empty() {
        "the CA has nothing to tell".to_owned()
    } else {
        lines.join("\n")
    }
}
