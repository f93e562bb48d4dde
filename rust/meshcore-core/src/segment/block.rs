//! A run of cache lines of atomic words and a column for each worker, kept alive by its holders.

use std::ptr::NonNull;
use std::sync::Arc;

use super::memory::Memory;
use crate::sync::AtomicU64;

/// Words in a cache line of 64 bytes.
pub const WORDS_PER_LINE: usize = 8;

/// Words that every block has in each worker's column: 16 bytes, enough for a gauge and its time.
pub const COLUMN_WORDS: usize = 2;

/// One cache line: objects that different workers write never share one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [AtomicU64; WORDS_PER_LINE]);

/// How much a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Words that all workers share, rounded up to whole lines.
    pub words: usize,
    /// Words in the column of each worker.
    pub column: usize,
}

impl Shape {
    /// `words` shared words and the usual column.
    #[must_use]
    pub const fn words(words: usize) -> Self {
        Self { words, column: COLUMN_WORDS }
    }

    /// No shared words, `column` words for each worker.
    #[must_use]
    pub const fn column(column: usize) -> Self {
        Self { words: 0, column }
    }

    /// Lines that the shared words take.
    #[must_use]
    pub(super) const fn lines(self) -> usize {
        self.words.div_ceil(WORDS_PER_LINE)
    }
}

/// The part of a block that is one column for each worker.
///
/// Worker-major: the columns of one worker lie side by side, so an object costs a worker 16 bytes
/// and not a line, and two workers still never write the same line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    first: NonNull<Line>,
    /// Where the block's words begin in each worker's column.
    start: usize,
    words: usize,
    workers: usize,
    /// Lines from one worker's column to the next.
    stride: usize,
}

/// Where a block's words lie in the columns of a region; numbers of lines and words only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strip {
    /// The first line of the region.
    pub(super) base: usize,
    /// Lines of one worker's column.
    pub(super) stride: usize,
    /// The first word in each column.
    pub(super) start: usize,
    /// How many.
    pub(super) words: usize,
}

impl Strip {
    /// Whether all workers' words lie within the first `lines` lines.
    pub(super) fn is_within(&self, lines: usize, workers: usize) -> bool {
        let end = self.stride.checked_mul(workers).and_then(|all| all.checked_add(self.base));
        let words = self.stride.checked_mul(WORDS_PER_LINE);
        let last = self.start.checked_add(self.words);
        end.is_some_and(|end| end <= lines) && last.is_some() && last <= words
    }
}

impl Columns {
    /// No words at all.
    const NONE: Self =
        Self { first: NonNull::dangling(), start: 0, words: 0, workers: 0, stride: 0 };
}

/// A run of lines in the segment (or private to its holder). Clones share the words.
#[derive(Clone, Debug)]
pub struct Block {
    first: NonNull<Line>,
    lines: usize,
    columns: Columns,
    /// Keeps the memory behind the pointers alive, and tells how many hold this very block.
    pin: Arc<Pin>,
}

/// A pointer that may reach all of `lines`, not only the first.
fn first_of(lines: &[Line]) -> NonNull<Line> {
    NonNull::from(lines).cast()
}

/// What all clones of a block hold, and nothing else does.
#[derive(Debug)]
struct Pin {
    _memory: Arc<Memory>,
}

// SAFETY: a block is a shared reference to atomics plus the `Arc` that keeps them alive.
unsafe impl Send for Block {}
// SAFETY: as above; every access goes through an atomic.
unsafe impl Sync for Block {}

impl Block {
    /// A block of at least `words` zero words that cannot be found by name.
    #[must_use]
    pub fn private(words: usize) -> Self {
        Self::private_shape(Shape::words(words.max(1)))
    }

    /// A block of this shape that cannot be found by name.
    ///
    /// It serves one process, so it has one column, which every worker slot means.
    #[must_use]
    pub fn private_shape(shape: Shape) -> Self {
        let lines = shape.lines();
        let column = shape.column.div_ceil(WORDS_PER_LINE);
        let memory = Arc::new(Memory::heap((lines + column).max(1)));
        let all = memory.lines();
        let columns = Columns {
            first: first_of(&all[lines..]),
            start: 0,
            words: shape.column,
            workers: 1,
            stride: 0,
        };
        let first = first_of(all);
        Self { first, lines, columns, pin: Arc::new(Pin { _memory: memory }) }
    }

