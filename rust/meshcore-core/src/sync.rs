//! Atomics, real or model-checked: with the feature `loom` the same code runs in loom's explorer.

#[cfg(feature = "loom")]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(feature = "loom"))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Runs a pure step on one word until it is stored: the only compare-and-swap loop of meshcore.
///
/// `step(old)` returns the new word, or `None` when nothing is to be written, and the verdict. It
/// may run several times and must be pure. Lock-free: a failed exchange means another caller
/// succeeded.
///
/// # Orderings
/// The word is the whole state, so nothing else is published by it: `AcqRel` on success orders
/// the words that a caller touches before and after the transition (a breaker's window before its
/// state), `Acquire` on load lets a reader of the new state see them. `Relaxed` would let a reader
/// act on a state whose companion words it cannot see yet.
pub fn update<T>(word: &AtomicU64, mut step: impl FnMut(u64) -> (Option<u64>, T)) -> T {
    let mut old = word.load(Ordering::Acquire);
    loop {
        let (new, verdict) = step(old);
        let Some(new) = new else { return verdict };
        match word.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return verdict,
            Err(seen) => old = seen,
        }
    }
}
