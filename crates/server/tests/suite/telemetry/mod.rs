//! Telemetry: series, outputs with their real peers, REST.

mod live;
mod outputs;
mod peers;
mod pipeline;
mod series;
