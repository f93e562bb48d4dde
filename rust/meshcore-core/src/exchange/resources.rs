//! One resource of the snapshot at a time: an upstream, a listener, a route.

use std::sync::Arc;

use super::client_address::Trust;
use super::compiled::{Compiled, CompiledListener, Map};
use super::compiler::Compiler;
use super::handshakes::Handshakes;
use super::key::{Key, Stack};
use super::layer::{Guard, Limiters, Maker, Op};
use super::local_reply;
use super::networks::Networks;
use super::stack::{RouteStack, Target};
use super::stats::{ListenerStats, RouteStats};
use super::upstream::Upstream;
use crate::admission::{ClientShare, InFlight, RetryBudget, bytes_key};
use crate::balance::{Endpoint, EndpointState, Picker};
use crate::codec::{HeaderOps, ViaMark, random_name};
use crate::routing::{ListenerId, rewrite};
use crate::segment::BlockKind;
use crate::snapshot::{self, Action, Route};
use crate::telemetry::Histogram;
use crate::telemetry::trace::Ratio;

/// What stands for the method CONNECT in a route's list of protocols.
const CONNECT: &str = "connect";

impl Compiler {
    pub(super) fn upstream(
        &mut self,
        name: &str,
        spec: snapshot::Upstream,
        (old, counts): (&Compiled, &snapshot::Counts),
    ) -> Result<Arc<Upstream>, String> {
        if let Some(same) = old.upstreams.get(name)
            && same.spec == spec
            && *old.counts == *counts
        {
            return Ok(Arc::clone(same));
        }
        let was = old.upstreams.get(name).map(|was| &**was);
        let (endpoints, ids) = self.endpoints(name, &spec, was)?;
        let words = self.block(BlockKind::Upstream, Key::Balance(name), Picker::WORDS)?;
        let picker = Picker::with_sequence(spec.balance, Arc::clone(&endpoints), words);
        let own = Key::UpstreamBreaker(name);
        let guard = spec.breaker.as_ref().map(|rules| Guard::compile(self, own, rules));
        let guard = guard.transpose()?;
        let words = self.block(BlockKind::Upstream, Key::Requests(name), InFlight::WORDS)?;
        let in_flight = InFlight::new(words, self.worker_slot, spec.max_requests);
        let words = self.block(BlockKind::Upstream, Key::Retries(name), RetryBudget::WORDS)?;
        let retries = RetryBudget::new(
            words,
            self.worker_slot,
            spec.retry_budget_percent,
            spec.retry_budget_floor,
        );
        let handshakes = self.handshakes(spec.tls, Key::UpstreamHandshakes(name))?;
        let counted = self.counted(&counts.upstream, Some(name))?;
        let share = ClientShare::new(spec.client_share_percent);
        let salt = bytes_key(self.seed(), name.as_bytes());
        Ok(Arc::new(Upstream {
            name: name.to_owned(),
            spec,
            picker,
            endpoints,
            ids,
            guard,
            in_flight,
            share,
            salt,
            retries,
            handshakes,
            counted,
        }))
    }

    /// Where handshakes are counted, if there are any.
    fn handshakes(&self, tls: bool, key: Key<'_>) -> Result<Option<Handshakes>, String> {
        if !tls {
            return Ok(None);
        }
        let block = self.block(BlockKind::Counters, key, Handshakes::WORDS)?;
        Ok(Some(Handshakes::new(block, self.worker_slot)))
    }

    /// Endpoints and their ids: an address that stays keeps its id, no other ever gets it.
    fn endpoints(
        &mut self,
        name: &str,
        spec: &snapshot::Upstream,
        was: Option<&Upstream>,
    ) -> Result<(Arc<[Endpoint]>, Vec<u32>), String> {
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        let mut ids = Vec::with_capacity(spec.endpoints.len());
        let was = was.into_iter().flat_map(Upstream::endpoints);
        let mut known: Map<&str, u32> = was.map(|(id, e)| (&*e.address, id)).collect();
        for e in &spec.endpoints {
            let key = Key::Endpoint { upstream: name, address: &e.address };
            let words = self.block(BlockKind::Endpoint, key, EndpointState::WORDS)?;
            let state = EndpointState::new(words, self.worker_slot);
            endpoints.push(Endpoint { state, weight: e.weight, address: e.address.clone() });
            ids.push(*known.entry(&e.address).or_insert_with(|| {
                self.next_endpoint += 1;
                self.next_endpoint - 1
            }));
        }
        Ok((endpoints.into(), ids))
    }

    pub(super) fn listener(
        &self,
        new: &mut Compiled,
        before: &Limiters<'_>,
        name: &str,
        spec: &snapshot::Listener,
    ) -> Result<(), String> {
        // A removed listener's id is not given to another: connections may still know it.
        let id = new.listener_id(name).unwrap_or_else(|| {
            new.listeners.push(None);
            new.listeners.len() as u32 - 1
        });
        let stack = Stack::Listener(name);
        let python = &mut new.layers;
        let ops =
            Maker { compiler: self, stack, upstream: None, before, python }.layers(&spec.layers)?;
        let counts = self.block(BlockKind::Counters, Key::Stats(stack), ListenerStats::WORDS)?;
        let gauges = self.block(BlockKind::Gauges, Key::Stats(stack), ListenerStats::GAUGES)?;
        new.listeners[id as usize] = Some(Arc::new(CompiledListener {
            id,
            name: name.to_owned(),
            ops,
            trust: Trust::compile(spec)?,
            forwarded_cert: spec.forwarded_client_cert,
            announcers: Networks::new(&spec.proxy_protocol)?,
            via: ViaMark::new(spec.via.as_ref().unwrap_or(&random_name(self.seed())), name),
            max_visits: spec.max_visits,
            body_rate: spec.body_bytes_per_second,
            routing: ListenerId::new(name, spec.match_first),
            stats: ListenerStats::new(counts, gauges, self.worker_slot),
            handshakes: self.handshakes(spec.tls, Key::ListenerHandshakes(name))?,
        }));
        Ok(())
    }

    pub(super) fn route(
        &self,
        new: &mut Compiled,
        before: &Limiters<'_>,
        route: &Route,
    ) -> Result<RouteStack, String> {
        let stack = Stack::Route(&route.name);
        let target = target(new, &route.action)?;
        let upstream = match &target {
            Target::Forward { upstream, .. } => Some(&*upstream.name),
            _ => None,
        };
        let python = &mut new.layers;
        let ops =
            Maker { compiler: self, stack, upstream, before, python }.layers(&route.layers)?;
        let own_guard = ops.iter().find_map(Op::guard).cloned();
        let counts = self.block(BlockKind::Counters, Key::Stats(stack), RouteStats::WORDS)?;
        let latency = self.block(BlockKind::Histogram, Key::Stats(stack), Histogram::WORDS)?;
        Ok(RouteStack {
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
                self.worker_slot,
                Histogram::new(latency, self.worker_slot),
            ),
        })
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
