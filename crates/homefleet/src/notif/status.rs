//! `homefleet notif status` and `homefleet notif series`: what a running server receives.

use clap::Args;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table, ago};

/// `notif status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  homefleet notif status
  homefleet --json notif status")]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let status = global.client()?.telemetry()?;
        if global.json {
            return output::json(&status);
        }
        let mut table = Table::new(&["SOCKET", "DATAGRAMS", "KERNEL DROPS", "BUFFER"]);
        for socket in &status.sockets {
            let scheme = if socket.secure { "dtls" } else { "udp" };
            table.row([
                format!("{scheme}://{}", socket.address),
                socket.datagrams.to_string(),
                socket.kernel_drops.to_string(),
                socket.receive_buffer.to_string(),
            ]);
        }
        table.print()?;
        output::line("")?;
        let mut table = Table::new(&[
            "DEVICE", "FROM", "ID", "FORM", "HEARD", "RECEIVED", "LOST", "TWICE", "LATE", "REFUSED",
        ]);
        for publisher in &status.publishers {
            let lost = match publisher.counts_loss {
                true => publisher.lost.to_string(),
                false => "unknown".to_owned(),
            };
            let refused = publisher.refused + publisher.incomplete + publisher.out_of_window;
            table.row([
                publisher.device.clone().unwrap_or_else(|| "-".to_owned()),
                publisher.address.clone(),
                publisher.publisher_id.to_string(),
                format!("{} {}", publisher.generation, publisher.media_type),
                ago(&publisher.last_heard),
                publisher.received.to_string(),
                lost,
                publisher.duplicate.to_string(),
                publisher.reordered.to_string(),
                refused.to_string(),
            ]);
        }
        table.print()?;
        output::line("")?;
        let mut table = Table::new(&[
            "OUTPUT",
            "TO",
            "STATE",
            "SINCE",
            "DELIVERED",
            "WAITING",
            "DROPPED",
            "REFUSED",
        ]);
        for each in &status.outputs {
            table.row([
                each.name.clone(),
                format!("{} {}", each.kind, each.destination),
                each.health.as_str().to_owned(),
                ago(&each.since),
                each.delivered.to_string(),
                each.waiting.to_string(),
                (each.dropped + each.abandoned).to_string(),
                each.refused.to_string(),
            ]);
        }
        table.print()?;
        for each in &status.outputs {
            if let Some(problem) = &each.problem {
                output::note(&format!("{}: {problem}", each.name));
            }
        }
        for (what, count) in [
            (
                "messages dropped because the server did not keep up",
                status.queue_dropped,
            ),
            (
                "messages of publishers that are tied to no device, dropped",
                status.unknown_refused,
            ),
            (
                "messages of publishers that are tied to no device, handed on",
                status.unknown_kept,
            ),
        ] {
            if count > 0 {
                output::note(&format!("{count} {what}"));
            }
        }
        for (reason, count) in &status.refused {
            output::note(&format!("{count} refused for {reason}"));
        }
        for (kind, count) in &status.envelope_errors {
            output::note(&format!(
                "{count} messages with an envelope that is not read: {kind}"
            ));
        }
        Ok(())
    }
}

/// `notif series`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  homefleet notif series os::00D09E-1
  homefleet notif series os::00D09E-1 homefleet-tr181:Device/DeviceInfo/UpTime --step 60")]
pub(crate) struct Series {
    /// Endpoint ID of the device
    device: String,
    /// Path of a series: its points; all series of the device without it
    path: Option<String>,
    /// Begin, RFC 3339; by default an hour before the end
    #[arg(long, value_name = "TIME", requires = "path")]
    from: Option<String>,
    /// End, RFC 3339; by default now
    #[arg(long, value_name = "TIME", requires = "path")]
    to: Option<String>,
    /// Seconds that one point stands for
    #[arg(long, value_name = "SECONDS", requires = "path")]
    step: Option<f64>,
}

impl Series {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let Some(path) = &self.path else {
            let list = client.series(&self.device)?;
            if global.json {
                return output::json(&list);
            }
            let mut table = Table::new(&["PATH", "VALUE", "LAST"]);
            for series in &list.series {
                table.row([
                    series.path.clone(),
                    series.value.to_string(),
                    ago(&series.last),
                ]);
            }
            return table.print();
        };
        let (from, to) = (self.from.as_deref(), self.to.as_deref());
        let points = client.series_points(&self.device, path, from, to, self.step)?;
        if global.json {
            return output::json(&points);
        }
        let mut table = Table::new(&["TIME", "LAST", "LEAST", "MEAN", "MOST", "VALUES"]);
        for point in &points.points {
            table.row([
                point.time.clone(),
                point.last.to_string(),
                point.least.to_string(),
                point.mean.to_string(),
                point.most.to_string(),
                point.count.to_string(),
            ]);
        }
        table.print()
    }
}
