//! The `with` blocks of a breaker that are under way.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use meshcore_core::admission::BreakerPermit;
use meshcore_core::time::Nanos;
use pyo3::PyErr;
use pyo3::exceptions::PyRuntimeError;

use super::permit::Held;
use super::random::process;

/// Permits of one closed epoch are all the same, so blocks that hold such are only counted; those
/// that come while any other is held are known one by one, by Python (`meshcore.library.blocks`).
/// So whatever is counted is no younger than what is known. Only ever touched under the GIL.
///
/// In the child of a fork the blocks that its parent counted end, too, but are the parent's: it
/// knows of them by their process, and those of its own end before. Those of threads that a child
/// does not have may never end, so they are known no more.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    counted: AtomicUsize,
    same: AtomicU32,
    last: AtomicU64,
    known: AtomicUsize,
    process: AtomicU64,
    inherited: AtomicUsize,
    /// Whether each is to be known.
    one_by_one: bool,
}

impl Blocks {
    pub(super) fn new(one_by_one: bool) -> Self {
        let (known, process) = (AtomicUsize::new(usize::from(one_by_one)), process().into());
        Self { known, process, one_by_one, ..Self::default() }
    }

    /// Counts a block in, if its permit is no other than that of the blocks under way.
    #[inline]
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

    /// What a block that was counted in and ends held; `None` if there is none. It may be any of
    /// those, so it began as the last of them.
    #[inline]
    pub(super) fn leave(&self) -> Option<Held> {
        let Some(left) = self.counted.load(Ordering::Relaxed).checked_sub(1) else {
            return self.leave_inherited();
        };
        // No exchange, which would be dearer than all the rest.
        self.counted.store(left, Ordering::Relaxed);
        Some(self.last_held())
    }

    #[cold]
    fn leave_inherited(&self) -> Option<Held> {
        let left = self.inherited.load(Ordering::Relaxed).checked_sub(1)?;
        self.inherited.store(left, Ordering::Relaxed);
        Some(Held { process: !process(), ..self.last_held() })
    }

    #[inline]
    fn last_held(&self) -> Held {
        let permit = BreakerPermit::from_bits(self.same.load(Ordering::Relaxed));
        Held::new(permit, Nanos::ZERO, self.last.load(Ordering::Relaxed))
    }

    /// Whether those that are under way are those of the process that forked this one.
    #[inline]
    pub(super) fn are_inherited(&self) -> bool {
        self.process.load(Ordering::Relaxed) != process()
    }

    /// They are, but for so many, which are known one by one.
    pub(super) fn inherit(&self, known: usize) {
        self.process.store(process(), Ordering::Relaxed);
        let known = known + usize::from(self.one_by_one);
        let gone = self.known.swap(known, Ordering::Relaxed).saturating_sub(known);
        let counted = self.counted.swap(0, Ordering::Relaxed);
        self.inherited.fetch_add(counted + gone, Ordering::Relaxed);
    }

    /// The permit of those that are counted; `None` if there are none.
    pub(super) fn counted(&self) -> Option<BreakerPermit> {
        let any = self.counted.load(Ordering::Relaxed) > 0;
        any.then(|| BreakerPermit::from_bits(self.same.load(Ordering::Relaxed)))
    }

    #[inline]
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

pub(super) fn not_entered() -> PyErr {
    PyRuntimeError::new_err("the breaker's block was not entered here")
}
