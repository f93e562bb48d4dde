//! The `with` blocks of a breaker that are under way.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use meshcore_core::admission::BreakerPermit;
use meshcore_core::time::Nanos;

use super::permit::Held;

/// Permits of one closed epoch are all the same, so blocks that hold such are only counted; those
/// that come while any other is held are known one by one, by Python (`meshcore.library.blocks`).
/// So whatever is counted is no younger than what is known. Only ever touched under the GIL.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    counted: AtomicUsize,
    same: AtomicU32,
    last: AtomicU64,
    known: AtomicUsize,
}

impl Blocks {
    /// `one_by_one`: whether each is to be known.
    pub(super) fn new(one_by_one: bool) -> Self {
        Self { known: AtomicUsize::new(usize::from(one_by_one)), ..Self::default() }
    }

    /// Counts a block in, if its permit is no other than that of the blocks under way.
    pub(super) fn count(&self, permit: BreakerPermit, began: u64) -> bool {
        let counted = self.counted.load(Ordering::Relaxed);
        let same = counted == 0 || self.same.load(Ordering::Relaxed) == permit.bits();
        let fits = same && !permit.is_probe() && !self.any_known();
        if fits {
            self.same.store(permit.bits(), Ordering::Relaxed);
            self.counted.store(counted + 1, Ordering::Relaxed);
            self.last.store(began, Ordering::Relaxed);
        }
        fits
    }

    /// The permit of a block that was counted in and ends; `None` if there is none. It may be any of
    /// those, so it began as the last of them.
    pub(super) fn leave(&self) -> Option<Held> {
        let permit = self.counted()?;
        self.counted.fetch_sub(1, Ordering::Relaxed);
        Some(Held { permit, since: Nanos::ZERO, began: self.last.load(Ordering::Relaxed) })
    }

    /// The permit of those that are counted; `None` if there are none.
    pub(super) fn counted(&self) -> Option<BreakerPermit> {
        let any = self.counted.load(Ordering::Relaxed) > 0;
        any.then(|| BreakerPermit::from_bits(self.same.load(Ordering::Relaxed)))
    }

    pub(super) fn any_known(&self) -> bool {
        self.known.load(Ordering::Relaxed) > 0
    }

    /// One more is known, or one less.
    pub(super) fn known(&self, more: bool) {
        if more {
            self.known.fetch_add(1, Ordering::Relaxed);
        } else {
            self.known.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
