//! Times as a page shows them: an age that the script keeps counting, and the exact time behind it.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The moment a page is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(OffsetDateTime);

impl Clock {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }

    /// A fixed moment.
    #[cfg(test)]
    pub(crate) fn at(text: &str) -> Self {
        Self(parse(text).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// A timestamp with its age.
    pub(crate) fn when(&self, timestamp: &str) -> When {
        let age = match parse(timestamp) {
            Some(then) => age((self.0 - then).whole_seconds()),
            None => timestamp.to_owned(),
        };
        When {
            iso: timestamp.to_owned(),
            age,
        }
    }

    /// The moment `seconds` before `timestamp`.
    pub(crate) fn before(&self, timestamp: &str, seconds: u32) -> Option<When> {
        let then = parse(timestamp)? - time::Duration::seconds(i64::from(seconds));
        Some(self.when(&then.format(&Rfc3339).ok()?))
    }
}

/// A time on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct When {
    /// The timestamp itself.
    pub(crate) iso: String,
    /// How long ago, in one unit.
    pub(crate) age: String,
}

/// Time between two timestamps, for a person.
pub(crate) fn between(from: &str, to: &str) -> String {
    let (Some(from), Some(to)) = (parse(from), parse(to)) else {
        return String::new();
    };
    let milliseconds = (to - from).whole_milliseconds();
    match milliseconds {
        ..0 => String::new(),
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => age(i64::try_from(milliseconds / 1_000).unwrap_or(i64::MAX)),
    }
}

fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// The same words as `age` in `console.js`.
fn age(seconds: i64) -> String {
    match seconds {
        ..5 => "now".to_owned(),
        5..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        let clock = Clock::at("2026-11-20T12:00:00Z");
        for (then, text) in [
            ("2026-11-20T12:00:03.000Z", "now"),
            ("2026-11-20T11:59:30.500Z", "29 s"),
            ("2026-11-20T10:59:00Z", "1 h"),
            ("2026-11-10T12:00:00Z", "10 d"),
            ("soon", "soon"),
        ] {
            assert_eq!(clock.when(then).age, text);
        }
    }

    #[test]
    fn durations_are_short() {
        let from = "2026-11-20T12:00:00.000Z";
        assert_eq!(between(from, "2026-11-20T12:00:00.042Z"), "42 ms");
        assert_eq!(between(from, "2026-11-20T12:00:02.345Z"), "2.3 s");
        assert_eq!(between(from, "2026-11-20T12:02:02Z"), "2 min");
        assert_eq!(between(from, "2026-11-20T11:59:59Z"), "");
    }
}
