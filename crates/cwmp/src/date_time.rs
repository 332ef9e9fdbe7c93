//! `xsd:dateTime` as devices write it.

use std::{fmt, time::SystemTime};

const DAY: i64 = 86_400;

/// A moment in seconds of UTC, or none known.
///
/// What cannot be understood is read as the Unknown Time: a device with a broken clock is still one to talk to. Fractions
/// of seconds are cut off; a time without a zone is taken as UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(Option<i64>);

impl DateTime {
    /// The Unknown Time of TR-106 §3.2.1, `0001-01-01T00:00:00Z`.
    pub const UNKNOWN: Self = Self(None);

    /// The moment `seconds` after 1970 began, as far as a year of four digits goes.
    pub fn from_unix(seconds: i64) -> Self {
        let (first, last) = (days(1, 1, 1) * DAY, days(10_000, 1, 1) * DAY - 1);
        Self(Some(seconds.clamp(first, last)).filter(|seconds| *seconds != first))
    }

    /// Seconds since 1970 began; `None` when unknown.
    pub const fn unix(self) -> Option<i64> {
        self.0
    }

    /// Reads `YYYY-MM-DDThh:mm:ss`, with a fraction and a zone or without.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (date, time) = text.split_at_checked(10)?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let (clock, rest) = time.strip_prefix(['T', ' '])?.split_at_checked(8)?;
        let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
        let zone = match rest.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let last_day =
            days(year + i64::from(month == 12), month % 12 + 1, 1) - days(year, month, 1);
        let in_range = (1..=12).contains(&month)
            && (1..=last_day).contains(&day)
            && year >= 1
            && hour <= 24
            && minute < 60
            && second <= 60;
        if !in_range {
            return None;
        }
        let local = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Some(Self::from_unix(local - offset(zone)?))
    }
}

/// `count` numbers of so many digits, and nothing else.
fn numbers<const N: usize>(text: &str, by: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(by);
    let mut all = [0; N];
    for (slot, digits) in all.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(all)
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(zone.strip_prefix(['+', '-'])?, ':', [2, 2])?;
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days from 1970 began to a date of the Gregorian calendar. Years are counted from March on, so that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month_from_march * 153 + 2) / 5 + day - 1 - 719_468
}

impl From<SystemTime> for DateTime {
    fn from(time: SystemTime) -> Self {
        let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        Self::from_unix(seconds)
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(seconds) = self.0 else {
            return f.write_str("0001-01-01T00:00:00Z");
        };
        let (day_number, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // The year by its mean length, put right by one at most.
        let mut year = (day_number * 400).div_euclid(146_097) + 1970;
        while days(year, 1, 1) > day_number {
            year -= 1;
        }
        while days(year + 1, 1, 1) <= day_number {
            year += 1;
        }
        let month = (1..=12)
            .rev()
            .find(|month| days(year, *month, 1) <= day_number)
            .unwrap_or(1);
        let day = day_number - days(year, month, 1) + 1;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_devices_are_understood() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("2024-02-29T23:59:59", 1_709_251_199),
            ("2024-03-01T01:59:59.123456+02:00", 1_709_251_199),
            ("2024-02-29T18:29:59-05:30", 1_709_251_199),
            ("1999-12-31T24:00:00Z", 946_684_800),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                DateTime::parse(text),
                Some(DateTime(Some(seconds))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "0",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-1-1T0:0:0",
            "yesterday at noon there",
            "2024-02-29T23:59:59+25:00",
            "2024-02-29T23:59:59x",
            "2024-02-2\u{e9}T23:59:59",
        ] {
            assert_eq!(DateTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_unknown_time_is_written_as_tr_106_says_and_read_again() {
        assert_eq!(DateTime::UNKNOWN.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(
            DateTime::parse("0001-01-01T00:00:00Z"),
            Some(DateTime::UNKNOWN)
        );
        assert_eq!(
            DateTime::from_unix(i64::MAX).to_string(),
            "9999-12-31T23:59:59Z"
        );
        assert_eq!(DateTime::from_unix(i64::MIN), DateTime::UNKNOWN);
    }

    proptest! {
        #[test]
        fn every_moment_is_read_as_it_is_written(seconds in -62_135_596_799..253_402_300_800_i64) {
            let moment = DateTime::from_unix(seconds);
            prop_assert_eq!(moment.unix(), Some(seconds));
            prop_assert_eq!(DateTime::parse(&moment.to_string()), Some(moment));
        }
    }
}
