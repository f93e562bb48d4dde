//! What blocks are for.

use super::block::Shape;

/// What a block is for. The same name under two kinds is two blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// A token bucket.
    Bucket,
    /// A table of buckets by client or key.
    ClientTable,
    /// A breaker.
    Breaker,
    /// What belongs to an upstream or a cap as a whole: turns, requests and retries in flight.
    Upstream,
    /// An endpoint.
    Endpoint,
    /// Counts that only grow; all words are in the workers' columns.
    Counters,
    /// Counts that come down again; all words are in the workers' columns.
    Gauges,
    /// A histogram; all words are in the workers' columns.
    Histogram,
    /// Counts that only grow and are found by a digest of their names: as many shared words, for
    /// these, as in each column.
    NamedCounters,
}

impl BlockKind {
    /// Every kind, in the order of its number.
    pub const ALL: &'static [Self] = &[
        Self::Bucket,
        Self::ClientTable,
        Self::Breaker,
        Self::Upstream,
        Self::Endpoint,
        Self::Counters,
        Self::Gauges,
        Self::Histogram,
        Self::NamedCounters,
    ];

    /// Its name in messages and exports.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::ClientTable => "client_table",
            Self::Breaker => "breaker",
            Self::Upstream => "upstream",
            Self::Endpoint => "endpoint",
            Self::Counters => "counters",
            Self::Gauges => "gauges",
            Self::Histogram => "histogram",
            Self::NamedCounters => "named_counters",
        }
    }

    /// The kind with a number, as it is stored.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The shape of a block of this kind with `words` words.
    #[must_use]
    pub const fn shape(self, words: usize) -> Shape {
        match self {
            Self::Counters | Self::Gauges | Self::Histogram => Shape::column(words),
            Self::NamedCounters => Shape { words, column: words },
            Self::Bucket | Self::ClientTable | Self::Breaker | Self::Upstream | Self::Endpoint => {
                Shape::words(words)
            }
        }
    }

    /// Whether a worker's column tells of what it holds now, and so is void when it is dead.
    pub(super) const fn comes_down(self) -> bool {
        !self.only_grows()
    }

    /// Whether its columns only grow, so that their sum may be kept.
    pub(super) const fn only_grows(self) -> bool {
        matches!(self, Self::Counters | Self::Histogram | Self::NamedCounters)
    }
}
