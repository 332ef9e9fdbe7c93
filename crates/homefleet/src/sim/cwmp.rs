//! `homefleet sim cwmp`: devices that speak TR-069.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use homefleet_cwmp::Secret;
use homefleet_cwmp::cpe::RetryPolicy;
use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_net::tls::Tls;
use homefleet_trust::{Policy, Time, anchors_from_pem};

use super::fleet::{Fleet, FleetError, Plan, Root};
use super::report;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime};

/// How often it is looked whether everything is done.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `sim cwmp`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each device has its own serial number, addresses, values, logins and clock. It takes what the ACS sets, restarts when it is told to, and does not fetch
or send files: a transfer is over after its time. Progress is told on standard error; the figures at the end are on standard output.

Examples:
  homefleet sim cwmp --acs http://127.0.0.1:7547/ --devices 1000 --ramp 30 --once
  homefleet sim cwmp --acs https://acs.example.net/ --ca ca.pem --username bootstrap --password-file pw --devices 5000 --period 300
  homefleet sim cwmp --acs http://127.0.0.1:7547/ --devices 10000 --ramp 60 --power-failure 90 --outage 10 --boot-spread 30"
)]
pub(crate) struct Cwmp {
    /// URL of the ACS
    #[arg(long, value_name = "URL")]
    acs: String,
    /// What devices log in with, until the ACS sets something else
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    username: String,
    /// File with the password to it, in its first line
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// CAs that the certificate of an ACS over https must lead to, PEM
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"])]
    ca: Option<PathBuf>,
    /// Certificate that all devices show over https, PEM
    #[arg(long, value_name = "FILE", requires = "ca")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
    /// Number of devices
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    devices: u64,
    /// Number in the first one's serial number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    first: u64,
    /// ManufacturerOUI, six hexadecimal digits
    #[arg(long, value_name = "OUI", default_value = "00D09E", value_parser = oui)]
    oui: String,
    /// ProductClass
    #[arg(long, value_name = "NAME", default_value = "Sim")]
    product_class: String,
    /// What serial numbers begin with
    #[arg(long, value_name = "TEXT", default_value = "SIM")]
    serial: String,
    /// Data model
    #[arg(long, value_enum, default_value = "device")]
    model: Models,
    /// Parameters of each device, at least
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    parameters: usize,
    /// Seconds between periodic informs; 0 = none
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    period: u64,
    /// Seconds over which devices come for the first time
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    ramp: f64,
    /// They have been there before: their first session has no event BOOTSTRAP
    #[arg(long)]
    known: bool,
    /// Percent of the ACS's requests that are answered with a fault, and of transfers that fail
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    faults: f64,
    /// Percent of sessions that the device breaks off
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    breaks: f64,
    /// Seconds, on average, after which a device's address changes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    change_every: Option<f64>,
    /// Seconds, on average, after which a device restarts by itself
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    restart_every: Option<f64>,
    /// Seconds that a restart takes
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, value_parser = seconds)]
    restart_takes: f64,
    /// Seconds that a transfer takes
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    transfer_takes: f64,
    /// Seconds after which the power fails everywhere
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    power_failure: Option<f64>,
    /// Seconds without power
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, requires = "power_failure")]
    outage: f64,
    /// Seconds over which devices are up again once the power is back
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds, requires = "power_failure")]
    boot_spread: f64,
    /// Seconds of the shortest wait after a session that failed; it doubles each time
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    retry_wait: u32,
    /// Seconds that the ACS may take for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,
    /// Address for Connection Requests to all devices
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// End after these seconds; without, at Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<f64>,
    /// End when every device has had a session, and is back after the power failure
    #[arg(long)]
    once: bool,
    /// Seconds between two lines of progress; 0 = none
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    progress: u64,
    /// Of all that is left to chance; the same number, the same devices
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Data models.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Models {
    /// TR-181, `Device.`
    Device,
    /// TR-098, `InternetGatewayDevice.`
    Igd,
}

