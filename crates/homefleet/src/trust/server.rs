//! `homefleet trust status` and `homefleet trust reload`: the certificates of a running server.

use homefleet_api::Tls;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table, ago};

/// `trust status`.
pub(super) fn status(global: &Global) -> Result<(), Failure> {
    show(global, &global.client()?.tls()?)
}

/// `trust reload`.
pub(super) fn reload(global: &Global) -> Result<(), Failure> {
    show(global, &global.client()?.reload_tls()?)
}

fn show(global: &Global, tls: &Tls) -> Result<(), Failure> {
    if global.json {
        return output::json(tls);
    }
    let own = &tls.certificate;
    let mut table = Table::new(&["CERTIFICATE", "FINGERPRINT", "UNTIL"]);
    table.row([
        own.subject.as_str(),
        short(&own.fingerprint),
        &own.not_after,
    ]);
    for anchor in &tls.anchors {
        table.row([
            anchor.subject.as_str(),
            short(&anchor.fingerprint),
            "trusted",
        ]);
    }
    table.print()?;
    output::note(&format!("in force since {}", tls.loaded));
    if let Some(problem) = &tls.problem {
        output::note(&format!("newer files are not taken over: {problem}"));
    }
    for host in &tls.unreachable {
        output::note(&format!(
            "whether certificates are revoked cannot be asked of {host}"
        ));
    }
    if tls.refusals.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let mut table = Table::new(&["REFUSED", "TIMES", "PEER", "FINGERPRINT", "WHY"]);
    for refusal in &tls.refusals {
        table.row([
            ago(&refusal.time).as_str(),
            &refusal.count.to_string(),
            refusal.subject.as_deref().unwrap_or("-"),
            refusal.fingerprint.as_deref().map_or("-", short),
            &refusal.message,
        ]);
    }
    table.print()
}

/// Enough of a fingerprint to tell certificates apart.
fn short(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}
