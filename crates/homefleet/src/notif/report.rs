//! What became of everything that was sent, as far as a receiver can know: each message in exactly one place.

use std::collections::BTreeMap;

use homefleet_net::notif::Stats;
use homefleet_notif::Reason;
use homefleet_server::telemetry::output::OutputStatus;
use serde::Serialize;

use super::receive::Tally;
use crate::output;

/// Statistics of a receiver.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Datagrams and DTLS records taken.
    datagrams: u64,
    /// Messages printed and handed on.
    delivered: u64,
    /// Messages that came after --count was reached.
    beyond_count: u64,
    /// Datagrams dropped by the kernel at a full socket.
    lost_in_kernel: u64,
    /// Message IDs that never came, those lost in the kernel left out.
    lost_on_path: u64,
    /// Message IDs that have not come and still may.
    missing: u64,
    /// Messages of which segments did not come.
    incomplete: u64,
    /// Messages that came twice.
    duplicate: u64,
    /// Messages that came after later ones.
    reordered: u64,
    /// Messages far from the others.
    out_of_window: u64,
    /// Times that a publisher began to count anew.
    restarted: u64,
    /// Messages dropped because this program did not keep up.
    not_kept_up: u64,
    /// Datagrams, records and segments refused, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// Messages without an envelope that can be read, by reason; they are delivered all the same.
    envelope_errors: BTreeMap<&'static str, u64>,
    /// Publishers known.
    publishers: usize,
    /// DTLS sessions.
    sessions: u64,
    /// Receive buffer granted, per socket.
    receive_buffers: Vec<usize>,
    /// Outputs.
    outputs: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    output: String,
    destination: String,
    delivered: u64,
    refused: u64,
    dropped: u64,
    abandoned: u64,
    waiting: u64,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Report {
    pub(super) fn new(
        stats: &Stats,
        publishers: usize,
        sessions: u64,
        tally: &Tally,
        outputs: Vec<OutputStatus>,
    ) -> Self {
        let totals = &stats.collector.totals;
        let in_kernel = stats
            .sockets
            .iter()
            .map(|socket| socket.kernel_dropped_datagrams)
            .sum();
        Self {
            datagrams: stats.collector.datagrams,
            delivered: tally.handed_on,
            beyond_count: tally.beyond,
            lost_in_kernel: in_kernel,
            // What the kernel drops is missing among the Message IDs too.
            lost_on_path: totals.lost.saturating_sub(in_kernel),
            missing: totals.missing,
            incomplete: totals.incomplete + totals.pending,
            duplicate: totals.duplicate,
            reordered: totals.reordered,
            out_of_window: totals.out_of_window,
            restarted: totals.restarted,
            not_kept_up: stats.queue_dropped,
            refused: Reason::ALL
                .into_iter()
                .map(|reason| (reason.name(), stats.collector.refused(reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            envelope_errors: tally.envelope_errors.clone(),
            publishers,
            sessions,
            receive_buffers: stats
                .sockets
                .iter()
                .map(|socket| socket.receive_buffer)
                .collect(),
            outputs: outputs
                .into_iter()
                .map(|status| Outcome {
                    output: status.kind.to_owned(),
                    destination: status.destination,
                    delivered: status.delivered,
                    refused: status.refused,
                    dropped: status.dropped,
                    abandoned: status.abandoned,
                    waiting: status.waiting,
                    failures: status.failures,
                    problem: status.problem,
                })
                .collect(),
        }
    }

    /// On standard error: as one line of JSON for programs.
    pub(super) fn tell(&self, json: bool) {
        if json {
            // Numbers and texts serialise.
            output::note(&serde_json::to_string(self).unwrap_or_default());
            return;
        }
        output::note(&format!(
            "delivered {}, lost in the kernel {}, lost on the path {}, refused {}, duplicates {}",
            self.delivered,
            self.lost_in_kernel,
            self.lost_on_path,
            self.refused.values().sum::<u64>(),
            self.duplicate
        ));
        output::note(&format!(
            "  reordered {}, incomplete {}, still missing {}, out of window {}, restarts {}, not kept up {}",
            self.reordered,
            self.incomplete,
            self.missing,
            self.out_of_window,
            self.restarted,
            self.not_kept_up
        ));
        output::note(&format!(
            "  datagrams {}, publishers {}, DTLS sessions {}",
            self.datagrams, self.publishers, self.sessions
        ));
        for (reason, count) in &self.refused {
            output::note(&format!("  refused for {reason}: {count}"));
        }
        for (kind, count) in &self.envelope_errors {
            output::note(&format!("  envelopes not read, {kind}: {count}"));
        }
        if self.beyond_count > 0 {
            output::note(&format!("  beyond --count: {}", self.beyond_count));
        }
        for outcome in &self.outputs {
            let problem = match &outcome.problem {
                Some(problem) => format!(" ({problem})"),
                None => String::new(),
            };
            output::note(&format!(
                "  {} {}: delivered {}, refused {}, dropped {}, given up {}{problem}",
                outcome.output,
                outcome.destination,
                outcome.delivered,
                outcome.refused,
                outcome.dropped,
                outcome.abandoned + outcome.waiting
            ));
        }
    }
}
