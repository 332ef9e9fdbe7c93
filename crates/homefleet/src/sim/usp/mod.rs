//! `homefleet sim usp`: Agents that speak USP.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use homefleet_net::dtls::TrustVerifier;
use homefleet_trust::{Policy, Time, anchors_from_pem};
use homefleet_usp::EndpointId;
use serde_json::{Value, json};

use super::cwmp::{LOOK_EVERY, oui, percent, read, seconds, wrong};
use super::report;
use crate::cli::Global;
use crate::demo::pki::Authority;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime};

mod device;
mod fleet;
mod requests;

use fleet::{Fleet, Plan, Shared, Stats, Way};

/// `sim usp`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each device has its own Endpoint ID, os::OUI-SERIAL, and a certificate with it from the authority in --authority, which is made when there is none:
give its ca.pem to the Controller as a trusted CA.

Examples:
  homefleet sim usp --controller coaps://127.0.0.1:5684/usp --controller-id proto::homefleet --authority ./sim-ca --ca ca.pem --devices 500
  homefleet sim usp --controller wss://usp.example.net/usp --controller-id proto::homefleet --authority ./sim-ca --ca ca.pem --change-every 60"
)]
pub(crate) struct Usp {
    /// URL of the Controller: coaps, coap, wss or ws
    #[arg(long, value_name = "URL")]
    controller: String,
    /// Endpoint ID of the Controller
    #[arg(long, value_name = "ENDPOINT")]
    controller_id: EndpointId,
    /// Directory of the authority that issues the devices' certificates
    #[arg(long, value_name = "DIRECTORY")]
    authority: PathBuf,
    /// CAs that the Controller's certificate must lead to, PEM [default: the authority itself]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Address that devices send from over CoAP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    local_address: IpAddr,
    /// Number of devices
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
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
    /// Parameters of each device, at least
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    parameters: usize,
    /// Seconds between the events Periodic!, where they are subscribed to; 0 = none
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    period: u64,
    /// Seconds over which devices come for the first time
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    ramp: f64,
    /// Percent of the Controller's requests that are answered with an Error
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    faults: f64,
    /// Seconds, on average, after which a device's address changes, which is told where it is subscribed to
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    change_every: Option<f64>,
    /// Seconds, on average, after which a device restarts by itself
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    restart_every: Option<f64>,
    /// Seconds that a restart takes
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, value_parser = seconds)]
    restart_takes: f64,
    /// Seconds after which the power fails everywhere
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    power_failure: Option<f64>,
    /// Seconds without power
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, requires = "power_failure")]
    outage: f64,
    /// Seconds over which devices are up again once the power is back
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds, requires = "power_failure")]
    boot_spread: f64,
    /// End after these seconds; without, at Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<f64>,
    /// End when the Controller has answered every device, and again after the power failure
    #[arg(long)]
    once: bool,
    /// Seconds between two lines of progress; 0 = none
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    progress: u64,
    /// Of all that is left to chance; the same number, the same devices
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

