//! Whether too few endpoints are left to be choosy.

use crate::sync::{AtomicU64, Ordering};
use crate::time::Nanos;

use super::picker::Endpoint;

const NS_PER_MS: u64 = 1_000_000;

/// A remembered answer: `(checked_at_ms + 1) << 1 | panic`, zero when it must be asked again.
///
/// Counting is O(n), so it is done once in a while: every millisecond, and one more for each
/// thousand endpoints, which keeps it below about 0.2 % of a core at any size. Ejections made here
/// are seen at once.
///
/// # Orderings
/// `Relaxed`: the answer is a hint of a known age and publishes nothing.
#[derive(Debug)]
pub(super) struct Health<'a> {
    pub(super) remembered: &'a AtomicU64,
    pub(super) endpoints: &'a [Endpoint],
    /// Below this many in a hundred healthy endpoints, all are used; zero for never.
    pub(super) percent: u8,
}

impl Health<'_> {
    #[inline]
    pub(super) fn is_panic(&self, now: Nanos) -> bool {
        let remembered = self.remembered.load(Ordering::Relaxed);
        let every = 1 + self.endpoints.len() as u64 / 1_000;
        let due = (remembered >> 1).saturating_add(every);
        // The first millisecond is 1, so that zero can mean "ask".
        let now_ms = now.0 / NS_PER_MS + 1;
        if remembered != 0 && now_ms < due { remembered & 1 != 0 } else { self.count(now_ms) }
    }

    /// Draining endpoints are not part of the sum: they are leaving, not ill.
    #[cold]
    fn count(&self, now_ms: u64) -> bool {
        let staying = self.endpoints.iter().filter(|e| !e.state.draining());
        let (healthy, all) =
            staying.fold((0_u64, 0_u64), |(h, n), e| (h + u64::from(!e.state.is_ejected()), n + 1));
        let panic = healthy * 100 < all * u64::from(self.percent);
        self.remembered.store(now_ms << 1 | u64::from(panic), Ordering::Relaxed);
        panic
    }

    pub(super) fn forget(&self) {
        self.remembered.store(0, Ordering::Relaxed);
    }
}
