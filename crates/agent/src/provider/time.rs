//! `Device.Time.`: the clock, whether it is right, and the local time zone.

use std::{sync::Arc, time::SystemTime};

use homefleet_model::{
    path::ParamPath,
    schema::{Object, Param},
    tree::Tree,
    value::Type,
};
use rtime_clock::adjtime::{Timex, adjtimex};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use tz::{TimeZone, TimeZoneSettings};

use super::{
    Now, Options, Provider, ProviderError,
    fill::{Fill, object},
    proc,
};

/// What adjtimex(2) returns when the clock is not synchronised (TIME_ERROR).
const TIME_ERROR: i32 = 5;

/// Where time daemons are told their servers.
const SERVER_FILES: &[&str] = &[
    "/etc/systemd/timesyncd.conf",
    "/etc/chrony/chrony.conf",
    "/etc/chrony.conf",
    "/etc/ntpsec/ntp.conf",
    "/etc/ntp.conf",
];

const SERVERS: [&str; 5] = [
    "NTPServer1",
    "NTPServer2",
    "NTPServer3",
    "NTPServer4",
    "NTPServer5",
];

static OBJECTS: &[Object] = &[Object {
    path: "Device.Time.",
    params: &[
        Param::rw("Enable", Type::Boolean),
        Param::ro(
            "Status",
            Type::Enum(&[
                "Disabled",
                "Unsynchronized",
                "Synchronized",
                "Error_FailedToSynchronize",
                "Error",
            ]),
        ),
        Param::rw("NTPServer1", Type::string(64)),
        Param::rw("NTPServer2", Type::string(64)),
        Param::rw("NTPServer3", Type::string(64)),
        Param::rw("NTPServer4", Type::string(64)),
        Param::rw("NTPServer5", Type::string(64)),
        Param::ro("CurrentLocalTime", Type::LocalDateTime).quiet(),
        Param::rw("LocalTimeZone", Type::string(256)),
    ],
    ..Object::EMPTY
}];

/// Who says whether the clock is right.
#[derive(Clone, Default)]
pub enum Clock {
    /// The kernel, after what the time daemon told it (adjtimex(2)).
    #[default]
    Kernel,
    /// It is: someone else looks after it.
    Accurate,
    /// It is not.
    Unknown,
    /// The embedding program.
    Asked(Arc<dyn Fn() -> bool + Send + Sync>),
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "Kernel",
            Self::Accurate => "Accurate",
            Self::Unknown => "Unknown",
            Self::Asked(_) => "Asked",
        })
    }
}

impl Clock {
    /// The time, and whether dates may be checked against it (R-MTP.2, R-MTP.3).
    pub fn time(&self) -> homefleet_trust::Time {
        if self.is_accurate() {
            homefleet_trust::Time::Accurate(SystemTime::now())
        } else {
            homefleet_trust::Time::Unknown
        }
    }

    /// Whether the answer can change while the agent runs.
    pub fn can_change(&self) -> bool {
        matches!(self, Self::Kernel | Self::Asked(_))
    }

    /// Whether the time is right now.
    pub fn is_accurate(&self) -> bool {
        match self {
            // A sandbox may forbid the call: then nothing is known.
            Self::Kernel => adjtimex(&mut Timex::default()).is_ok_and(|state| state != TIME_ERROR),
            Self::Accurate => true,
            Self::Unknown => false,
            Self::Asked(ask) => ask(),
        }
    }
}

pub(super) struct LocalTime {
    clock: Clock,
    started: bool,
    zone: Zone,
}

impl LocalTime {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            clock: options.clock.clone(),
            started: false,
            zone: Zone::default(),
        }
    }

    fn start(tree: &mut Tree) -> Result<(), ProviderError> {
        let time = object("Device.Time.")?;
        // The time daemon is the system's, and runs whatever this says.
        Fill::new(tree, &time).put("Enable", true)?;
        let texts = SERVER_FILES.iter().filter_map(|file| proc::read(file).ok());
        let servers: Vec<String> = texts.flat_map(|text| proc::time_servers(&text)).collect();
        for (name, server) in SERVERS.iter().zip(&servers) {
            Fill::new(tree, &time).text(name, server, 64)?;
        }
        if tree
            .text("Device.Time.LocalTimeZone")
            .is_none_or(str::is_empty)
        {
            let bytes = std::fs::read("/etc/localtime").unwrap_or_default();
            Fill::new(tree, &time).put("LocalTimeZone", posix_zone(&bytes).unwrap_or("UTC0"))?;
        }
        Ok(())
    }
}