    /// A block in a segment's memory: this many lines from line `at`, and words of its columns.
    ///
    /// # Panics
    /// If it would lie outside: a place that was read from shared memory is checked first.
    pub(super) fn in_segment(
        memory: &Arc<Memory>,
        (at, lines): (usize, usize),
        strip: Option<Strip>,
        workers: usize,
    ) -> Self {
        let all = memory.lines();
        let columns = strip.map_or(Columns::NONE, |strip| {
            assert!(strip.is_within(all.len(), workers), "columns outside of the segment");
            let Strip { base, stride, start, words } = strip;
            Columns { first: first_of(&all[base..]), start, words, workers, stride }
        });
        let pin = Arc::new(Pin { _memory: Arc::clone(memory) });
        Self { first: first_of(&all[at..at + lines]), lines, columns, pin }
    }

    /// The same block without what lies behind the lines of its first `words` words.
    #[must_use]
    pub fn first_words(&self, words: usize) -> Self {
        Self { lines: self.lines.min(words.div_ceil(WORDS_PER_LINE)), ..self.clone() }
    }

    /// Whether every slot means the same column, as in a block that is private to its holder.
    pub(crate) fn has_one_column(&self) -> bool {
        self.columns.stride == 0
    }

    /// Whether this is the only block with these words: without another holder it cannot be
    /// cloned meanwhile.
    pub(super) fn is_unshared(&mut self) -> bool {
        Arc::get_mut(&mut self.pin).is_some()
    }

    /// The lines.
    #[must_use]
    #[inline]
    pub fn lines(&self) -> &[Line] {
        // SAFETY: `first` and `lines` describe a live range of the memory in `pin`, whose lines
        // hold nothing but atomics, so shared references may coexist with other threads' writes.
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

    /// How many columns there are: one for each worker slot, or a single one.
    #[must_use]
    #[inline]
    pub fn workers(&self) -> usize {
        self.columns.workers
    }

    /// Words in each column.
    #[must_use]
    #[inline]
    pub fn column_words(&self) -> usize {
        self.columns.words
    }

    /// Word `i` of the column of worker `slot`; only that worker writes it.
    ///
    /// # Panics
    /// If there is no such worker or word: a fault of the caller, never of input.
    #[must_use]
    #[inline]
    pub fn column(&self, slot: usize, i: usize) -> &AtomicU64 {
        let c = &self.columns;
        assert!(
            i < c.words && (slot < c.workers || c.workers == 1 && c.stride == 0),
            "no such column word"
        );
        let at = c.start + i;
        // SAFETY: `columns` describes words of lines of the memory in `pin` for every worker below
        // `workers` (for every slot when the stride is 0); both indices were checked.
        let line = unsafe { c.first.add(slot * c.stride + at / WORDS_PER_LINE).as_ref() };
        &line.0[at % WORDS_PER_LINE]
    }
}

#[cfg(all(test, not(feature = "loom")))]
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

    #[test]
    fn a_private_block_has_one_column_for_every_slot() {
        let block = Block::private(8);
        block.column(0, 1).store(3, Ordering::Relaxed);
        assert_eq!(block.column(63, 1).load(Ordering::Relaxed), 3);
        assert_eq!(block.workers(), 1);
        assert!((0..8).all(|i| block.word(i).load(Ordering::Relaxed) == 0));
    }

    #[test]
    #[should_panic(expected = "no such column word")]
    fn a_word_outside_the_column_is_refused() {
        let _ = Block::private(1).column(0, COLUMN_WORDS);
    }

    #[test]
    fn a_block_of_columns_alone_has_no_shared_words() {
        let block = Block::private_shape(Shape::column(20));
        assert!(block.lines().is_empty());
        block.column(0, 19).store(1, Ordering::Relaxed);
        assert_eq!(block.column(1, 19).load(Ordering::Relaxed), 1);
    }
}
