//! A route as compiled: its layers, and what it does in the end.

use std::sync::Arc;

use super::compiled::Compiled;
use super::compiler::Compiler;
use super::key::{Key, Stack};
use super::layer::{Guard, Limiters, Maker, OF_ROUTE, Op};
use super::local_reply;
use super::stats::RouteStats;
use super::upstream::Upstream;
use crate::codec::HeaderOps;
use crate::head::TunnelKind;
use crate::path::Oddities;
use crate::routing::rewrite::{self, PathRewrite, Redirect};
use crate::segment::BlockKind;
use crate::snapshot::{self, Action, Retry, Route};
use crate::telemetry::Histogram;

/// What stands for the method CONNECT in a route's list of protocols.
const CONNECT: &str = "connect";
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
    /// Compiles a route, whose upstream is in `new`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(
        compiler: &Compiler,
        new: &mut Compiled,
        before: &Limiters<'_>,
        route: &Route,
    ) -> Result<Self, String> {
        let stack = Stack::Route(&route.name);
        let target = target(new, &route.action)?;
        let upstream = match &target {
            Target::Forward { upstream, .. } => Some(&*upstream.name),
            _ => None,
        };
        let python = &mut new.layers;
        let ops = Maker { compiler, stack, upstream, before, python }.layers(&route.layers)?;
        let own_guard = ops.iter().find_map(Op::guard).cloned();
        let counts = compiler.block(BlockKind::Counters, Key::Stats(stack), RouteStats::WORDS)?;
        let latency = compiler.block(BlockKind::Histogram, Key::Stats(stack), Histogram::WORDS)?;
        Ok(Self {
            name: route.name.as_str().into(),
            refused: route.refused,
            ops,
            own_guard,
            target,
            timeout_ns: route.timeout_ns,
            idle_ns: route.idle_ns,
            retry: route.retry.clone(),
            body_rate: route.body_bytes_per_second,
            trace_ratio: route.trace_sample.map(Ratio::of),
            connect: route.upgrade.iter().any(|p| p == CONNECT),
            trace: route.methods.iter().any(|m| m == "TRACE"),
            allow: local_reply::allow(&route.methods, route.upgrade.iter().any(|p| p == CONNECT)),
            upgrade: route.upgrade.iter().filter(|p| *p != CONNECT).cloned().collect(),
            request_ops: header_ops(&route.request_headers)?,
            response_ops: header_ops(&route.response_headers)?,
            stats: RouteStats::new(
                counts,
                compiler.worker_slot,
                Histogram::new(latency, compiler.worker_slot),
            ),
        })
    }

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

fn header_ops(ops: &snapshot::FieldOps) -> Result<HeaderOps, String> {
    HeaderOps::compile(ops).map_err(|e| e.to_string())
}

fn target(new: &Compiled, action: &Action) -> Result<Target, String> {
    Ok(match action.clone() {
        Action::Forward { upstream, prefix_rewrite, host_rewrite } => {
            let Some(upstream) = new.upstreams.get(&upstream) else {
                return Err(format!("no upstream named {upstream}"));
            };
            let text = |e: rewrite::RewriteError| e.to_string();
            let path = prefix_rewrite.map(|to| rewrite::PathRewrite::new(&to)).transpose();
            let authority = host_rewrite.map(|to| rewrite::authority(&to)).transpose();
            Target::Forward {
                upstream: Arc::clone(upstream),
                path: path.map_err(text)?,
                authority: authority.map_err(text)?,
            }
        }
        Action::Redirect { status, scheme, host, port, path } => {
            let to = rewrite::Redirect::new(scheme.as_deref(), host.as_deref(), path.as_deref());
            Target::Redirect { status, to: to.map_err(|e| e.to_string())?.with_port(port) }
        }
        Action::Respond { status, body, content_type } => {
            Target::Respond { status, body, content_type }
        }
    })
}
