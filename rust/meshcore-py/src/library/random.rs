//! Random numbers for a part that threads share.

use std::sync::atomic::{AtomicU64, Ordering};

/// A Weyl sequence through the finaliser of splitmix64 (Steele et al. 2014).
#[derive(Debug)]
pub(super) struct Random(AtomicU64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Relaxed: the word publishes nothing.
    pub(super) fn next(&self) -> u64 {
        let z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
