//! An MTP of the server: its addresses and brokers, and its counters.

use homefleet_api::{LinkState, MtpLink, MtpStatus};

use super::when::{Clock, When};

/// An MTP.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name for a person.
    pub(crate) name: &'static str,
    /// Devices connected over it now, for a person; empty for CoAP, which has no connections.
    pub(crate) devices: String,
    /// Where devices connect, and brokers.
    pub(crate) links: Vec<Link>,
    /// Counters that are worth a look.
    pub(crate) counts: Vec<Count>,
}

/// An address or a broker.
#[derive(Debug)]
pub(crate) struct Link {
    /// What it is called.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: String,
    /// Class of its state.
    pub(crate) state: &'static str,
    /// The same for a person.
    pub(crate) state_text: &'static str,
    /// Whether devices connect there.
    pub(crate) listens: bool,
    /// Whether nothing protects it.
    pub(crate) plain: bool,
    /// Since when.
    pub(crate) since: Option<When>,
    /// Where devices reach the server there.
    pub(crate) reached_at: String,
    /// Why it is not up.
    pub(crate) problem: String,
}

/// A counter.
#[derive(Debug)]
pub(crate) struct Count {
    /// What is counted.
    pub(crate) name: &'static str,
    /// How often.
    pub(crate) value: u64,
    /// Whether somebody should look.
    pub(crate) bad: bool,
}

impl Section {
    /// The section of this MTP.
    pub(crate) fn new(mtp: &MtpStatus, clock: &Clock) -> Self {
        let good = |name, value| Count {
            name,
            value,
            bad: false,
        };
        let bad = |name, value| Count {
            name,
            value,
            bad: value > 0,
        };
        Self {
            name: mtp.mtp.name(),
            devices: match mtp.devices {
                None => String::new(),
                Some(1) => "1 device connected".to_owned(),
                Some(count) => format!("{count} devices connected"),
            },
            links: mtp
                .links
                .iter()
                .map(|link| Link::new(link, clock))
                .collect(),
            counts: vec![
                good("Records in", mtp.records_in),
                good("Records out", mtp.records_out),
                bad("Not sent", mtp.records_failed),
                bad("Erroneous", mtp.erroneous),
                bad("Forged", mtp.forged),
            ],
        }
    }
}

impl Link {
    fn new(link: &MtpLink, clock: &Clock) -> Self {
        let (state, state_text) = match link.state {
            LinkState::Listening => ("reachable", "Listening"),
            LinkState::Up => ("reachable", "Connected"),
            LinkState::Connecting => ("unknown", "Connecting"),
            LinkState::Error => ("unreachable", "Not connected"),
        };
        let problem = link.problem.clone().unwrap_or_default();
        Self {
            name: match link.name.as_str() {
                "listen" => "For devices".to_owned(),
                "plain_listen" => "For laboratories".to_owned(),
                name => name.to_owned(),
            },
            address: link.address.clone(),
            state,
            state_text,
            listens: link.state == LinkState::Listening,
            plain: !link.secure,
            since: link.since.as_ref().map(|since| clock.when(since)),
            reached_at: link.reached_at.clone().unwrap_or_default(),
            problem: match link.failures {
                0 | 1 => problem,
                failures => format!("{problem} ({failures} attempts failed)"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_away_says_why_and_how_often() {
        let link = MtpLink {
            name: "home".to_owned(),
            address: "broker:8883".to_owned(),
            secure: true,
            state: LinkState::Error,
            since: None,
            failures: 3,
            problem: Some("connection refused".to_owned()),
            reached_at: None,
        };
        let shown = Link::new(&link, &Clock::now());
        assert_eq!(
            (shown.state, shown.state_text),
            ("unreachable", "Not connected")
        );
        assert_eq!(shown.problem, "connection refused (3 attempts failed)");
        assert!(!shown.plain);
    }
}
