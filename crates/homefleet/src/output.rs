//! What a command prints: tables for people, JSON for programs, failures on standard error.

use std::io::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;

/// Prints one line to standard output.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(closed)
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
    line(&text)
}

/// Prints a value as JSON on one line, for streams.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
    line(&text)
}

/// Tells a person something beside the result, on standard error.
pub(crate) fn note(text: &str) {
    // Standard error closed: nobody is left to be told.
    writeln!(std::io::stderr().lock(), "{text}").unwrap_or_default();
}

/// Tells why the command failed, on standard error.
pub(crate) fn report(failure: &Failure, json: bool) {
    if matches!(failure, Failure::OutputClosed) {
        return;
    }
    if json {
        let mut error = serde_json::json!({
            "kind": failure.kind(),
            "message": failure.to_string(),
            "exit_code": failure.exit_code(),
        });
        match failure {
            Failure::Client(
                homefleet_api::client::ClientError::NotFound(problem)
                | homefleet_api::client::ClientError::Refused(problem)
                | homefleet_api::client::ClientError::Unauthorized(problem)
                | homefleet_api::client::ClientError::Failed(problem),
            ) => error["problem"] = serde_json::json!(problem.error),
            Failure::Task(task) | Failure::Waiting(task) => error["task"] = serde_json::json!(task),
            _ => {}
        }
        note(&serde_json::json!({ "error": error }).to_string());
        return;
    }
    note(&format!("homefleet: {failure}"));
    if let Some(hint) = failure.hint() {
        note(&format!("  {hint}"));
    }
}

fn closed(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        Failure::OutputClosed
    } else {
        Failure::Failed(format!("cannot write the output: {error}"))
    }
}

/// A table for people: columns as wide as their widest cell, two spaces apart.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names; none for a table without a head.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row<I, S>(&mut self, cells: I)
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Prints it.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        for text in self.lines() {
            line(&text)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut all: Vec<Vec<String>> = Vec::with_capacity(self.rows.len() + 1);
        if !self.head.is_empty() {
            all.push(self.head.iter().map(|&name| name.to_owned()).collect());
        }
        all.extend(
            self.rows
                .iter()
                .map(|row| row.iter().map(|cell| printable(cell)).collect()),
        );
        let columns = all.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            all.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        all.iter()
            .map(|row| {
                let mut text = String::new();
                for (cell, width) in row.iter().zip(&widths) {
                    text.push_str(cell);
                    let pad = width.saturating_sub(cell.chars().count()) + 2;
                    text.extend(std::iter::repeat_n(' ', pad));
                }
                text.trim_end().to_owned()
            })
            .collect()
    }
}

/// Text of a device without what could steer a terminal or break a table.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// How long ago a timestamp was: `now`, `12 s ago`, `3 min ago`; the timestamp itself when it cannot be read.
pub(crate) fn ago(timestamp: &str) -> String {
    ago_at(timestamp, OffsetDateTime::now_utc())
}

fn ago_at(timestamp: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(timestamp, &Rfc3339) else {
        return printable(timestamp);
    };
    match (now - then).whole_seconds() {
        seconds if seconds < 2 => "now".to_owned(),
        seconds if seconds < 60 => format!("{seconds} s ago"),
        seconds if seconds < 3_600 => format!("{} min ago", seconds / 60),
        seconds if seconds < 86_400 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(["äöü", "x"]);
        table.row(["1", ""]);
        assert_eq!(table.lines(), ["A    LONG", "äöü  x", "1"]);
    }

    #[test]
    fn a_device_cannot_steer_the_terminal() {
        let mut table = Table::new(&[]);
        table.row(["\u{1b}[31mred\nline"]);
        assert_eq!(table.lines(), ["\u{fffd}[31mred\u{fffd}line"]);
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        let now = OffsetDateTime::parse("2026-11-20T12:00:00Z", &Rfc3339).unwrap();
        for (then, text) in [
            ("2026-11-20T11:59:59.500Z", "now"),
            ("2026-11-20T11:59:30.000Z", "30 s ago"),
            ("2026-11-20T11:01:00Z", "59 min ago"),
            ("2026-11-19T13:00:00Z", "23 h ago"),
            ("2026-11-10T12:00:00Z", "10 d ago"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(ago_at(then, now), text);
        }
    }
}
