//! How many calls of a breaker there were.

use std::sync::atomic::{AtomicU64, Ordering};

use meshcore_core::admission::Outcome;

/// What became of the calls of this process. Exact under the GIL; without one some may go uncounted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    began: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    neutral: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    /// Counts in a call that may be made: which it is, from 1.
    #[inline]
    pub(super) fn begin(&self) -> u64 {
        let began = self.began.load(Ordering::Relaxed) + 1;
        self.began.store(began, Ordering::Relaxed);
        began
    }

    /// How many calls began and are not over.
    pub(super) fn under_way(&self) -> u64 {
        let ended = [&self.succeeded, &self.failed, &self.neutral];
        let ended: u64 = ended.map(|count| count.load(Ordering::Relaxed)).iter().sum();
        self.began.load(Ordering::Relaxed).saturating_sub(ended)
    }

    #[inline]
    pub(super) fn add(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Success => &self.succeeded,
            Outcome::Failure => &self.failed,
            Outcome::Neutral => &self.neutral,
        };
        // No exchange, which would be dearer than the call itself.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// How many have begun.
    pub(super) fn began(&self) -> u64 {
        self.began.load(Ordering::Relaxed)
    }

    /// A call may not be made.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Successes, failures, what said nothing, and refusals.
    pub(super) fn totals(&self) -> [u64; 4] {
        let Self { succeeded, failed, neutral, refused, .. } = self;
        [succeeded, failed, neutral, refused].map(|count| count.load(Ordering::Relaxed))
    }
}
