//! The walk as text.

use crate::{
    decision::{Decision, Outcome, Source},
    figure::date,
};

/// The walk through Figure MTP.1, readable for an operator: each box, MUST or OPT, the answer and the reason, then the
/// outcome with the TLS alert of a refusal, then the chain with dates and fingerprints.
pub fn explain(decision: &Decision) -> String {
    let mut text = String::from("Figure MTP.1, receiving an X.509 certificate\n");
    for (number, step) in decision.steps.iter().enumerate() {
        let number = number + 1;
        let (element, level, answer) = (step.element, step.level(), step.answer);
        text.push_str(&format!(
            "{number:>3}. {element:<27} {level:<4}  {answer}\n       {}\n",
            step.detail
        ));
    }
    match &decision.outcome {
        Outcome::Establish => text.push_str("  => Establish encrypted MTP session\n"),
        Outcome::Hold(wanted) => {
            text.push_str("  => Hold until this is fetched\n");
            for wanted in wanted {
                text.push_str(&format!("     {wanted}\n"));
            }
        }
        Outcome::Terminate(refusal) => {
            text.push_str(&format!(
                "  => Terminate communication: {refusal} [{}]\n",
                refusal.alert()
            ));
        }
    }
    if let Some(peer) = &decision.peer {
        text.push_str(&format!("     Ground: {}\n", peer.basis));
        if let Some(until) = decision.valid_until {
            text.push_str(&format!("     To be decided anew after {}\n", date(until)));
        }
        for id in &peer.endpoint_ids {
            text.push_str(&format!("     Endpoint ID {id}\n"));
        }
    }
    if !decision.chain.is_empty() {
        text.push_str("\nChain\n");
    }
    for (level, certificate) in decision.chain.iter().enumerate() {
        let source = match certificate.source {
            Source::Presented(index) => format!("presented, position {index}"),
            Source::Anchor(_) => "trusted".into(),
            Source::Broker(_) => "Trusted Broker".into(),
        };
        text.push_str(&format!(
            "{level:>3}. {}\n     issued by {}\n     valid from {} to {}\n     SHA-256 {}\n     {source}\n",
            certificate.subject,
            certificate.issuer,
            date(certificate.not_before),
            date(certificate.not_after),
            hex(&certificate.fingerprint),
        ));
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
