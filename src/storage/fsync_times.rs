//! How long the disk takes to make data durable.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::time::Instant;

/// Counts calls of fsync and fdatasync, and how long they took.
#[derive(Debug, Default)]
pub struct FsyncTimes {
    /// Per bound of [`FsyncFigures::BOUNDS`], and the longer ones last.
    buckets: [AtomicU64; FsyncFigures::BOUNDS.len() + 1],
    total_us: AtomicU64,
    longest_us: AtomicU64,
}

/// How long it took to make data durable: the calls of fsync and fdatasync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsyncFigures {
    /// How many calls took no longer than the bound at the same index and longer than the one before; the last
    /// is of those that took longer than every bound.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// All calls together.
    pub total: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl FsyncFigures {
    /// The bounds that calls are counted by.
    pub const BOUNDS: [Duration; 6] = [
        Duration::from_micros(100),
        Duration::from_millis(1),
        Duration::from_millis(10),
        Duration::from_millis(100),
        Duration::from_secs(1),
        Duration::from_secs(10),
    ];

    /// How many calls there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl FsyncTimes {
    /// Measures one call, whether it succeeds or not.
    pub fn measure<T>(&self, sync: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = sync();
        self.add(begin.elapsed());
        result
    }

    fn add(&self, took: Duration) {
        let bucket = FsyncFigures::BOUNDS.iter().take_while(|bound| took > **bound).count();
        self.buckets[bucket].fetch_add(1, Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(us, Relaxed);
        self.longest_us.fetch_max(us, Relaxed);
    }

    /// What was counted until now.
    #[must_use]
    pub fn figures(&self) -> FsyncFigures {
        FsyncFigures {
            counts: self.buckets.each_ref().map(|count| count.load(Relaxed)),
            total: Duration::from_micros(self.total_us.load(Relaxed)),
            longest: Duration::from_micros(self.longest_us.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_where_its_bound_is() {
        let times = FsyncTimes::default();
        for us in [0, 100, 101, 10_000_000, 10_000_001] {
            times.add(Duration::from_micros(us));
        }
        assert_eq!(times.measure(|| 7), 7);
        let figures = times.figures();
        assert_eq!(figures.counts[1..], [1, 0, 0, 0, 1, 1]);
        assert_eq!(figures.count(), 6);
        assert_eq!(figures.longest, Duration::from_micros(10_000_001));
        assert!(figures.total >= Duration::from_micros(20_000_202));
    }
}