impl Usp {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let plan = self.plan()?;
        runtime()?.block_on(self.simulate(plan, global.json))
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let time = Duration::from_secs_f64;
        Ok(Plan {
            controller: self.controller_id.clone(),
            way: self.way()?,
            local: SocketAddr::new(self.local_address, 0),
            devices: self.devices,
            first: self.first,
            oui: self.oui.as_str().into(),
            class: self.product_class.as_str().into(),
            serial: self.serial.as_str().into(),
            parameters: self.parameters,
            period: Duration::from_secs(self.period),
            ramp: time(self.ramp),
            faults: self.faults / 100.0,
            change_every: self.change_every.map(time),
            restart_every: self.restart_every.map(time),
            restart_takes: time(self.restart_takes),
            seed: self.seed,
        })
    }

    fn way(&self) -> Result<Way, Failure> {
        let wrong = || {
            let wanted = "a coaps, coap, wss or ws URL is wanted";
            Failure::Usage(format!("--controller {}: {wanted}", self.controller))
        };
        let (scheme, rest) = self.controller.split_once("://").ok_or_else(wrong)?;
        let secure = match scheme {
            "coap" | "coaps" => {
                let uri = self.controller.parse();
                return uri.map(Way::Coap).map_err(|_| wrong());
            }
            "ws" => false,
            "wss" => true,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let named = authority.rsplit_once(':');
        let named = named.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = named.unwrap_or((authority, if secure { 443 } else { 80 }));
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Way::WebSocket {
            secure,
            host: host.to_owned(),
            port,
            path: format!("/{path}"),
        })
    }

    async fn simulate(&self, plan: Plan, as_json: bool) -> Result<(), Failure> {
        let devices = plan.devices;
        std::fs::create_dir_all(&self.authority).map_err(|error| wrong(&self.authority, &error))?;
        let authority =
            Authority::open(&self.authority).map_err(|error| Failure::Failed(error.to_string()))?;
        let ca = self.ca.as_ref().unwrap_or(&authority.certificate);
        let anchors = anchors_from_pem(&read(ca)?).map_err(|error| wrong(ca, &error))?;
        let verifier = TrustVerifier::new(anchors, Policy::default(), || {
            Time::Accurate(SystemTime::now())
        });
        let mut ended = Ended::new()?;
        let fleet = Fleet::start(plan, authority, Arc::new(verifier))
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let after = |seconds: f64| fleet.age() >= Duration::from_secs_f64(seconds);
        let mut cut = self.power_failure;
        let mut told = Duration::ZERO;
        let every = Duration::from_secs(self.progress);
        loop {
            tokio::select! {
                () = ended.wait() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if cut.is_some_and(after) {
                cut = None;
                let time = Duration::from_secs_f64;
                fleet.cut_power(time(self.outage), time(self.boot_spread));
                output::note(&format!(
                    "homefleet: the power has failed, for {} s",
                    self.outage
                ));
            }
            let stats = fleet.stats();
            if !every.is_zero() && fleet.age() >= told + every {
                told = fleet.age();
                output::note(&progress(&stats, told));
            }
            let back = self.power_failure.is_none() || stats.back.count() >= devices;
            let all = stats.onboarded >= devices && cut.is_none();
            if self.duration.is_some_and(after) || (self.once && all && back) {
                break;
            }
        }
        let (stats, age, parameters) = (fleet.stats(), fleet.age(), fleet.parameters);
        drop(fleet);
        if as_json {
            output::json(&figures(&stats, devices, parameters, age))?;
        } else {
            output::line(&words(&stats, devices, parameters, age))?;
        }
        if stats.onboarded == 0 {
            let reasons: Vec<&str> = stats.failed.keys().map(String::as_str).collect();
            let reasons = match reasons.is_empty() {
                true => "no device was answered".to_owned(),
                false => reasons.join("; "),
            };
            return Err(Failure::Unreachable(format!(
                "{}: {reasons}",
                self.controller
            )));
        }
        Ok(())
    }
}

fn progress(stats: &Stats, age: Duration) -> String {
    let answered: u64 = stats.notifications.values().sum();
    let mut text = format!(
        "{} s: {} onboarded, {answered} notifications answered, {} lost, {} requests; answer p50 {}, p99 {}",
        age.as_secs(),
        stats.onboarded,
        stats.lost,
        stats.requests.values().sum::<u64>(),
        report::ms(stats.notify.percentile(0.5)),
        report::ms(stats.notify.percentile(0.99)),
    );
    if stats.outages > 0 {
        text.push_str(&format!("; {} back", stats.back.count()));
    }
    text
}

fn words(stats: &Stats, devices: u64, parameters: usize, age: Duration) -> String {
    let counted = |all: &mut dyn Iterator<Item = (String, u64)>| {
        let all: Vec<String> = all.map(|(name, count)| format!("{count} {name}")).collect();
        match all.is_empty() {
            true => "none".to_owned(),
            false => all.join(", "),
        }
    };
    let named = |all: &std::collections::BTreeMap<&'static str, u64>| {
        counted(&mut all.iter().map(|(name, count)| ((*name).to_owned(), *count)))
    };
    let mut lines = vec![
        format!(
            "{devices} devices of {parameters} parameters for {:.1} s: {} onboarded",
            age.as_secs_f64(),
            stats.onboarded
        ),
        format!(
            "notifications answered: {}; {} lost",
            named(&stats.notifications),
            stats.lost
        ),
        format!(
            "requests of the Controller: {}; {} answered with an Error",
            named(&stats.requests),
            stats.errors
        ),
        format!(
            "{} restarts, {} power failures of a device",
            stats.restarts, stats.outages
        ),
    ];
    for (reason, count) in &stats.failed {
        lines.push(format!("  {count} {reason}"));
    }
    for (what, times) in [
        ("answer to Notify", &stats.notify),
        ("back after the power came back", &stats.back),
    ] {
        if times.count() > 0 {
            lines.push(format!("{what}: {}", report::distribution(times)));
        }
    }
    lines.join("\n")
}

fn figures(stats: &Stats, devices: u64, parameters: usize, age: Duration) -> Value {
    json!({
        "devices": devices,
        "parameters": parameters,
        "seconds": age.as_secs_f64(),
        "onboarded": stats.onboarded,
        "connections": stats.connections,
        "notifications": stats.notifications,
        "lost": stats.lost,
        "notify_ms": report::times(&stats.notify),
        "back_ms": report::times(&stats.back),
        "requests": stats.requests,
        "errors": stats.errors,
        "erroneous": stats.erroneous,
        "failed": stats.failed,
        "restarts": stats.restarts,
        "outages": stats.outages,
    })
}
