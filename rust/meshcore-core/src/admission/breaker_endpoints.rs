//! Whom a failure names: what tells one dead endpoint from a dead service.
//!
//! A breaker stands before a whole service. Five requests in a row that fail at the same endpoint
//! say nothing of the others, so failures carry a bit of their endpoint, and the breaker opens
//! only if enough bits are set, or each that could be chosen. Ejection alone is no help here: the
//! many requests that a dead endpoint holds fail together, before it is ejected.

/// Which endpoints a failure names, as bits (see [`Endpoints::bit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The bit of the one that failed.
    pub failed: u64,
    /// The bits of all that the picker could choose now. None (zero) means that there is none
    /// else who might answer: the number of failures alone decides.
    pub choosable: u64,
}

impl Endpoints {
    /// A service that is one: no failure is told from another.
    pub(crate) const ALL_AS_ONE: Self = Self { failed: 0, choosable: 0 };

    /// The bit of the endpoint at `index`. Those whose index is the same modulo 64 share a bit and
    /// count as one: they may delay the opening, but one of them can only stand for all that are
    /// choosable if all of those share it. O(1).
    #[must_use]
    #[inline]
    pub const fn bit(index: usize) -> u64 {
        1 << (index % 64)
    }
}

/// What a failure counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// For the row of failures and for the rate.
    RowAndRate,
    /// For the rate; the row stays as it is, neither longer nor ended.
    RateOnly,
}
