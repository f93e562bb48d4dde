//! A route as compiled: its layers, and what it does in the end.

use std::sync::Arc;

use super::layer::{Guard, OF_ROUTE, Op};
use super::stats::RouteStats;
use super::upstream::Upstream;
use crate::codec::HeaderOps;
use crate::head::TunnelKind;
use crate::path::Oddities;
use crate::routing::rewrite::{PathRewrite, Redirect};
use crate::snapshot::Retry;
use crate::telemetry::trace::Ratio;

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
    pub name: Arc<str>,
    /// What it refuses of targets although its listener may not.
    pub(super) refused: Oddities,
    pub(super) ops: Vec<Op>,
    /// The breaker among them: of (upstream, route), instead of the upstream's own.
    pub(super) own_guard: Option<Arc<Guard>>,
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
    /// Which traces are sampled, instead of the configuration's share.
    pub(super) trace_ratio: Option<Ratio>,
    /// Whether CONNECT may be asked for.
    pub(super) connect: bool,
    /// Whether TRACE is among its methods.
    pub(super) trace: bool,
    /// The methods that it takes, as `allow` lists them.
    pub(super) allow: String,
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
        self.own_guard.as_deref().or_else(|| self.upstream()?.guard.as_ref())
    }

    /// Where that breaker is set, for the log.
    pub(super) fn guard_place(&self) -> &'static str {
        if self.own_guard.is_some() { OF_ROUTE } else { "circuit_breaker of the upstream" }
    }

    /// Which of its layers is its own breaker.
    pub(super) fn own_guard_op(&self) -> Option<usize> {
        self.ops.iter().position(|op| op.guard().is_some())
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
