//! What the words of each kind of block mean, as numbers: programs that agree may share them.

use super::handshakes::Handshakes;
use super::layer::Allow;
use super::layer_counts::LayerCounts;
use super::stats::{ListenerStats, RouteStats};
use crate::admission::{Breaker, InFlight, RetryBudget, TokenBucket};
use crate::balance::{EndpointState, Picker};
use crate::segment::{BlockKind, layout_hash};
use crate::telemetry::Histogram;

/// The format of a kind's words. Raise it when they come to mean something else.
#[must_use]
pub const fn word_format(kind: BlockKind) -> u64 {
    // 1: names are those of typed keys, and limiters' words belong to one rate.
    // 2: a client's place is its key, not mixed again.
    let since = if matches!(kind, BlockKind::ClientTable) { 2 } else { 1 };
    old_format(kind) + since
}

/// The format before that, whose names [`OldNames`](super::old_names::OldNames) reads.
pub(super) const fn old_format(kind: BlockKind) -> u64 {
    match kind {
        // 2: rows have numbers, and failures name endpoints.
        BlockKind::Breaker => 2,
        BlockKind::Bucket
        | BlockKind::ClientTable
        | BlockKind::Upstream
        | BlockKind::Endpoint
        | BlockKind::Counters
        | BlockKind::Gauges
        | BlockKind::Histogram
        | BlockKind::NamedCounters => 1,
    }
}

/// The layout of all words, for [`Origin`](crate::segment::Origin) and
/// [`Segment::open`](crate::segment::Segment::open).
pub const LAYOUT: u64 = layout_hash(&[
    word_format(BlockKind::Bucket),
    word_format(BlockKind::ClientTable),
    word_format(BlockKind::Breaker),
    word_format(BlockKind::Upstream),
    word_format(BlockKind::Endpoint),
    word_format(BlockKind::Counters),
    word_format(BlockKind::Gauges),
    word_format(BlockKind::Histogram),
    word_format(BlockKind::NamedCounters),
    TokenBucket::WORDS as u64,
    Breaker::WORDS as u64,
    InFlight::WORDS as u64,
    RetryBudget::WORDS as u64,
    Picker::WORDS as u64,
    EndpointState::WORDS as u64,
    RouteStats::WORDS as u64,
    ListenerStats::WORDS as u64,
    ListenerStats::GAUGES as u64,
    Histogram::WORDS as u64,
    Handshakes::WORDS as u64,
    Allow::WORDS as u64,
    LayerCounts::WORDS as u64,
]);
