//! Where things lie in a segment, as numbers of lines and words, and one hash of it all.

use super::block::{COLUMN_WORDS, Line, WORDS_PER_LINE};

/// The most worker slots: a sum over columns reads this many lines at worst.
pub const MAX_WORKERS: usize = if cfg!(feature = "loom") { 3 } else { 64 };

/// The first word: "meshcore" in ASCII. Written last, so half a header is none.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"meshcore");
/// Raised when a change of layout shows in none of the numbers below.
pub(super) const VERSION: u64 = 2;

/// Words of the header's first line.
pub(super) mod word {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    pub(crate) const LAYOUT: usize = 2;
    pub(crate) const LINES: usize = 3;
    pub(crate) const WORKERS: usize = 4;
    pub(crate) const SEED: [usize; 2] = [5, 6];
    pub(crate) const CREATED: usize = 7;
}
/// The header's second line: what control changes while it works.
pub(super) const WORK_AT: usize = 1;
/// Lines from here on have never been written.
pub(super) const USED: usize = 0;
/// How often entries have been taken out.
pub(super) const REMOVALS: usize = 1;

/// A pair of lines for each worker slot.
pub(super) const SLOTS_AT: usize = 2;
pub(super) const SLOT_LINES: usize = PAIR;
/// Words of a slot.
pub(super) mod slot {
    pub(crate) const PID: usize = 0;
    pub(crate) const STARTED: usize = 1;
    pub(crate) const HEARTBEAT: usize = 2;
    pub(crate) const ACKED: usize = 3;
    /// The oldest version that is held: good at any time.
    pub(crate) const OLDEST: usize = 4;
    /// Even while the words from here on belong together, odd while they do not.
    pub(crate) const SEQUENCE: usize = 5;
    /// Every version from this one on counts as held.
    pub(crate) const FROM: usize = 6;
    /// Versions before that which are held; what is not needed repeats it.
    pub(crate) const OLDER: usize = 7;
}
/// Versions besides the one in force that a worker tells one by one: the rest of its lines.
pub(super) const OLDER_VERSIONS: usize = SLOT_LINES * WORDS_PER_LINE - slot::OLDER;

/// Heads of the registry's chains, one word each. With 100,000 endpoints a chain has six entries.
/// In a model all entries are in one.
pub(super) const BUCKETS: usize = if cfg!(feature = "loom") { 1 } else { 16_384 };
pub(super) const BUCKETS_AT: usize = SLOTS_AT + MAX_WORKERS * SLOT_LINES;
/// Where the pool of lines begins, with a pair of them.
pub(super) const POOL_AT: usize =
    (BUCKETS_AT + BUCKETS.div_ceil(WORDS_PER_LINE)).next_multiple_of(PAIR);

/// Words of an entry's first line.
pub(super) mod entry {
    pub(crate) const HASH: usize = 0;
    pub(crate) const NEXT: usize = 1;
    /// The kind in the lowest byte, above it the name's length in bytes (16 bits), then the first
    /// version that may have used it (40 bits; of later ones the last that has room).
    pub(crate) const KIND: usize = 2;
    /// Shared words.
    pub(crate) const WORDS: usize = 3;
    /// Words in each worker's column.
    pub(crate) const COLUMN: usize = 4;
    /// The first line of the region of columns.
    pub(crate) const REGION: usize = 5;
    /// Lines of a column of the region in the upper half, the first word in the lower.
    pub(crate) const PLACE: usize = 6;
    /// Zero while it can be found; then the last version that used it, plus one.
    pub(crate) const RETIRED: usize = 7;
}

/// The highest version that an entry can say it was made for.
pub(super) const LAST_MADE_FOR: u64 = (1 << 40) - 1;

/// The kind of an entry that is a region of columns.
pub(super) const REGION_KIND: u8 = u8::MAX;
/// Longer names are refused, so that a length from outside is small.
pub(super) const MAX_NAME: usize = 4_096;

/// Columns of two workers are a pair of lines apart: processors fetch lines in pairs.
pub(super) const PAIR: usize = 2;
/// The first region of columns, in lines: 64 KiB, some hundred objects.
pub(super) const FIRST_REGION: usize = if cfg!(feature = "loom") { 8 } else { 1_024 };
/// Later ones double up to 4 MiB, so that 100,000 endpoints take about a dozen.
pub(super) const MOST_REGION: usize = 65_536;
/// Objects that one line of a worker's column has room for.
pub(super) const UNITS_PER_LINE: usize = WORDS_PER_LINE / COLUMN_WORDS;

/// One number for a list of numbers (FNV-1a, 64 bits, over the words): what must be equal for two
/// programs to share a segment.
#[must_use]
pub const fn layout_hash(numbers: &[u64]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut i = 0;
    while i < numbers.len() {
        let bytes = numbers[i].to_le_bytes();
        let mut b = 0;
        while b < bytes.len() {
            hash = (hash ^ bytes[b] as u64).wrapping_mul(0x0000_0100_0000_01B3);
            b += 1;
        }
        i += 1;
    }
    hash
}

/// The hash of the segment's own layout together with that of the words in it.
pub(super) const fn with_own(rooms: u64) -> u64 {
    layout_hash(&[
        VERSION,
        size_of::<Line>() as u64,
        WORDS_PER_LINE as u64,
        COLUMN_WORDS as u64,
        MAX_WORKERS as u64,
        SLOTS_AT as u64,
        SLOT_LINES as u64,
        OLDER_VERSIONS as u64,
        LAST_MADE_FOR,
        BUCKETS as u64,
        BUCKETS_AT as u64,
        POOL_AT as u64,
        PAIR as u64,
        REGION_KIND as u64,
        rooms,
    ])
}

#[cfg(not(feature = "loom"))]
const _: () = {
    assert!(size_of::<Line>() == 64 && align_of::<Line>() == 64);
    assert!(size_of::<usize>() == 8, "line numbers are kept in words of 64 bits");
};
const _: () = {
    assert!(BUCKETS.is_power_of_two());
    assert!(word::CREATED < WORDS_PER_LINE && OLDER_VERSIONS > 0);
    assert!(entry::RETIRED < WORDS_PER_LINE && WORK_AT < SLOTS_AT);
    assert!(MAX_NAME < 1 << 16, "a name's length has 16 bits");
    assert!(WORDS_PER_LINE.is_multiple_of(COLUMN_WORDS));
};
