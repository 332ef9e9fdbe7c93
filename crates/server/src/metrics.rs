//! Counters and gauges for `/metrics`.

use std::sync::Mutex;
use std::sync::PoisonError;

use homefleet_api::TaskState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::task::queue::Delivery;

type Labels = Vec<(String, String)>;

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Devices known.
    pub devices: Gauge,
    /// Devices reachable.
    pub devices_reachable: Gauge,
    /// Tasks open.
    pub tasks_open: Gauge,
    tasks_finished: Family<Labels, Counter>,
    deliveries: Family<Labels, Counter>,
    records: Family<Labels, Counter>,
    http: Family<Labels, Counter>,
    /// Notifications stored.
    pub notifications: Counter,
    /// Notifications that were repetitions.
    pub notifications_repeated: Counter,
    /// Notifications whose repetition is no longer recognised.
    pub notifications_forgotten: Counter,
    /// Answers that were not sent.
    pub answers_dropped: Counter,
    /// Readings of devices that were not made.
    pub readings_dropped: Counter,
    /// Texts of devices about themselves that were not kept.
    pub refused_texts: Counter,
    /// Requests with a token that is not valid.
    pub refused_tokens: Counter,
    /// Values that were not kept.
    pub refused_values: Counter,
    /// Writes that failed.
    pub store_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("homefleet");
        let metrics = Self {
            registry: Mutex::default(),
            devices: Gauge::default(),
            devices_reachable: Gauge::default(),
            tasks_open: Gauge::default(),
            tasks_finished: Family::default(),
            deliveries: Family::default(),
            records: Family::default(),
            http: Family::default(),
            notifications: Counter::default(),
            notifications_repeated: Counter::default(),
            notifications_forgotten: Counter::default(),
            answers_dropped: Counter::default(),
            readings_dropped: Counter::default(),
            refused_texts: Counter::default(),
            refused_tokens: Counter::default(),
            refused_values: Counter::default(),
            store_failures: Counter::default(),
        };
        registry.register(
            "devices",
            "Devices in the registry",
            metrics.devices.clone(),
        );
        registry.register(
            "devices_reachable",
            "Devices reachable now",
            metrics.devices_reachable.clone(),
        );
        registry.register(
            "tasks_open",
            "Tasks queued or sent",
            metrics.tasks_open.clone(),
        );
        registry.register(
            "tasks_finished",
            "Tasks by final state",
            metrics.tasks_finished.clone(),
        );
        registry.register(
            "deliveries",
            "Attempts to hand a message to a device",
            metrics.deliveries.clone(),
        );
        registry.register(
            "usp_records",
            "USP Records received, by outcome",
            metrics.records.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests by status",
            metrics.http.clone(),
        );
        registry.register(
            "notifications",
            "Notifications stored",
            metrics.notifications.clone(),
        );
        registry.register(
            "notifications_repeated",
            "Retried notifications recognised",
            metrics.notifications_repeated.clone(),
        );
        registry.register(
            "notifications_forgotten",
            "Notifications no longer remembered, because the device has its full number",
            metrics.notifications_forgotten.clone(),
        );
        registry.register(
            "answers_dropped",
            "Answers not sent, because too many are on their way",
            metrics.answers_dropped.clone(),
        );
        registry.register(
            "readings_dropped",
            "Readings not made, because the device was read often enough in this hour",
            metrics.readings_dropped.clone(),
        );
        registry.register(
            "refused_texts",
            "Texts of devices about themselves not kept, because they are too long",
            metrics.refused_texts.clone(),
        );
        registry.register(
            "refused_tokens",
            "Requests with a token that is not valid",
            metrics.refused_tokens.clone(),
        );
        registry.register(
            "refused_values",
            "Values not kept, because the device has its full number or they are too long",
            metrics.refused_values.clone(),
        );
        registry.register(
            "store_failures",
            "Writes that failed",
            metrics.store_failures.clone(),
        );
        *metrics.lock() = registry;
        metrics
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task ended.
    pub fn finished(&self, state: TaskState) {
        self.tasks_finished
            .get_or_create(&label("state", state.as_str()))
            .inc();
    }

    /// An attempt to deliver ended.
    pub fn delivered(&self, delivery: &Delivery) {
        let outcome = match delivery {
            Delivery::Taken => "taken",
            Delivery::OnItsWay => "on_its_way",
            Delivery::NotDelivered(_) => "not_delivered",
            Delivery::Later(_) => "later",
            Delivery::Refused(_) => "refused",
            Delivery::Unclear(_) => "unclear",
        };
        self.deliveries
            .get_or_create(&label("outcome", outcome))
            .inc();
    }

    /// A Record was received.
    pub fn record(&self, outcome: &'static str) {
        self.records.get_or_create(&label("outcome", outcome)).inc();
    }

    /// How many Records had this outcome.
    pub fn records_with(&self, outcome: &'static str) -> u64 {
        self.records.get_or_create(&label("outcome", outcome)).get()
    }

    /// An HTTP request was answered.
    pub fn answered(&self, status: u16) {
        self.http
            .get_or_create(&label("status", &status.to_string()))
            .inc();
    }

    /// The exposition in the OpenMetrics text format.
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.lock()).is_err() {
            // Writing to a String does not fail; a scraper sees an empty answer as a failure.
            text.clear();
        }
        text
    }

    /// The exposition with what other parts of the server count. Samples of one name follow each other.
    pub fn with_samples(&self, samples: &[Sample]) -> String {
        let text = self.exposition();
        let text = text.strip_suffix("# EOF\n").unwrap_or(&text);
        format!("{text}{}", exposition(samples))
    }
}

/// Samples in the OpenMetrics text format. Those of one name follow each other.
pub(crate) fn exposition(samples: &[Sample]) -> String {
    let mut text = String::new();
    let mut family = "";
    for sample in samples {
        let Sample { name, help, .. } = sample;
        let (kind, suffix) = if sample.counter {
            ("counter", "_total")
        } else {
            ("gauge", "")
        };
        if *name != family {
            family = name;
            text.push_str(&format!(
                "# HELP homefleet_{name} {help}.\n# TYPE homefleet_{name} {kind}\n"
            ));
        }
        let labels = match &sample.label {
            Some((label, value)) => format!("{{{label}=\"{value}\"}}"),
            None => String::new(),
        };
        text.push_str(&format!(
            "homefleet_{name}{suffix}{labels} {}\n",
            sample.value
        ));
    }
    text.push_str("# EOF\n");
    text
}

/// A value that another part of the server counts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    name: &'static str,
    help: &'static str,
    counter: bool,
    label: Option<(&'static str, String)>,
    value: i64,
}

impl Sample {
    /// Something that only grows.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            counter: true,
            ..Self::gauge(name, help, i64::try_from(value).unwrap_or(i64::MAX))
        }
    }

    /// Something that is so now.
    pub fn gauge(name: &'static str, help: &'static str, value: i64) -> Self {
        Self {
            name,
            help,
            counter: false,
            label: None,
            value,
        }
    }

    /// With one label, whose value is a plain word.
    #[must_use]
    pub fn labelled(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.label = Some((label, value.into()));
        self
    }
}

fn label(name: &str, value: &str) -> Labels {
    vec![(name.to_owned(), value.to_owned())]
}
