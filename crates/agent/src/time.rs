//! dateTime values as points in time.

use std::time::SystemTime;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads a TR-106 dateTime; `None` for the Unknown Time and everything else before 1970.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (time.unix_timestamp() >= 0).then(|| time.into())
}

/// Seconds since 1970, negative before.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    OffsetDateTime::from(time).unix_timestamp()
}

/// As a dateTime, in UTC.
pub(crate) fn date_time(time: SystemTime) -> String {
    OffsetDateTime::from(time)
        .format(&Rfc3339)
        // A year that a dateTime has no room for.
        .unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_date_time_is_read_with_its_offset() {
        assert_eq!(
            parse("1970-01-02T01:00:00+01:00"),
            Some(UNIX_EPOCH + Duration::from_secs(86_400))
        );
        assert_eq!(
            seconds(parse("2026-11-20T19:00:00Z").unwrap()),
            1_795_201_200
        );
    }

    #[test]
    fn the_unknown_time_is_no_time() {
        assert_eq!(parse("0001-01-01T00:00:00Z"), None);
        assert_eq!(parse("soon"), None);
    }
}
