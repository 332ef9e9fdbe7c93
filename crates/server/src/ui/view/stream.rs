//! How telemetry fares, for its page.

use homefleet_api::client::encode;
use homefleet_api::{OutputHealth, Publisher, Telemetry, TelemetryOutput};

use super::connection::Count;
use super::when::{Clock, When};

/// The page.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Sockets.
    pub(crate) sockets: Vec<Socket>,
    /// Counters of the receiver that are worth a look.
    pub(crate) counts: Vec<Count>,
    /// Publishers, those heard last first.
    pub(crate) publishers: Vec<Line>,
    /// Publishers that are not shown.
    pub(crate) more: u64,
    /// Outputs.
    pub(crate) outputs: Vec<OutputLine>,
    /// Counters of the time series; none when none are kept.
    pub(crate) series: Vec<Count>,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Its address as a URI.
    pub(crate) address: String,
    /// Whether nothing protects it.
    pub(crate) plain: bool,
    /// Datagrams taken.
    pub(crate) datagrams: u64,
    /// Datagrams dropped by the kernel.
    pub(crate) kernel_drops: u64,
    /// Buffer granted.
    pub(crate) buffer: String,
}

/// A publisher.
#[derive(Debug)]
pub(crate) struct Line {
    /// Endpoint ID; empty when it is tied to no device.
    pub(crate) device: String,
    /// The page with its series.
    pub(crate) href: String,
    /// Where it sends from, and its ID there.
    pub(crate) address: String,
    /// Whether nothing protects it.
    pub(crate) plain: bool,
    /// Generation and encoding.
    pub(crate) form: String,
    /// Last heard.
    pub(crate) last: When,
    /// Received.
    pub(crate) received: u64,
    /// Lost; `None` where that cannot be known.
    pub(crate) lost: Option<u64>,
    /// Twice.
    pub(crate) duplicate: u64,
    /// Late.
    pub(crate) reordered: u64,
    /// Refused, incomplete, out of window.
    pub(crate) refused: u64,
    /// Began anew.
    pub(crate) restarted: u64,
}

/// An output.
#[derive(Debug)]
pub(crate) struct OutputLine {
    /// Name.
    pub(crate) name: String,
    /// Kind and destination.
    pub(crate) kind: String,
    /// Where.
    pub(crate) destination: String,
    /// Class of its state.
    pub(crate) state: &'static str,
    /// The same for a person.
    pub(crate) state_text: &'static str,
    /// Since when.
    pub(crate) since: When,
    /// Why it fails.
    pub(crate) problem: String,
    /// Delivered.
    pub(crate) delivered: u64,
    /// Waiting, of how many.
    pub(crate) waiting: String,
    /// Dropped and given up.
    pub(crate) dropped: u64,
    /// Refused.
    pub(crate) refused: u64,
    /// Failed attempts.
    pub(crate) failures: u64,
}

impl Streams {
    /// The page of this status.
    pub(crate) fn new(telemetry: &Telemetry, clock: &Clock) -> Self {
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
        let refused = telemetry.refused.values().sum();
        let unreadable = telemetry.envelope_errors.values().sum();
        let shown = u64::try_from(telemetry.publishers.len()).unwrap_or(u64::MAX);
        let mut counts = vec![
            good("Datagrams", telemetry.datagrams),
            good("Messages", telemetry.received),
            bad("Lost", telemetry.lost),
            bad("Refused", refused),
            bad("Not kept up", telemetry.queue_dropped),
            bad("Of nobody known", telemetry.unknown_refused),
            bad("Not readable", unreadable),
            good("DTLS sessions", telemetry.sessions),
        ];
        if telemetry.unknown_kept > 0 {
            counts.push(good("Kept without device", telemetry.unknown_kept));
        }
        Self {
            sockets: telemetry
                .sockets
                .iter()
                .map(|socket| Socket {
                    address: format!(
                        "{}://{}",
                        if socket.secure { "dtls" } else { "udp" },
                        socket.address
                    ),
                    plain: !socket.secure,
                    datagrams: socket.datagrams,
                    kernel_drops: socket.kernel_drops,
                    buffer: mebibytes(socket.receive_buffer),
                })
                .collect(),
            counts,
            publishers: telemetry
                .publishers
                .iter()
                .map(|publisher| Line::new(publisher, clock))
                .collect(),
            more: telemetry.publisher_count.saturating_sub(shown),
            outputs: telemetry
                .outputs
                .iter()
                .map(|output| OutputLine::new(output, clock))
                .collect(),
            series: telemetry
                .series
                .iter()
                .flat_map(|series| {
                    [
                        good("Series", series.series),
                        good("Points", series.points),
                        good("Written", series.written),
                        bad("Not kept up", series.dropped),
                        bad("Beyond the device's number", series.refused),
                        good("Left out", series.left_out),
                    ]
                })
                .collect(),
        }
    }
}

impl Line {
    fn new(publisher: &Publisher, clock: &Clock) -> Self {
        let device = publisher.device.clone().unwrap_or_default();
        Self {
            href: format!("/telemetry/{}", encode(&device)),
            device,
            address: format!("{} #{}", publisher.address, publisher.publisher_id),
            plain: !publisher.secure,
            form: format!("{} {}", publisher.generation, publisher.media_type),
            last: clock.when(&publisher.last_heard),
            received: publisher.received,
            lost: publisher.counts_loss.then_some(publisher.lost),
            duplicate: publisher.duplicate,
            reordered: publisher.reordered,
            refused: publisher.refused + publisher.incomplete + publisher.out_of_window,
            restarted: publisher.restarted,
        }
    }
}

impl OutputLine {
    fn new(output: &TelemetryOutput, clock: &Clock) -> Self {
        let (state, state_text) = match output.health {
            OutputHealth::Idle => ("unknown", "Nothing yet"),
            OutputHealth::Up => ("reachable", "Delivers"),
            OutputHealth::Failing => ("unreachable", "Fails"),
        };
        Self {
            name: output.name.clone(),
            kind: output.kind.clone(),
            destination: output.destination.clone(),
            state,
            state_text,
            since: clock.when(&output.since),
            problem: output.problem.clone().unwrap_or_default(),
            delivered: output.delivered,
            waiting: format!("{} of {}", output.waiting, output.capacity),
            dropped: output.dropped + output.abandoned,
            refused: output.refused,
            failures: output.failures,
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_loss_cannot_be_known_none_is_claimed() {
        let mut publisher = Publisher {
            device: None,
            address: "192.0.2.1:1".to_owned(),
            publisher_id: 1,
            secure: false,
            generation: "draft-03".to_owned(),
            media_type: "json".to_owned(),
            counts_loss: false,
            first_heard: String::new(),
            last_heard: String::new(),
            received: 1,
            bytes: 1,
            lost: 0,
            duplicate: 0,
            reordered: 0,
            refused: 1,
            incomplete: 2,
            out_of_window: 3,
            restarted: 0,
        };
        let clock = Clock::now();
        assert_eq!(Line::new(&publisher, &clock).lost, None);
        publisher.counts_loss = true;
        let line = Line::new(&publisher, &clock);
        assert_eq!((line.lost, line.refused, line.plain), (Some(0), 6, true));
    }
}
