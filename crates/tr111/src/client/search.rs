//! How long a binding lasts, found by trying (TR-111 Part 2 §2.2.1.2).

use std::time::Duration;

/// Doubles until the binding did not last, then halves the range in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    /// The longest silence that the binding is known, or at the start assumed, to outlast.
    alive: Duration,
    /// The shortest silence that it is known not to outlast.
    dead: Option<Duration>,
    /// No silence longer than this is tried.
    cap: Duration,
    resolution: Duration,
}

impl Search {
    pub(super) fn new(shortest: Duration, cap: Duration, resolution: Duration) -> Self {
        let alive = shortest.max(Duration::from_secs(1));
        Self {
            alive,
            dead: None,
            cap,
            resolution,
        }
    }

    /// Starts anew below a silence that the binding did not outlast.
    pub(super) fn below(mut self, dead: Duration) -> Self {
        self.dead = Some(dead.max(self.alive));
        self
    }

    /// The next silence to try; `None` when the timeout is known.
    pub(super) fn next(&self) -> Option<Duration> {
        match self.dead {
            None if self.alive >= self.cap => None,
            None => Some((self.alive * 2).min(self.cap)),
            Some(dead) if dead.saturating_sub(self.alive) <= self.resolution => None,
            Some(dead) => Some(self.alive + (dead - self.alive) / 2),
        }
    }

    pub(super) fn outlasted(&mut self, silence: Duration) {
        self.alive = self.alive.max(silence);
        // The binding lasts longer than was seen before: that was a loss.
        self.dead = self.dead.filter(|dead| *dead > self.alive);
    }

    pub(super) fn expired(&mut self, silence: Duration) {
        let dead = self.dead.map_or(silence, |dead| dead.min(silence));
        self.dead = Some(dead.max(self.alive));
    }

    /// The longest silence that the binding outlasted, and the shortest that it did not.
    pub(super) fn found(&self) -> (Duration, Option<Duration>) {
        (self.alive, self.dead)
    }

    /// What to refresh after: a tenth less than what was outlasted.
    pub(super) fn period(&self) -> Duration {
        self.alive - self.alive / 10
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run(shortest: u64, cap: u64, timeout: f64) -> (Search, usize) {
        let secs = Duration::from_secs;
        let mut search = Search::new(secs(shortest), secs(cap), secs(1));
        let mut tries = 0;
        while let Some(silence) = search.next() {
            tries += 1;
            if silence.as_secs_f64() < timeout {
                search.outlasted(silence);
            } else {
                search.expired(silence);
            }
        }
        (search, tries)
    }

    #[test]
    fn every_timeout_is_found_to_one_second() {
        for tenths in 15..3000 {
            let timeout = f64::from(tenths) / 10.0;
            let (search, tries) = run(1, 300, timeout);
            let (alive, dead) = search.found();
            assert!(
                alive.as_secs_f64() < timeout || alive.as_secs() == 1,
                "{timeout}"
            );
            let dead = dead.unwrap_or(Duration::MAX);
            assert!(dead.as_secs_f64() >= timeout, "{timeout}: {dead:?}");
            assert!(dead - alive <= Duration::from_secs(1), "{timeout}");
            assert!(tries <= 18, "{timeout}: {tries} tries");
        }
    }

    #[test]
    fn a_binding_that_outlasts_everything_is_kept_at_the_cap() {
        let (search, _) = run(30, 300, 1e9);
        assert_eq!(search.found(), (Duration::from_secs(300), None));
        assert_eq!(search.period(), Duration::from_secs(270));
    }

    #[test]
    fn a_binding_shorter_than_the_minimum_is_refreshed_at_the_minimum() {
        let (search, _) = run(30, 300, 5.0);
        assert_eq!(search.found().0, Duration::from_secs(30));
    }
}
