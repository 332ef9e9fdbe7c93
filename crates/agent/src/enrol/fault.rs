//! Places at which a test ends the process as a power cut would. Not in release builds.

/// Ends the process when the environment names this place.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};

    if std::env::var("HOMEFLEET_FAULT").is_ok_and(|wanted| wanted == name) {
        kill_process(getpid(), Signal::KILL).ok();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(super) fn point(_: &str) {}
