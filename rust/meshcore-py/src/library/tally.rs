//! How many calls a limiter admitted and refused.

use std::sync::atomic::{AtomicU64, Ordering};

use meshcore_core::segment::Block;
use meshcore_core::time::Nanos;

/// A process tells the others of its calls at each so many of a kind,
const CALLS: u64 = 64;
/// and with the first call behind so long.
const PAUSE: Nanos = Nanos::from_millis(100);

/// Words of a shared part in which all processes add up their calls: admitted, refused.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    block: Block,
    first: usize,
}

impl Totals {
    pub(super) const WORDS: usize = 2;

    /// In [`Self::WORDS`] words of a block.
    pub(super) const fn new(block: Block, first: usize) -> Self {
        Self { block, first }
    }

    fn words(&self) -> [&AtomicU64; Self::WORDS] {
        [0, 1].map(|i| self.block.word(self.first + i))
    }
}

/// What became of calls. Exact under the GIL; without one some may go uncounted.
///
/// Counting is a load and a store: an exchange on a word that other processes write as well would
/// be as dear as the rest of the call, and refusals would no longer leave shared lines alone.
#[derive(Debug)]
pub(super) struct Tally {
    /// Admitted and refused; of a shared limiter those that are not published.
    own: [AtomicU64; Totals::WORDS],
    publish_at_ns: AtomicU64,
    all: Option<Totals>,
}

impl Tally {
    pub(super) const fn new(all: Option<Totals>) -> Self {
        let publish_at_ns = if all.is_some() { 0 } else { u64::MAX };
        let own = [const { AtomicU64::new(0) }; Totals::WORDS];
        Self { own, publish_at_ns: AtomicU64::new(publish_at_ns), all }
    }

    /// A call was admitted, or refused.
    #[inline]
    pub(super) fn count(&self, admitted: bool, now: Nanos) {
        let counted = self.add(admitted);
        if counted.is_multiple_of(CALLS) || now.0 >= self.publish_at_ns.load(Ordering::Relaxed) {
            self.publish_until(now);
        }
    }

    /// As [`Self::count`], at once for all to see: for calls that have waited.
    pub(super) fn count_published(&self, admitted: bool) {
        self.add(admitted);
        self.publish();
    }

    #[inline]
    fn add(&self, admitted: bool) -> u64 {
        let own = &self.own[usize::from(!admitted)];
        let counted = own.load(Ordering::Relaxed) + 1;
        own.store(counted, Ordering::Relaxed);
        counted
    }

    #[cold]
    fn publish_until(&self, now: Nanos) {
        if self.all.is_some() {
            self.publish_at_ns.store(now.0.saturating_add(PAUSE.0), Ordering::Relaxed);
            self.publish();
        }
    }

    /// Adds what was counted here to what all processes have counted.
    pub(super) fn publish(&self) {
        for (all, own) in self.all.iter().flat_map(Totals::words).zip(&self.own) {
            all.fetch_add(own.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// What was counted and not published is another process's: this one was forked from it.
    pub(super) fn forget(&self) {
        if self.all.is_some() {
            self.own.iter().for_each(|own| own.store(0, Ordering::Relaxed));
        }
    }

    /// Admitted and refused, by all who share it.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.publish();
        let all = self.all.as_ref().map(Totals::words);
        let [admitted, refused] = all.unwrap_or_else(|| self.own.each_ref());
        (admitted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.publish();
    }
}