impl Provider for LocalTime {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.Time."]
    }

    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        if !self.started {
            Self::start(tree)?;
            self.started = true;
        }
        self.zone
            .follow(tree.text("Device.Time.LocalTimeZone").unwrap_or_default());
        let status = if self.clock.is_accurate() {
            "Synchronized"
        } else {
            "Unsynchronized"
        };
        Fill::new(tree, &object("Device.Time.")?)
            .put("Status", status)?
            .put("CurrentLocalTime", self.zone.local(now.wall))?;
        Ok(())
    }

    fn apply(&mut self, _tree: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        match path.name() {
            // The agent's own dates follow the zone; the system's zone stays as it is.
            "LocalTimeZone" if parse_zone(value).is_some() => Ok(()),
            "LocalTimeZone" => Err(ProviderError::Refused(format!(
                "{value:?} is no time zone of POSIX form, such as EST+5EDT,M4.1.0/2,M10.5.0/2"
            ))),
            "Enable" if value == "true" => Ok(()),
            name => Err(ProviderError::Refused(format!(
                "{name} cannot be set: the system's time daemon has its own configuration"
            ))),
        }
    }
}

/// The zone of `LocalTimeZone`, parsed when it changes.
#[derive(Default)]
struct Zone {
    text: String,
    parsed: Option<TimeZone>,
}

impl Zone {
    fn follow(&mut self, text: &str) {
        if self.text != text {
            text.clone_into(&mut self.text);
            self.parsed = parse_zone(text);
        }
    }

    /// `2026-03-01T12:00:00+01:00`; UTC when the zone is not known.
    fn local(&self, wall: SystemTime) -> String {
        let utc = OffsetDateTime::from(wall)
            .replace_nanosecond(0)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let offset = self.parsed.as_ref().and_then(|zone| {
            let seconds = zone
                .find_local_time_type(utc.unix_timestamp())
                .ok()?
                .ut_offset();
            // A dateTime knows no seconds of offset.
            UtcOffset::from_whole_seconds(seconds - seconds % 60).ok()
        });
        utc.to_offset(offset.unwrap_or(UtcOffset::UTC))
            .format(&Rfc3339)
            .unwrap_or_default()
    }
}

/// A time zone of POSIX form (IEEE 1003.1 TZ). Names of files, which TZ also allows, are not followed.
fn parse_zone(text: &str) -> Option<TimeZone> {
    let settings = TimeZoneSettings::new(&[], |_| Err("not from a file".into()));
    (!text.is_empty() && text != "localtime").then(|| settings.parse_posix_tz(text).ok())?
}

/// The POSIX form of a time zone file: its footer, between the last two line feeds (RFC 9636 §3.3).
fn posix_zone(tzif: &[u8]) -> Option<&str> {
    let tzif = tzif
        .strip_prefix(b"TZif")
        .and_then(|rest| rest.strip_suffix(b"\n"))?;
    let from = tzif.iter().rposition(|byte| *byte == b'\n')? + 1;
    let zone = std::str::from_utf8(tzif.get(from..)?).ok()?;
    parse_zone(zone).is_some().then_some(zone)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn local(zone: &str, unix: u64) -> String {
        let mut followed = Zone::default();
        followed.follow(zone);
        followed.local(SystemTime::UNIX_EPOCH + Duration::from_secs(unix))
    }

    #[test]
    fn local_time_follows_the_zone_and_its_summer_time() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        assert_eq!(local(berlin, 1_768_478_400), "2026-01-15T13:00:00+01:00");
        assert_eq!(local(berlin, 1_784_116_800), "2026-07-15T14:00:00+02:00");
        assert_eq!(local("UTC0", 1_768_478_400), "2026-01-15T12:00:00Z");
        assert_eq!(
            local("<+0530>-5:30", 1_768_478_400),
            "2026-01-15T17:30:00+05:30"
        );
    }

    #[test]
    fn a_zone_that_is_none_leaves_utc() {
        assert_eq!(local("nonsense!", 1_768_478_400), "2026-01-15T12:00:00Z");
    }

    #[test]
    fn the_specifications_example_is_a_zone() {
        assert!(parse_zone("EST+5EDT,M4.1.0/2,M10.5.0/2").is_some());
    }

    #[test]
    fn no_zone_leads_to_a_file() {
        for text in [
            "",
            ":/etc/passwd",
            "/etc/localtime",
            "localtime",
            "Europe/Berlin",
            "../../etc/passwd",
            "EST",
            "\0",
        ] {
            assert!(parse_zone(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_zone_file_ends_with_its_posix_form() {
        assert_eq!(
            posix_zone(b"TZif2 whatever\nCET-1CEST,M3.5.0,M10.5.0/3\n"),
            Some("CET-1CEST,M3.5.0,M10.5.0/3")
        );
        for broken in [
            &b""[..],
            b"TZif",
            b"TZif\n",
            b"TZif\n\n",
            b"TZif2\nnot a zone\n",
            b"\nUTC0\n",
            b"TZif2\n\xff\xfe\n",
        ] {
            assert_eq!(posix_zone(broken), None);
        }
    }

    #[test]
    fn the_clock_can_be_overridden() {
        assert!(Clock::Accurate.is_accurate());
        assert!(!Clock::Unknown.is_accurate());
        assert!(Clock::Asked(Arc::new(|| true)).is_accurate());
        assert_eq!(Clock::Unknown.time(), homefleet_trust::Time::Unknown);
        assert!(matches!(
            Clock::Accurate.time(),
            homefleet_trust::Time::Accurate(_)
        ));
    }
}
