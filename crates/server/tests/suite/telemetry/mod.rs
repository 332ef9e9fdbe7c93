//! Telemetry: series, outputs with their real peers, REST.

mod pipeline;
mod series;
