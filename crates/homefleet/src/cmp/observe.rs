//! `homefleet cmp observe`: what a CA announces (RFC 9482 §2.6).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use homefleet_cmp::CertificateParts;
use homefleet_cmp::asn1::{Certificate, CertificateList};
use homefleet_net::cmp::entity::{Believed, certificates_to_pem};
use homefleet_net::cmp::roots::{News, news};
use homefleet_net::cmp::watch::{Heard, Schedule, Watch};
use homefleet_net::cmp::{Client, ClientConfig, ExchangeError, ServerTrust, Url};
use homefleet_net::dtls::TrustVerifier;
use homefleet_trust::{Anchor, Policy, Time};
use serde_json::{Value, json};
use x509_cert::der::Decode as _;

use super::files;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime};

/// `cmp observe`.
#[derive(Debug, Args)]
pub(crate) struct ObserveCommand {
    /// The CA, or a proxy in front of it: coaps:// or coap://; without a path /.well-known/cmp/ann
    #[arg(long, value_name = "URL")]
    url: Url,
    /// The CA or certificate profile by its label: /.well-known/cmp/p/LABEL/ann
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// PEM file of the roots that are trusted: they vouch for what is announced, and for a coaps server
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Talk to a coaps server whoever it is: the protection of what is announced is what is believed
    #[arg(long)]
    trust_from_cmp: bool,
    /// End after the first answer, instead of waiting for changes
    #[arg(long)]
    once: bool,
    /// Keep the roots that are trusted in the file of --ca: one that follows is added, one that is given up is taken out
    #[arg(long)]
    update_ca: bool,
}

/// What is known from one announcement to the next.
struct Watching {
    believed: Believed,
    /// Vouches for the server.
    server: Arc<TrustVerifier>,
    /// Where the roots are kept.
    file: Option<PathBuf>,
    heard: Option<Vec<u8>>,
}

impl ObserveCommand {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let unusable = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let url = match &self.label {
            None => self.url.clone(),
            Some(label) => self.url.with_label(label).ok_or_else(|| {
                Failure::Usage("the URL has a path already: write the label there".to_owned())
            })?,
        };
        let anchors = files::anchors(&self.ca)?;
        let now = || Time::Accurate(SystemTime::now());
        let server = Arc::new(TrustVerifier::new(anchors.clone(), Policy::default(), now));
        let trust = if self.trust_from_cmp {
            ServerTrust::FromCmp
        } else {
            ServerTrust::Verifier(server.clone())
        };
        let client = Client::new(ClientConfig::new(trust)).map_err(|error| unusable(&error))?;
        let mut watching = Watching {
            believed: Believed::new(anchors),
            server,
            file: self.update_ca.then(|| self.ca.clone()),
            heard: None,
        };
        runtime()?.block_on(async {
            let mut ended = Ended::new()?;
            let mut watch = Watch::new(client, url, Schedule::default());
            loop {
                let heard = tokio::select! {
                    heard = watch.next() => heard,
                    () = ended.wait() => return Ok(()),
                };
                match heard {
                    Heard::Announced { message, kept } => {
                        watching.take(&message, global)?;
                        if self.once {
                            return Ok(());
                        }
                        if !kept {
                            output::note(
                                "the server has no room for an observer; asking again later",
                            );
                        }
                    }
                    Heard::Failed { error, again_in } => {
                        if self.once || !error.is_transient() {
                            return Err(failure(error));
                        }
                        output::note(&format!("{error}; again in {} s", again_in.as_secs()));
                    }
                }
            }
        })
    }
}

fn failure(error: ExchangeError) -> Failure {
    let text = error.to_string();
    match error {
        ExchangeError::Refused { .. }
        | ExchangeError::Untrusted(_)
        | ExchangeError::NoMessage(_) => Failure::Refused(text),
        ExchangeError::NotObservable | ExchangeError::NotUnicast => Failure::Usage(text),
        _ => Failure::Unreachable(text),
    }
}

