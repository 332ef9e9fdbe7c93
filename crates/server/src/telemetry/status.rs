//! How telemetry fares, for the REST API, the console and `/metrics`.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use homefleet_api as api;
use homefleet_net::notif::{PublisherStats, Stats};
use homefleet_notif::Reason;

use super::Telemetry;
use super::output::{Health, OutputStatus};
use crate::clock::Millis;
use crate::metrics::Sample;

/// Most publishers that are told one by one.
const MAX_PUBLISHERS: usize = 1000;
/// Most devices with metrics of their own; the others are one.
const MAX_LABELS: usize = 200;

impl Telemetry {
    /// Counters of the receiver; zero before it listens and after it ended.
    pub fn stats(&self) -> Stats {
        let receiver = self.receiver();
        receiver
            .as_ref()
            .map(|receiver| receiver.stats())
            .unwrap_or_default()
    }

    fn publishers(&self) -> Vec<PublisherStats> {
        let receiver = self.receiver();
        receiver
            .as_ref()
            .map(|receiver| receiver.publishers())
            .unwrap_or_default()
    }

    /// As the REST API tells it.
    pub fn status(&self) -> api::Telemetry {
        let stats = self.stats();
        let mut publishers = self.publishers();
        publishers.sort_by_key(|publisher| std::cmp::Reverse(publisher.last_heard));
        let publisher_count = count(publishers.len());
        publishers.truncate(MAX_PUBLISHERS);
        let counters = &self.0.counters;
        let errors = counters.envelope_errors.lock();
        let errors = errors.unwrap_or_else(PoisonError::into_inner);
        api::Telemetry {
            sockets: stats.sockets.iter().map(socket).collect(),
            datagrams: stats.collector.datagrams,
            received: stats.collector.totals.received,
            lost: stats.collector.totals.lost,
            refused: Reason::ALL
                .into_iter()
                .map(|reason| (reason.name().to_owned(), stats.collector.refused(reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            queue_dropped: stats.queue_dropped,
            unknown_refused: counters.unknown_refused.load(Ordering::Relaxed),
            unknown_kept: counters.unknown_kept.load(Ordering::Relaxed),
            envelope_errors: errors
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            sessions: stats.sessions,
            publishers: publishers
                .iter()
                .map(|publisher| {
                    let identity = publisher.identity.as_deref();
                    let device = self.0.ties.device(identity, publisher.source.ip());
                    to_api(publisher, device)
                })
                .collect(),
            publisher_count,
            outputs: self.outputs().into_iter().map(output).collect(),
            series: self.0.series.as_ref().map(|series| {
                let stats = series.stats();
                api::SeriesStatus {
                    series: stats.series,
                    points: stats.points,
                    written: stats.written,
                    dropped: stats.dropped,
                    refused: stats.refused,
                    left_out: counters.left_out.load(Ordering::Relaxed),
                }
            }),
        }
    }

    /// What `/metrics` shows of it.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let status = self.status();
        let stats = self.stats();
        let mut samples = vec![
            Sample::counter(
                "notif_datagrams",
                "Datagrams and DTLS records of telemetry",
                status.datagrams,
            ),
            Sample::counter(
                "notif_queue_dropped",
                "Telemetry messages dropped because the server did not keep up",
                status.queue_dropped,
            ),
            Sample::counter(
                "notif_unknown_refused",
                "Telemetry messages of publishers that are tied to no device, dropped",
                status.unknown_refused,
            ),
            Sample::counter(
                "notif_unknown_kept",
                "Telemetry messages of publishers that are tied to no device, handed on",
                status.unknown_kept,
            ),
            Sample::gauge(
                "notif_sessions",
                "DTLS sessions of publishers",
                signed(status.sessions),
            ),
            Sample::gauge(
                "notif_publishers",
                "Publishers known",
                signed(status.publisher_count),
            ),
        ];
        for socket in &status.sockets {
            samples.push(
                Sample::counter(
                    "notif_kernel_drops",
                    "Datagrams that the kernel dropped at a full socket",
                    socket.kernel_drops,
                )
                .labelled("socket", &socket.address),
            );
        }
        for reason in Reason::ALL {
            samples.push(
                Sample::counter(
                    "notif_refused",
                    "Datagrams, records and segments refused, by reason",
                    stats.collector.refused(reason),
                )
                .labelled("reason", reason.name()),
            );
        }
        for (kind, count) in &status.envelope_errors {
            samples.push(
                Sample::counter(
                    "notif_envelope_errors",
                    "Messages without an envelope that can be read",
                    *count,
                )
                .labelled("kind", kind),
            );
        }
        samples.extend(self.by_device());
        samples.extend(by_output(&status.outputs));
        if let Some(series) = status.series {
            samples.extend([
                Sample::gauge("series", "Time series kept", signed(series.series)),
                Sample::gauge(
                    "series_points",
                    "Points of time series kept",
                    signed(series.points),
                ),
                Sample::counter(
                    "series_written",
                    "Points of time series written",
                    series.written,
                ),
                Sample::counter(
                    "series_dropped",
                    "Points dropped because writing did not keep up",
                    series.dropped,
                ),
                Sample::counter(
                    "series_refused",
                    "Points of devices that have their full number of series",
                    series.refused,
                ),
                Sample::counter(
                    "series_left_out",
                    "Numbers that are no series: too many, too deep, a path too long",
                    series.left_out,
                ),
            ]);
        }
        samples
    }

    /// Publishers by their device: a bounded number of label values, whoever sends.
    fn by_device(&self) -> Vec<Sample> {
        let mut devices: BTreeMap<String, homefleet_notif::Counters> = BTreeMap::new();
        for publisher in self.publishers() {
            let identity = publisher.identity.as_deref();
            let device = self.0.ties.device(identity, publisher.source.ip());
            let mut label = device.unwrap_or_else(|| "unassigned".to_owned());
            if devices.len() >= MAX_LABELS && !devices.contains_key(&label) {
                "other".clone_into(&mut label);
            }
            *devices.entry(label).or_default() += publisher.counters;
        }
        type Read = fn(&homefleet_notif::Counters) -> u64;
        let families: [(&'static str, &'static str, Read); 7] = [
            (
                "notif_received",
                "Messages received, by device",
                |counters| counters.received,
            ),
            (
                "notif_received_bytes",
                "Bytes of messages received, by device",
                |counters| counters.bytes,
            ),
            (
                "notif_lost",
                "Messages that did not arrive, by device",
                |counters| counters.lost,
            ),
            (
                "notif_duplicate",
                "Messages that came twice, by device",
                |counters| counters.duplicate,
            ),
            (
                "notif_reordered",
                "Messages that came after later ones, by device",
                |counters| counters.reordered,
            ),
            (
                "notif_incomplete",
                "Messages of which segments did not come, by device",
                |counters| counters.incomplete,
            ),
            (
                "notif_restarted",
                "Times that publishers began to count anew, by device",
                |counters| counters.restarted,
            ),
        ];
        let mut samples = Vec::new();
        for (name, help, read) in families {
            for (device, counters) in &devices {
                let label = plain(device);
                samples.push(Sample::counter(name, help, read(counters)).labelled("device", label));
            }
        }
        samples
    }
}

/// Outputs by their name.
pub(super) fn by_output(outputs: &[api::TelemetryOutput]) -> Vec<Sample> {
    type Read = fn(&api::TelemetryOutput) -> u64;
    let families: [(&'static str, &'static str, Read); 6] = [
        (
            "notif_output_offered",
            "Messages offered to an output",
            |output| output.offered,
        ),
        (
            "notif_output_delivered",
            "Messages an output delivered",
            |output| output.delivered,
        ),
        (
            "notif_output_refused",
            "Messages an output's peer will never take",
            |output| output.refused,
        ),
        (
            "notif_output_dropped",
            "Messages dropped at an output's full queue",
            |output| output.dropped,
        ),
        (
            "notif_output_abandoned",
            "Messages an output gave up at the end",
            |output| output.abandoned,
        ),
        (
            "notif_output_failures",
            "Attempts of an output that failed",
            |output| output.failures,
        ),
    ];
    let mut samples = Vec::new();
    for (name, help, read) in families {
        for output in outputs {
            samples
                .push(Sample::counter(name, help, read(output)).labelled("output", &output.name));
        }
    }
    for output in outputs {
        let waiting = signed(output.waiting);
        samples.push(
            Sample::gauge(
                "notif_output_waiting",
                "Messages that wait for an output",
                waiting,
            )
            .labelled("output", &output.name),
        );
    }
    for output in outputs {
        let up = i64::from(output.health != api::OutputHealth::Failing);
        samples.push(
            Sample::gauge(
                "notif_output_up",
                "Whether an output's last attempt did not fail",
                up,
            )
            .labelled("output", &output.name),
        );
    }
    samples
}

fn socket(socket: &homefleet_net::notif::SocketStats) -> api::TelemetrySocket {
    api::TelemetrySocket {
        address: socket.local.to_string(),
        secure: socket.secure,
        datagrams: socket.datagrams,
        kernel_drops: socket.kernel_dropped_datagrams,
        receive_buffer: count(socket.receive_buffer),
    }
}

fn to_api(publisher: &PublisherStats, device: Option<String>) -> api::Publisher {
    let counters = &publisher.counters;
    api::Publisher {
        device,
        address: publisher.source.to_string(),
        publisher_id: publisher.publisher_id,
        secure: publisher.identity.is_some(),
        generation: publisher.generation.name().to_owned(),
        media_type: publisher.media_type.to_string(),
        counts_loss: publisher.counts_loss,
        first_heard: Millis::from(publisher.first_heard).to_timestamp(),
        last_heard: Millis::from(publisher.last_heard).to_timestamp(),
        received: counters.received,
        bytes: counters.bytes,
        lost: counters.lost,
        duplicate: counters.duplicate,
        reordered: counters.reordered,
        refused: counters.refused,
        incomplete: counters.incomplete,
        out_of_window: counters.out_of_window,
        restarted: counters.restarted,
    }
}

/// An output as the REST API tells it.
pub(super) fn output(status: OutputStatus) -> api::TelemetryOutput {
    api::TelemetryOutput {
        name: status.name,
        kind: status.kind.to_owned(),
        destination: status.destination,
        health: match status.health {
            Health::Idle => api::OutputHealth::Idle,
            Health::Up => api::OutputHealth::Up,
            Health::Failing => api::OutputHealth::Failing,
        },
        since: status.since.to_timestamp(),
        problem: status.problem,
        offered: status.offered,
        delivered: status.delivered,
        refused: status.refused,
        dropped: status.dropped,
        abandoned: status.abandoned,
        waiting: status.waiting,
        capacity: status.capacity,
        failures: status.failures,
    }
}

/// A label's value without what would end it.
fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '"' | '\\' => '_',
            letter if letter.is_control() => '_',
            letter => letter,
        })
        .collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
