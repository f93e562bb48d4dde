//! What happened on a route or a listener, in columns that each worker only adds to.

use super::grpc::STATUSES as GRPC_STATUSES;
use crate::codec::h2::Flood;
use crate::error::Reason;
use crate::segment::Block;
use crate::telemetry::{Counters, Gauges, Histogram};
use crate::time::Nanos;

/// Responses by class, retries, and the time from the request's head to its end.
#[derive(Debug)]
pub struct RouteStats {
    /// 0 to 4: responses 1xx to 5xx; then retries; then requests that the client cancelled; then
    /// bytes of tunnels from the client and to it; then gRPC statuses.
    counts: Counters,
    latency: Histogram,
}

const RETRIES: usize = 5;
const CANCELLED: usize = 6;
const TUNNELLED: usize = 7;
const GRPC: usize = 9;

impl RouteStats {
    /// Words of the block of counts.
    pub const WORDS: usize = GRPC + GRPC_STATUSES;

    /// Over a block of [`Self::WORDS`] and a histogram, as the worker in `slot` writes it.
    #[must_use]
    pub fn new(block: Block, slot: usize, latency: Histogram) -> Self {
        Self { counts: Counters::new(block, slot), latency }
    }

    /// A request is over: its client got this status, or left before there was one (0), and was told
    /// this status of its call.
    pub(super) fn ended(&self, status: u16, grpc: Option<u8>, took: Nanos) {
        if status == 0 {
            self.counts.inc(CANCELLED);
        } else {
            self.counts.inc(usize::from(status / 100).clamp(1, 5) - 1);
            self.latency.record(took);
        }
        if let Some(grpc) = grpc {
            self.counts.inc(GRPC + usize::from(grpc).min(GRPC_STATUSES - 1));
        }
    }

    /// Whether anything happened on it: what was never used says nothing.
    #[must_use]
    pub fn is_used(&self) -> bool {
        (0..Self::WORDS).any(|word| self.counts.get(word) > 0)
    }

    pub(super) fn retried(&self) {
        self.counts.inc(RETRIES);
    }

    pub(super) fn tunnelled(&self, to_client: bool, bytes: u64) {
        self.counts.add(TUNNELLED + usize::from(to_client), bytes);
    }

    /// Bytes that passed through tunnels, one way.
    #[must_use]
    pub fn tunnel_bytes(&self, to_client: bool) -> u64 {
        self.counts.get(TUNNELLED + usize::from(to_client))
    }

    /// Calls that ended with a gRPC status.
    #[must_use]
    pub fn grpc(&self, status: u8) -> u64 {
        self.counts.get(GRPC + usize::from(status).min(GRPC_STATUSES - 1))
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

/// Local answers and torn requests of a listener by reason, its requests and its connections.
#[derive(Debug)]
pub struct ListenerStats {
    counts: Counters,
    open: Gauges,
}

const REQUESTS: usize = Reason::ALL.len();
const CONNECTIONS: usize = REQUESTS + 1;
const AT_ONCE: usize = CONNECTIONS + 1;
const NATIVELY: usize = AT_ONCE + 1;
const FLOODS: usize = NATIVELY + 2;
const CUTS: usize = FLOODS + Flood::ALL.len();

impl ListenerStats {
    /// Words of its block of counts: answers by reason, requests, connections, responses relayed at
    /// once, messages sent natively to endpoints and to clients, floods, and what was cut by reason.
    pub const WORDS: usize = CUTS + Reason::ALL.len();
    /// Words of its block of gauges.
    pub const GAUGES: usize = 2;

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

    /// Counts a request that ended without an answer of ours, or with a torn one.
    pub fn cut(&self, reason: Reason) {
        self.counts.inc(CUTS + reason as usize);
    }

    /// Requests that ended so for a reason.
    #[must_use]
    pub fn cuts(&self, reason: Reason) -> u64 {
        self.counts.get(CUTS + reason as usize)
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

    /// A handshake is under way.
    pub fn handshake_began(&self) {
        self.open.inc(1);
    }

    /// It is over, or came to nothing; once for each [`Self::handshake_began`].
    pub fn handshake_ended(&self) {
        self.open.dec(1);
    }

    /// Handshakes under way.
    #[must_use]
    pub fn open_handshakes(&self) -> u64 {
        self.open.get(1)
    }

    pub(super) fn relayed_at_once(&self) {
        self.counts.inc(AT_ONCE);
    }

    /// Responses that went out in the call that read them.
    #[must_use]
    pub fn at_once(&self) -> u64 {
        self.counts.get(AT_ONCE)
    }

    pub(super) fn sent_natively(&self, to_client: bool) {
        self.counts.inc(NATIVELY + usize::from(to_client));
    }

    /// Requests, or responses, that went out without the loop's transport.
    #[must_use]
    pub fn natively(&self, to_client: bool) -> u64 {
        self.counts.get(NATIVELY + usize::from(to_client))
    }

    /// A connection was ended for a flood of frames.
    pub fn flooded(&self, flood: Flood) {
        self.counts.inc(FLOODS + flood as usize);
    }

    /// Connections that a flood ended.
    #[must_use]
    pub fn floods(&self, flood: Flood) -> u64 {
        self.counts.get(FLOODS + flood as usize)
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
