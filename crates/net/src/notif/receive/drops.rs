//! How many datagrams the kernel dropped, where it counts coalesced ones.

/// Datagrams that the kernel coalesces at most (UDP_MAX_SEGMENTS).
const MOST_SEGMENTS: u64 = 64;

/// Sets the gaps in Message IDs against what the kernel says it dropped.
///
/// Without GRO both are datagrams. Under GRO one drop may have been many datagrams; where Message IDs are missing right behind a drop, these
/// are what it held, as far as it can have held as many. A drop behind which nothing is found missing counts as one.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// Drops of which nothing is found yet.
    open: u64,
    /// Datagrams found for the others.
    found: u64,
}

impl Drops {
    /// The kernel dropped so many.
    pub(super) fn add(&mut self, reads: u32) {
        self.open += u64::from(reads);
    }

    /// Whether anything is to be found.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// So many Message IDs are found missing.
    pub(super) fn skipped(&mut self, ids: u64) {
        let datagrams = ids.min(self.open * MOST_SEGMENTS);
        self.found += datagrams;
        self.open -= datagrams.min(self.open);
    }

    /// Datagrams dropped.
    pub(super) fn datagrams(&self) -> u64 {
        self.found + self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_behind_a_drop_is_what_it_held() {
        let mut drops = Drops::default();
        assert!(!drops.is_open());
        drops.add(2);
        assert_eq!(drops.datagrams(), 2);
        drops.skipped(64);
        assert_eq!((drops.datagrams(), drops.is_open()), (64, false));
        // A gap without a drop is the path's.
        drops.skipped(10);
        assert_eq!(drops.datagrams(), 64);
        // More than it can have held is the path's too.
        drops.add(1);
        drops.skipped(100);
        assert_eq!(drops.datagrams(), 128);
        // A drop of somebody who counts nothing.
        drops.add(3);
        drops.skipped(2);
        assert_eq!((drops.datagrams(), drops.is_open()), (131, true));
    }
}
