//! Telemetry: series, outputs with their real peers, REST.

mod series;
