//! Layers as compiled: the ops of a listener's and a route's stack.

use std::sync::Arc;

use super::stats::RouteStats;
use super::upstream::Upstream;
use crate::admission::{Breaker, ClientLimiter, FailureRules, InFlight, TokenBucket};
use crate::codec::HeaderOps;
use crate::head::TunnelKind;
use crate::routing::rewrite::{PathRewrite, Redirect};
use crate::snapshot::{LimitKey, Retry};

/// One compiled layer. Shared by pointer, so a ticket can hold what it charged.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A bucket for each client.
    Client(Arc<ClientLimiter>),
    /// One bucket.
    Bucket(Arc<TokenBucket>),
    /// A bucket for each value of a key.
    Keyed(Arc<ClientLimiter>, LimitKey),
    /// A cap on this route's requests in flight.
    InFlight(Arc<InFlight>),
    /// A Python layer: pause, and say which.
    Python(u32),
}

impl Op {
    /// The field that it counts by.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Keyed(_, LimitKey::Header(key)) => Some(key.name.as_bytes()),
            _ => None,
        }
    }
}

/// A breaker, and what it takes for a failure.
#[derive(Debug)]
pub struct Guard {
    /// The breaker.
    pub breaker: Breaker,
    /// Its rules.
    pub rules: FailureRules,
}

/// What a route does in the end.
#[derive(Debug)]
pub enum Target {
    /// Forward.
    Forward {
        /// To where.
        upstream: Arc<Upstream>,
        /// What replaces the matched part of the path.
        path: Option<PathRewrite>,
        /// The new authority.
        authority: Option<Box<[u8]>>,
    },
    /// Redirect.
    Redirect {
        /// The status.
        status: u16,
        /// Where to.
        to: Redirect,
    },
    /// A fixed answer.
    Respond {
        /// The status.
        status: u16,
        /// The body.
        body: String,
        /// Its type.
        content_type: String,
    },
}

/// A compiled route.
#[derive(Debug)]
pub struct RouteStack {
    /// Its name.
    pub name: String,
    pub(super) ops: Vec<Op>,
    /// The breaker of (upstream, route), instead of the upstream's own.
    pub(super) own_guard: Option<Guard>,
    /// What it does.
    pub target: Target,
    /// From the request's last byte to the response head; zero for none.
    pub timeout_ns: u64,
    /// Between two bytes of a body; zero for none.
    pub idle_ns: u64,
    /// What is tried again.
    pub retry: Retry,
    /// The least rate of a request's body in bytes a second, instead of the listener's.
    pub(super) body_rate: Option<u64>,
    /// Whether CONNECT may be asked for.
    pub(super) connect: bool,
    /// Protocols that may be upgraded to.
    pub(super) upgrade: Vec<String>,
    /// Changes to the request's fields.
    pub request_ops: HeaderOps,
    /// Changes to the response's fields.
    pub response_ops: HeaderOps,
    /// What happened on it.
    pub stats: RouteStats,
}

impl RouteStack {
    /// Whether a tunnel of this kind may be asked for.
    #[must_use]
    pub fn allows(&self, tunnel: TunnelKind<'_>) -> bool {
        match tunnel {
            TunnelKind::Connect => self.connect,
            TunnelKind::Upgrade(to) => self.upgrade.iter().any(|p| p.as_bytes() == to),
        }
    }

    /// The breaker that its requests pass.
    pub(super) fn guard(&self) -> Option<&Guard> {
        self.own_guard.as_ref().or_else(|| self.upstream()?.guard.as_ref())
    }

    /// Where that breaker is set, for the log.
    pub(super) fn guard_place(&self) -> &'static str {
        if self.own_guard.is_some() {
            "circuit_breaker of the route"
        } else {
            "circuit_breaker of the upstream"
        }
    }

    /// The upstream, if the route forwards.
    #[must_use]
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &self.target {
            Target::Forward { upstream, .. } => Some(upstream),
            _ => None,
        }
    }
}
