//! `Device.IP.Diagnostics.`: `IPPing()`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use homefleet_model::{
    schema::{Command, Object, Param},
    tree::Tree,
    value::Type,
};
use tokio::sync::Semaphore;

use super::{
    Now, OperateError, Operation, Options, Provider, ProviderError,
    fill::{Fill, object},
    interfaces::Shared,
    ping::{self, Failure, Ping, Report},
};

/// The most repetitions of one command; a bound of ours.
pub const MAX_REPETITIONS: u32 = 1000;

/// The longest time to wait for one answer, milliseconds; a bound of ours.
pub const MAX_TIMEOUT: u32 = 60_000;

/// The longest one command may take when no answer comes, milliseconds; a bound of ours.
const MAX_DURATION: u64 = 60 * 60 * 1000;

/// How many pings run at the same time.
const MAX_RUNNING: usize = 4;

/// USP error 7005: resources exceeded.
const RESOURCES_EXCEEDED: u32 = 7005;

static OBJECTS: &[Object] = &[Object {
    path: "Device.IP.Diagnostics.",
    params: &[
        Param::ro("IPv4PingSupported", Type::Boolean),
        Param::ro("IPv6PingSupported", Type::Boolean),
        Param::ro("IPv4TraceRouteSupported", Type::Boolean),
        Param::ro("IPv6TraceRouteSupported", Type::Boolean),
        Param::ro("IPv4DownloadDiagnosticsSupported", Type::Boolean),
        Param::ro("IPv6DownloadDiagnosticsSupported", Type::Boolean),
        Param::ro("IPv4UploadDiagnosticsSupported", Type::Boolean),
        Param::ro("IPv6UploadDiagnosticsSupported", Type::Boolean),
        Param::ro("IPv4UDPEchoDiagnosticsSupported", Type::Boolean),
        Param::ro("IPv6UDPEchoDiagnosticsSupported", Type::Boolean),
        Param::ro("IPLayerCapacitySupported", Type::Boolean),
        Param::ro("IPv4ServerSelectionDiagnosticsSupported", Type::Boolean),
        Param::ro("IPv6ServerSelectionDiagnosticsSupported", Type::Boolean),
    ],
    commands: &[Command {
        name: "IPPing()",
        is_async: true,
        input: &[
            "Interface",
            "ProtocolVersion",
            "Host",
            "NumberOfRepetitions",
            "Timeout",
            "DataBlockSize",
            "DSCP",
        ],
        output: &[
            "Status",
            "IPAddressUsed",
            "SuccessCount",
            "FailureCount",
            "AverageResponseTime",
            "MinimumResponseTime",
            "MaximumResponseTime",
            "AverageResponseTimeDetailed",
            "MinimumResponseTimeDetailed",
            "MaximumResponseTimeDetailed",
        ],
    }],
    ..Object::EMPTY
}];

pub(super) struct Diagnostics {
    interfaces: Shared,
    running: Arc<Semaphore>,
    started: bool,
}

impl Diagnostics {
    pub(super) fn new(_options: &Options, interfaces: Shared) -> Self {
        Self {
            interfaces,
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            started: false,
        }
    }

    fn ping(&self, args: &BTreeMap<String, String>) -> Operation {
        let request = match Request::parse(args) {
            Ok(request) => request,
            Err(error) => return Operation::Done(Err(error)),
        };
        let device = match &request.interface {
            None => None,
            Some(path) => match self.interfaces.lock().by_path(path) {
                Some(interface) => Some(interface.link.name.clone()),
                None => {
                    let reason = format!("Interface: {path} is not an interface of this device");
                    return Operation::Done(Err(OperateError::arguments(reason)));
                }
            },
        };
        let Ok(place) = self.running.clone().try_acquire_owned() else {
            let message = format!("{MAX_RUNNING} pings are running already");
            return Operation::Done(Err(OperateError {
                code: RESOURCES_EXCEEDED,
                message,
            }));
        };
        Operation::Async(Box::pin(async move {
            let _place = place;
            Ok(run(request, device).await)
        }))
    }
}

impl Provider for Diagnostics {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.IP.Diagnostics."]
    }

    fn refresh(&mut self, tree: &mut Tree, _now: Now) -> Result<(), ProviderError> {
        if !self.started {
            // Everything else is false until it is there.
            Fill::new(tree, &object("Device.IP.Diagnostics.")?)
                .put("IPv4PingSupported", ping::is_possible(false))?
                .put("IPv6PingSupported", ping::is_possible(true))?;
            self.started = true;
        }
        Ok(())
    }

    fn operate(&mut self, command: &str, args: &BTreeMap<String, String>) -> Option<Operation> {
        (command == "Device.IP.Diagnostics.IPPing()").then(|| self.ping(args))
    }
}