impl Watching {
    /// Tells what is new, and keeps it.
    fn take(&mut self, message: &[u8], global: &Global) -> Result<(), Failure> {
        if self.heard.as_deref() == Some(message) {
            return Ok(());
        }
        self.heard = Some(message.to_vec());
        self.believed.time = Time::Accurate(SystemTime::now());
        let found = news(message, &self.believed)
            .map_err(|refusal| Failure::Refused(format!("what is announced: {refusal}")))?;
        tell(&found, message.is_empty(), global)?;
        self.follow(&found)
    }

    fn follow(&mut self, news: &News) -> Result<(), Failure> {
        let mut anchors = self.believed.anchors.clone();
        if !news.apply(&mut anchors, self.believed.time) {
            return Ok(());
        }
        if let Some(file) = &self.file {
            let text = certificates_to_pem(anchors.iter().map(Anchor::der));
            files::replace(file, text.as_bytes())?;
            output::note(&format!(
                "{} holds {} roots now",
                file.display(),
                anchors.len()
            ));
        }
        self.server.replace_anchors(anchors.clone());
        self.believed.anchors = anchors;
        Ok(())
    }
}

fn tell(news: &News, nothing: bool, global: &Global) -> Result<(), Failure> {
    let lines = lines(news);
    if global.json {
        let all: Vec<Value> = lines.into_iter().map(|(_, value)| value).collect();
        // One line for each state.
        return output::line(&Value::from(all).to_string());
    }
    if nothing {
        return output::line("nothing is announced");
    }
    if lines.is_empty() {
        return output::line("nothing new");
    }
    lines.iter().try_for_each(|(text, _)| output::line(text))
}

fn lines(news: &News) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (old, new) in &news.followed {
        let (old, new) = (fingerprint(old), fingerprint(new));
        all.push((
            format!("new root: {new} follows {old}, as both links prove"),
            json!({ "kind": "ckuann", "new": new, "old": old }),
        ));
    }
    for (root, at) in &news.retired {
        let (root, at) = (fingerprint(root), time(*at));
        all.push((
            format!("root given up: {root}, from {at} on"),
            json!({ "kind": "rann", "root": root, "at": at }),
        ));
    }
    for revoked in &news.revoked {
        let serial: String = revoked
            .cert_id
            .serial_number
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let at = time(revoked.will_be_revoked_at.to_system_time());
        all.push((
            format!("certificate {serial} is revoked from {at} on"),
            json!({ "kind": "rann", "serial": serial, "at": at }),
        ));
    }
    for certificate in &news.certificates {
        let (subject, issuer) = names(certificate);
        all.push((
            format!("certificate of the CA: {subject}, by {issuer}"),
            json!({ "kind": "cann", "subject": subject, "issuer": issuer }),
        ));
    }
    for list in &news.lists {
        let (issuer, count) = listed(list);
        all.push((
            format!("revocation list of {issuer}: {count} revoked"),
            json!({ "kind": "crlann", "issuer": issuer, "revoked": count }),
        ));
    }
    for why in &news.refused {
        all.push((
            format!("not believed: {why}"),
            json!({ "kind": "refused", "why": why }),
        ));
    }
    all
}

fn fingerprint(anchor: &Anchor) -> String {
    let bytes = anchor.fingerprint();
    let short: String = bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} ({short}…)", anchor.subject())
}

fn time(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let time = x509_cert::der::DateTime::from_unix_duration(since);
    time.map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

fn names(certificate: &Certificate) -> (String, String) {
    let text = |name: &homefleet_cmp::asn1::Name| {
        x509_cert::name::Name::from_der(&name.to_der())
            .map_or_else(|_| "?".to_owned(), |name| name.to_string())
    };
    CertificateParts::read(certificate).map_or_else(
        |_| ("?".to_owned(), "?".to_owned()),
        |parts| (text(&parts.subject), text(&parts.issuer)),
    )
}

fn listed(list: &CertificateList) -> (String, usize) {
    x509_cert::crl::CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&list.to_der())
        .map_or_else(
            |_| ("?".to_owned(), 0),
            |list| {
                let list = list.tbs_cert_list;
                let revoked = list.revoked_certificates.map_or(0, |all| all.len());
                (list.issuer.to_string(), revoked)
            },
        )
}
