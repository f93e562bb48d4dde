//! Random numbers for a part that threads share.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::clock::now_ns;

/// Which process this is, of those that were forked: numbers that all generators are mixed with, so
/// that a child's are not its parent's nor its sisters'.
static FORKED: AtomicU64 = AtomicU64::new(0);

/// Called in the child of a fork.
#[pyfunction]
pub(crate) fn reseed() {
    let mut random = mixed(u64::from(std::process::id())) ^ now_ns();
    random ^= FORKED.load(Ordering::Relaxed).rotate_left(32);
    FORKED.store(mixed(random), Ordering::Relaxed);
}

/// The process that this is: other than what it was before a fork, in the child.
#[inline]
pub(super) fn process() -> u64 {
    FORKED.load(Ordering::Relaxed)
}

/// A Weyl sequence through the finaliser of splitmix64 (Steele et al. 2014).
#[derive(Debug)]
pub(super) struct Random(AtomicU64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Relaxed: the word publishes nothing.
    pub(super) fn next(&self) -> u64 {
        let place = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        mixed(place ^ FORKED.load(Ordering::Relaxed))
    }
}

const fn mixed(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
