//! Telemetry: what devices stream as UDP-notif, tied to the registry, stored, plotted and handed on.

pub mod envelope;
