//! What happened on a route or a listener, in columns that each worker only adds to.

use crate::error::Reason;
use crate::segment::Block;
use crate::telemetry::{Counters, Gauges, Histogram};
use crate::time::Nanos;

/// Responses by class, retries, and the time from the request's head to its end.
#[derive(Debug)]
pub struct RouteStats {
    /// 0 to 4: responses 1xx to 5xx; then retries; then requests that the client cancelled.
    counts: Counters,
    latency: Histogram,
}

const RETRIES: usize = 5;
const CANCELLED: usize = 6;

impl RouteStats {
    /// Words of the block of counts.
    pub const WORDS: usize = 8;

    /// Over a block of [`Self::WORDS`] and a histogram, as the worker in `slot` writes it.
    #[must_use]
    pub fn new(block: Block, slot: usize, latency: Histogram) -> Self {
        Self { counts: Counters::new(block, slot), latency }
    }

    pub(super) fn responded(&self, status: u16, took: Nanos) {
        self.counts.inc(usize::from(status / 100).clamp(1, 5) - 1);
        self.latency.record(took);
    }

    pub(super) fn retried(&self) {
        self.counts.inc(RETRIES);
    }

    pub(super) fn cancelled(&self) {
        self.counts.inc(CANCELLED);
    }

    /// Responses of a class, 1 to 5.
    #[must_use]
    pub fn class(&self, class: usize) -> u64 {
        self.counts.get(class.clamp(1, 5) - 1)
    }

    /// Attempts after a request's first.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.counts.get(RETRIES)
    }

    /// Requests whose client left first.
    #[must_use]
    pub fn cancellations(&self) -> u64 {
        self.counts.get(CANCELLED)
    }

    /// Times from head to end.
    #[must_use]
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }
}

/// Local answers of a listener by reason, its requests and its connections.
#[derive(Debug)]
pub struct ListenerStats {
    counts: Counters,
    open: Gauges,
}

const REQUESTS: usize = Reason::ALL.len();
const CONNECTIONS: usize = REQUESTS + 1;

impl ListenerStats {
    /// Words of its block of counts: one for each reason, requests and connections.
    pub const WORDS: usize = Reason::ALL.len() + 2;
    /// Words of its block of gauges.
    pub const GAUGES: usize = 1;

    /// Over a block of [`Self::WORDS`] and one of [`Self::GAUGES`], as the worker in `slot`
    /// writes them.
    #[must_use]
    pub fn new(counts: Block, gauges: Block, slot: usize) -> Self {
        Self { counts: Counters::new(counts, slot), open: Gauges::new(gauges, slot) }
    }

    /// Counts a local answer.
    pub fn answered(&self, reason: Reason) {
        self.counts.inc(reason as usize);
    }

    /// A client connected.
    pub fn connected(&self) {
        self.counts.inc(CONNECTIONS);
        self.open.inc(0);
    }

    /// A client's connection is gone; once for each [`Self::connected`].
    pub fn disconnected(&self) {
        self.open.dec(0);
    }

    pub(super) fn began(&self) {
        self.counts.inc(REQUESTS);
    }

    /// Local answers for a reason.
    #[must_use]
    pub fn answers(&self, reason: Reason) -> u64 {
        self.counts.get(reason as usize)
    }

    /// Requests that began.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts.get(REQUESTS)
    }

    /// Connections that were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.get(CONNECTIONS)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.open.get(0)
    }
}