async fn run(request: Request, device: Option<String>) -> BTreeMap<String, String> {
    let outcome = async {
        let target = resolve(&request.host, request.version)
            .await
            .ok_or(Failure::CannotResolve)?;
        let ping = Ping {
            target,
            device,
            repetitions: request.repetitions,
            timeout: request.timeout,
            size: request.size,
            dscp: request.dscp,
        };
        ping.run().await
    };
    match outcome.await {
        Ok(report) => output("Complete", Some(&report)),
        Err(Failure::CannotResolve) => output("Error_CannotResolveHostName", None),
        Err(Failure::NoRoute) => output("Error_NoRouteToHost", None),
        Err(Failure::Internal(error)) => {
            tracing::debug!(%error, "ping");
            output("Error_Internal", None)
        }
        Err(Failure::Other(error)) => {
            tracing::debug!(%error, "ping");
            output("Error_Other", None)
        }
    }
}

fn output(status: &str, report: Option<&Report>) -> BTreeMap<String, String> {
    let mut output = BTreeMap::from([("Status".to_owned(), status.to_owned())]);
    let Some(report) = report else { return output };
    let mut put = |name: &str, value: String| output.insert(name.to_owned(), value);
    put("IPAddressUsed", report.target.to_string());
    put("SuccessCount", report.times.len().to_string());
    put("FailureCount", report.failures.to_string());
    let count = u32::try_from(report.times.len()).unwrap_or(u32::MAX).max(1);
    let average = report.times.iter().sum::<Duration>() / count;
    let minimum = report.times.iter().min().copied().unwrap_or_default();
    let maximum = report.times.iter().max().copied().unwrap_or_default();
    for (name, time) in [
        ("Average", average),
        ("Minimum", minimum),
        ("Maximum", maximum),
    ] {
        let microseconds = time.as_micros();
        put(
            &format!("{name}ResponseTime"),
            ((microseconds + 500) / 1000).to_string(),
        );
        put(
            &format!("{name}ResponseTimeDetailed"),
            microseconds.to_string(),
        );
    }
    output
}

/// The input arguments of `IPPing()`.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    interface: Option<String>,
    /// Only this version of IP.
    version: Option<Version>,
    host: String,
    repetitions: u32,
    timeout: Duration,
    size: u16,
    dscp: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Request {
    fn parse(args: &BTreeMap<String, String>) -> Result<Self, OperateError> {
        let refuse =
            |name: &str, reason: &str| OperateError::arguments(format!("{name}: {reason}"));
        let given = |name: &str| {
            args.get(name)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let number = |name: &str,
                      range: std::ops::RangeInclusive<u32>|
         -> Result<Option<u32>, OperateError> {
            let Some(text) = given(name) else {
                return Ok(None);
            };
            let number = text.parse().ok().filter(|number| range.contains(number));
            let expected = || {
                format!(
                    "{text:?} is no number from {} to {}",
                    range.start(),
                    range.end()
                )
            };
            number.map(Some).ok_or_else(|| refuse(name, &expected()))
        };
        let mandatory = |name: &str| refuse(name, "missing, but mandatory");
        let version = match given("ProtocolVersion").ok_or_else(|| mandatory("ProtocolVersion"))? {
            "Any" => None,
            "IPv4" => Some(Version::V4),
            "IPv6" => Some(Version::V6),
            other => {
                return Err(refuse(
                    "ProtocolVersion",
                    &format!("{other:?} is not Any, IPv4 or IPv6"),
                ));
            }
        };
        let host = given("Host").ok_or_else(|| mandatory("Host"))?;
        if host.len() > 256 || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refuse(
                "Host",
                "no host name or address of at most 256 characters",
            ));
        }
        let required = |name: &str, range| number(name, range)?.ok_or_else(|| mandatory(name));
        let repetitions = required("NumberOfRepetitions", 1..=MAX_REPETITIONS)?;
        let timeout = required("Timeout", 1..=MAX_TIMEOUT)?;
        if u64::from(repetitions) * u64::from(timeout) > MAX_DURATION {
            return Err(refuse(
                "NumberOfRepetitions",
                "with this Timeout it could take more than an hour",
            ));
        }
        let size = required("DataBlockSize", 1..=65_535)?;
        let dscp = number("DSCP", 0..=63)?.unwrap_or(0);
        Ok(Self {
            interface: given("Interface").map(str::to_owned),
            version,
            host: host.to_owned(),
            repetitions,
            timeout: Duration::from_millis(timeout.into()),
            size: u16::try_from(size).unwrap_or(u16::MAX),
            dscp: u8::try_from(dscp).unwrap_or(0),
        })
    }
}

