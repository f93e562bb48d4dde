//! A run of cache lines of atomic words, kept alive by whoever holds it.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::AtomicU64;

/// Words in a cache line of 64 bytes.
pub const WORDS_PER_LINE: usize = 8;

/// One cache line: objects that different workers write never share one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [AtomicU64; WORDS_PER_LINE]);

/// A run of lines in the segment (or private to its holder). Clones share the words.
#[derive(Clone, Debug)]
pub struct Block {
    first: NonNull<Line>,
    lines: usize,
    /// Keeps the memory behind `first` alive.
    _chunk: Arc<[Line]>,
}

// SAFETY: a block is a shared reference to atomics plus the `Arc` that keeps them alive.
unsafe impl Send for Block {}
// SAFETY: as above; every access goes through an atomic.
unsafe impl Sync for Block {}

impl Block {
    /// A block of at least `words` zero words that nobody else can find by name.
    #[must_use]
    pub fn private(words: usize) -> Self {
        let lines = words.div_ceil(WORDS_PER_LINE).max(1);
        let chunk: Arc<[Line]> = (0..lines).map(|_| Line::default()).collect();
        Self { first: NonNull::from(&chunk[0]), lines, _chunk: chunk }
    }

    /// The lines.
    #[must_use]
    #[inline]
    pub fn lines(&self) -> &[Line] {
        // SAFETY: `first` and `lines` describe a live range inside `_chunk`, whose lines hold
        // nothing but atomics, so shared references may coexist with other threads' writes.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.lines) }
    }

    /// Word `i`, counted over all lines.
    ///
    /// # Panics
    /// If the block has no such word: a fault of the room, never of input.
    #[must_use]
    #[inline]
    pub fn word(&self, i: usize) -> &AtomicU64 {
        &self.lines()[i / WORDS_PER_LINE].0[i % WORDS_PER_LINE]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn clones_share_words_and_lines_are_aligned() {
        let a = Block::private(9);
        let b = a.clone();
        a.word(8).store(7, Ordering::Relaxed);
        drop(a);
        assert_eq!(b.word(8).load(Ordering::Relaxed), 7);
        assert_eq!(b.lines().len(), 2);
        assert_eq!(b.lines().as_ptr() as usize % 64, 0);
    }
}