impl Cwmp {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let plan = self.plan()?;
        runtime()?.block_on(self.simulate(plan, global.json))
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let time = Duration::from_secs_f64;
        let password = match &self.password_file {
            Some(file) => {
                let text = read(file)?;
                text.lines().next().unwrap_or_default().into()
            }
            None => Secret::default(),
        };
        Ok(Plan {
            acs: self.acs.as_str().into(),
            username: self.username.as_str().into(),
            password,
            tls: self.tls()?,
            timeout: time(self.timeout),
            devices: self.devices,
            first: self.first,
            oui: self.oui.as_str().into(),
            class: self.product_class.as_str().into(),
            serial: self.serial.as_str().into(),
            root: match self.model {
                Models::Device => Root::Device,
                Models::Igd => Root::InternetGatewayDevice,
            },
            parameters: self.parameters,
            period: Duration::from_secs(self.period),
            ramp: time(self.ramp),
            known: self.known,
            retry: RetryPolicy {
                minimum_wait: self.retry_wait,
                ..RetryPolicy::default()
            },
            faults: self.faults / 100.0,
            breaks: self.breaks / 100.0,
            change_every: self.change_every.map(time),
            restart_every: self.restart_every.map(time),
            restart_takes: time(self.restart_takes),
            transfer_takes: time(self.transfer_takes),
            listen: Some(self.listen),
            seed: self.seed,
        })
    }

    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let (Some(ca), Some(certificate), Some(key)) = (&self.ca, &self.certificate, &self.key)
        else {
            if self.acs.starts_with("https:") {
                let needed = "an https ACS needs --ca, --certificate and --key";
                return Err(Failure::Usage(needed.to_owned()));
            }
            return Ok(None);
        };
        let credentials = Credentials::from_pem(&read(certificate)?, &read(key)?)
            .map_err(|error| wrong(certificate, &error))?;
        let anchors = anchors_from_pem(&read(ca)?).map_err(|error| wrong(ca, &error))?;
        let verifier = TrustVerifier::new(anchors, Policy::default(), || {
            Time::Accurate(SystemTime::now())
        });
        let tls = Tls::new(&credentials, Arc::new(verifier));
        tls.map(Some).map_err(|error| wrong(key, &error))
    }

    async fn simulate(&self, plan: Plan, as_json: bool) -> Result<(), Failure> {
        let devices = plan.devices;
        let mut ended = Ended::new()?;
        let fleet = Fleet::start(plan).await.map_err(|error| match error {
            FleetError::Url(_) | FleetError::Model(_) => {
                Failure::Usage(format!("{}: {error}", self.acs))
            }
            FleetError::Listen(..) => Failure::Failed(error.to_string()),
        })?;
        let after = |seconds: f64| fleet.age() >= Duration::from_secs_f64(seconds);
        let mut cut = self.power_failure;
        let mut told = Duration::ZERO;
        let every = Duration::from_secs(self.progress);
        let mut before = 0;
        loop {
            tokio::select! {
                () = ended.wait() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if cut.is_some_and(after) {
                cut = None;
                fleet.cut_power(
                    Duration::from_secs_f64(self.outage),
                    Duration::from_secs_f64(self.boot_spread),
                );
                output::note(&format!(
                    "homefleet: the power has failed, for {} s",
                    self.outage
                ));
            }
            let stats = fleet.stats();
            if !every.is_zero() && fleet.age() >= told + every {
                let since = fleet.age().saturating_sub(told);
                told = fleet.age();
                output::note(&report::progress(&stats, fleet.age(), since, before));
                before = stats.completed;
            }
            let back = self.power_failure.is_none() || stats.back.count() >= devices;
            let all = stats.contacted >= devices && stats.completed >= devices && cut.is_none();
            if self.duration.is_some_and(after) || (self.once && all && back) {
                break;
            }
        }
        let (stats, age) = (fleet.stats(), fleet.age());
        let parameters = fleet.parameters();
        drop(fleet);
        if as_json {
            output::json(&report::json(&stats, devices, parameters, age))?;
        } else {
            output::line(&report::words(&stats, devices, parameters, age))?;
        }
        if stats.contacted == 0 {
            let reasons: Vec<&str> = stats.failed.keys().map(String::as_str).collect();
            let reasons = match reasons.is_empty() {
                true => "no device has tried yet".to_owned(),
                false => reasons.join("; "),
            };
            return Err(Failure::Unreachable(format!("{}: {reasons}", self.acs)));
        }
        Ok(())
    }
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|percent| *percent <= 100.0)
        .ok_or_else(|| "0 to 100 is wanted".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|seconds| *seconds <= 1e9)
        .ok_or_else(|| "a number of seconds is wanted".to_owned())
}

fn number(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

pub(super) fn oui(text: &str) -> Result<String, String> {
    let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits {
        true => Ok(text.to_ascii_uppercase()),
        false => Err("six hexadecimal digits are wanted".to_owned()),
    }
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::NotFound(format!("{}: {error}", path.display())))
}

pub(super) fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(format!("{}: {error}", path.display()))
}