/// The first address of the host that the protocol version allows.
async fn resolve(host: &str, version: Option<Version>) -> Option<IpAddr> {
    let fits = |ip: &IpAddr| match version {
        None => true,
        Some(Version::V4) => ip.is_ipv4(),
        Some(Version::V6) => ip.is_ipv6(),
    };
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
        .parse::<IpAddr>();
    if let Ok(ip) = literal {
        return Some(ip).filter(fits);
    }
    tokio::net::lookup_host((host, 0))
        .await
        .ok()?
        .map(|address| address.ip())
        .find(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [
            ("ProtocolVersion", "Any"),
            ("Host", "127.0.0.1"),
            ("NumberOfRepetitions", "3"),
            ("Timeout", "1000"),
            ("DataBlockSize", "56"),
        ];
        base.iter()
            .chain(changes)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn arguments_are_read() {
        let request = Request::parse(&args(&[
            ("DSCP", "46"),
            ("Interface", "Device.IP.Interface.1"),
        ]))
        .unwrap();
        assert_eq!(
            request,
            Request {
                interface: Some("Device.IP.Interface.1".into()),
                version: None,
                host: "127.0.0.1".into(),
                repetitions: 3,
                timeout: Duration::from_secs(1),
                size: 56,
                dscp: 46,
            }
        );
    }

    #[test]
    fn mandatory_arguments_are_mandatory() {
        for name in [
            "ProtocolVersion",
            "Host",
            "NumberOfRepetitions",
            "Timeout",
            "DataBlockSize",
        ] {
            let mut args = args(&[]);
            args.remove(name);
            let error = Request::parse(&args).unwrap_err();
            assert_eq!(
                (error.code, error.message),
                (7027, format!("{name}: missing, but mandatory"))
            );
        }
    }

    #[test]
    fn arguments_out_of_bounds_are_refused() {
        let bad = [
            ("NumberOfRepetitions", "0"),
            ("NumberOfRepetitions", "1001"),
            ("NumberOfRepetitions", "-1"),
            ("Timeout", "0"),
            ("Timeout", "60001"),
            ("Timeout", "18446744073709551616"),
            ("DataBlockSize", "0"),
            ("DataBlockSize", "65536"),
            ("DSCP", "64"),
            ("ProtocolVersion", "IPv5"),
            ("Host", "a b"),
            ("Host", "a\u{0}b"),
        ];
        for (name, value) in bad {
            let error = Request::parse(&args(&[(name, value)])).unwrap_err();
            assert_eq!(error.code, 7027);
            assert!(error.message.starts_with(name), "{}", error.message);
        }
        assert!(Request::parse(&args(&[("Host", &"a".repeat(257))])).is_err());
        let hours = [("NumberOfRepetitions", "1000"), ("Timeout", "3601")];
        assert_eq!(Request::parse(&args(&hours)).unwrap_err().code, 7027);
    }

    #[test]
    fn without_an_answer_all_times_are_zero() {
        let report = Report {
            target: "192.0.2.1".parse().unwrap(),
            times: Vec::new(),
            failures: 3,
        };
        let output = output("Complete", Some(&report));
        assert_eq!(output["FailureCount"], "3");
        for name in ["Average", "Minimum", "Maximum"] {
            assert_eq!(output[&format!("{name}ResponseTime")], "0");
            assert_eq!(output[&format!("{name}ResponseTimeDetailed")], "0");
        }
        assert_eq!(output.len(), OBJECTS[0].commands[0].output.len());
    }

    #[test]
    fn times_are_summed_up() {
        let times = [900, 1500, 2700].map(Duration::from_micros).to_vec();
        let report = Report {
            target: "192.0.2.1".parse().unwrap(),
            times,
            failures: 0,
        };
        let output = output("Complete", Some(&report));
        assert_eq!(
            (
                output["AverageResponseTime"].as_str(),
                output["AverageResponseTimeDetailed"].as_str()
            ),
            ("2", "1700")
        );
        assert_eq!(
            (
                output["MinimumResponseTime"].as_str(),
                output["MinimumResponseTimeDetailed"].as_str()
            ),
            ("1", "900")
        );
        assert_eq!(
            (
                output["MaximumResponseTime"].as_str(),
                output["MaximumResponseTimeDetailed"].as_str()
            ),
            ("3", "2700")
        );
    }

    #[tokio::test]
    async fn an_address_of_the_other_version_is_not_used() {
        assert_eq!(resolve("127.0.0.1", Some(Version::V6)).await, None);
        assert_eq!(resolve("[::1]", None).await, Some("::1".parse().unwrap()));
    }
}
