//! From the plain snapshot to what requests walk through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::compiled::{Compiled, Host, Listener, Map};
use super::layout::word_format;
use super::stack::{Guard, Op, RouteStack, Target};
use super::stats::{ListenerStats, RouteStats};
use super::upstream::Upstream;
use crate::admission::{
    Breaker, ClientLimiter, ClientShare, FailureRules, InFlight, Quota, RetryBudget, TokenBucket,
    bytes_key,
};
use crate::balance::{Endpoint, EndpointState, Picker};
use crate::codec::HeaderOps;
use crate::routing::{ListenerId, RouteTable, rewrite};
use crate::segment::{Block, Kind, Segment, SegmentError};
use crate::snapshot::{self, Action, Delta, Layer, Rate, Route};
use crate::telemetry::Histogram;

/// What stands for the method CONNECT in a route's list of protocols.
const CONNECT: &str = "connect";

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyError {
    /// The resource, such as `route api` or `upstream users`.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// What changes about hosts.
struct HostChange {
    set: BTreeMap<String, Vec<Route>>,
    remove: Vec<String>,
    /// Upstreams that were set or removed.
    upstreams: Vec<String>,
}

/// Compiles deltas for a process. One per segment writes its registry; those of workers find in
/// it what that one made for the same delta.
#[derive(Debug)]
pub struct Control {
    segment: Segment,
    writes: bool,
    seed: [u64; 2],
    worker_slot: usize,
    next_endpoint: u32,
    /// The highest version that was compiled, be it refused or never put in force.
    newest: u64,
}

impl Control {
    /// The one that writes the registry; `seed` keys the limiters' tables.
    #[must_use]
    pub fn new(segment: Segment, worker_slot: usize, seed: [u64; 2]) -> Self {
        Self { segment, writes: true, seed, worker_slot, next_endpoint: 0, newest: 0 }
    }

    /// One that only finds blocks, for the worker in a slot. The segment holds the tables' key.
    #[must_use]
    pub fn worker(segment: Segment, worker_slot: usize) -> Self {
        let seed = segment.origin().seed;
        Self { writes: false, ..Self::new(segment, worker_slot, seed) }
    }

    /// Makes blocks with the words that another program exported, before any configuration. How
    /// many were kept.
    ///
    /// # Errors
    /// If that is no export, or this is not the one that writes the registry.
    pub fn import(&mut self, data: &[u8]) -> Result<usize, SegmentError> {
        if !self.writes {
            return Err(SegmentError::NotTheWriter);
        }
        self.segment.import(data, word_format)
    }

    /// Whether changes can be applied.
    ///
    /// # Errors
    /// If this was the one that writes the registry, which was handed over.
    pub fn check(&self) -> Result<(), SegmentError> {
        if self.writes { self.segment.check_writer() } else { Ok(()) }
    }

    /// The key of the limiters' tables.
    #[must_use]
    pub fn seed(&self) -> [u64; 2] {
        self.seed
    }

    /// Applies a change to a configuration and gives the new one; the old one stays as it is.
    ///
    /// Only what the delta names is compiled. O(delta), one copy of the host index and one look
    /// at each block of the segment: what no configuration holds any more makes room.
    ///
    /// # Errors
    /// Everything that is wrong, at once; nothing is changed then.
    pub fn apply(&mut self, old: &Compiled, delta: Delta) -> Result<Compiled, Vec<ApplyError>> {
        self.make_room(old, delta.config_version);
        let mut errors = Vec::new();
        let mut new = Compiled {
            version: delta.config_version,
            seed: self.seed,
            listeners: old.listeners.clone(),
            routes: RouteTable::default(),
            upstreams: old.upstreams.clone(),
            hosts: old.hosts.clone(),
            layers: Arc::clone(&old.layers),
            buffers: old.buffers.clone(),
            clients: Arc::clone(&old.clients),
        };
        if let Some(most) = delta.buffer_total {
            new.buffers.most = most;
        }
        for name in &delta.remove.listeners {
            if let Some(id) = new.listener_id(name) {
                new.listeners[id as usize] = None;
            }
        }
        let mut upstreams: Vec<String> = delta.remove.upstreams;
        for name in &upstreams {
            new.upstreams.remove(name);
        }
        upstreams.extend(delta.upstreams.keys().cloned());
        for (name, spec) in delta.upstreams {
            match self.upstream(&name, spec, old) {
                Ok(upstream) => drop(new.upstreams.insert(name, upstream)),
                Err(e) => errors.push(ApplyError { place: format!("upstream {name}"), message: e }),
            }
        }
        for (name, spec) in delta.listeners {
            if let Err(message) = self.listener(&mut new, &name, &spec) {
                errors.push(ApplyError { place: format!("listener {name}"), message });
            }
        }
        let change = HostChange { set: delta.hosts, remove: delta.remove.hosts, upstreams };
        self.hosts(old, &mut new, change, &mut errors);
        if errors.is_empty() { Ok(new) } else { Err(errors) }
    }

    /// Compiles the hosts that are set, and those whose routes lead to a changed upstream.
    fn hosts(
        &mut self,
        old: &Compiled,
        new: &mut Compiled,
        change: HostChange,
        errors: &mut Vec<ApplyError>,
    ) {
        let HostChange { mut set, remove, upstreams } = change;
        if !upstreams.is_empty() {
            for (host, compiled) in &old.hosts {
                if !set.contains_key(host) && compiled.leads_to(&upstreams) {
                    set.insert(host.clone(), compiled.routes.clone());
                }
            }
        }
        for host in &remove {
            set.remove(host);
            new.hosts.remove(host);
        }
        let mut compiled = Vec::with_capacity(set.len());
        for (host, routes) in set {
            let mut stacks = Vec::with_capacity(routes.len());
            for route in &routes {
                match self.route(new, route) {
                    Ok(stack) => stacks.push(Arc::new(stack)),
                    Err(message) => {
                        errors.push(ApplyError { place: format!("route {}", route.name), message });
                    }
                }
            }
            compiled.push((host.clone(), routes.iter().cloned().zip(stacks.clone()).collect()));
            new.hosts.insert(host, Arc::new(Host { routes, stacks }));
        }
        match old.routes.with_hosts(compiled, &remove) {
            Ok(routes) => new.routes = routes,
            Err(found) => {
                errors.extend(
                    found.into_iter().map(|e| ApplyError {
                        place: e
                            .route
                            .map_or_else(|| format!("host {}", e.host), |r| format!("route {r}")),
                        message: e.problem.to_string(),
                    }),
                )
            }
        }
    }

    /// Retires what neither a request nor a configuration holds any more.
    fn make_room(&mut self, old: &Compiled, next: u64) {
        // What is unused now is not the configuration's in force, so it was an older one's; or it
        // was made for a newer one that was refused or never put in force.
        let aborted = self.newest > old.version;
        let last = if aborted { self.newest } else { old.version.saturating_sub(1) };
        self.newest = self.newest.max(next);
        if self.writes && self.segment.at_version(last).is_ok() {
            if old.version > 0 {
                self.segment.settle();
            }
            self.segment.retire_unused();
            self.segment.collect();
            // It was the writer a moment ago; if it is not any more, nothing is made.
            let _ = self.segment.make_for(next);
        }
    }

    fn block(&mut self, kind: Kind, name: &str, words: usize) -> Result<Block, String> {
        let block = if self.writes {
            self.segment.block(kind, name, words)
        } else {
            self.segment.find(kind, name, words)
        };
        block.map_err(|e| e.to_string())
    }

    fn upstream(
        &mut self,
        name: &str,
        spec: snapshot::Upstream,
        old: &Compiled,
    ) -> Result<Arc<Upstream>, String> {
        if let Some(same) = old.upstreams.get(name)
            && same.spec == spec
        {
            return Ok(Arc::clone(same));
        }
        let was = old.upstreams.get(name).map(|was| &**was);
        let (endpoints, ids) = self.endpoints(name, &spec, was)?;
        let words = self.block(Kind::Upstream, &format!("{name}/balance"), Picker::WORDS)?;
        let picker = Picker::with_sequence(spec.balance, Arc::clone(&endpoints), words);
        let guard = spec.breaker.as_ref().map(|rules| self.guard(name, rules)).transpose()?;
        let words = self.block(Kind::Upstream, &format!("{name}/in_flight"), InFlight::WORDS)?;
        let in_flight = InFlight::new(words, self.worker_slot, spec.max_requests);
        let words = self.block(Kind::Upstream, &format!("{name}/retries"), RetryBudget::WORDS)?;
        let retries = RetryBudget::new(
            words,
            self.worker_slot,
            spec.retry_budget_percent,
            spec.retry_budget_floor,
        );
        let share = ClientShare::new(spec.client_share_percent);
        let salt = bytes_key(self.seed, name.as_bytes());
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
        }))
    }

    fn guard(&mut self, name: &str, rules: &snapshot::Breaker) -> Result<Guard, String> {
        let words = self.block(Kind::Breaker, name, Breaker::WORDS)?;
        let breaker = Breaker::new(words, rules.clone()).on_worker(self.worker_slot);
        Ok(Guard { breaker, rules: FailureRules::new(rules) })
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
            let words =
                self.block(Kind::Endpoint, &format!("{name}/{}", e.address), EndpointState::WORDS)?;
            let state = EndpointState::new(words, self.worker_slot);
            endpoints.push(Endpoint { state, weight: e.weight, address: e.address.clone() });
            ids.push(*known.entry(&e.address).or_insert_with(|| {
                self.next_endpoint += 1;
                self.next_endpoint - 1
            }));
        }
        Ok((endpoints.into(), ids))
    }

    fn listener(
        &mut self,
        new: &mut Compiled,
        name: &str,
        spec: &snapshot::Listener,
    ) -> Result<(), String> {
        // A removed listener's id is not given to another: connections may still know it.
        let id = new.listener_id(name).unwrap_or_else(|| {
            new.listeners.push(None);
            new.listeners.len() as u32 - 1
        });
        let place = format!("listener/{name}");
        let ops = self.ops(new, &place, &spec.layers)?;
        let counts = self.block(Kind::Counters, &place, ListenerStats::WORDS)?;
        let gauges = self.block(Kind::Gauges, &place, ListenerStats::GAUGES)?;
        new.listeners[id as usize] = Some(Arc::new(Listener {
            id,
            name: name.to_owned(),
            ops,
            trusted_hops: spec.trusted_hops,
            body_rate: spec.body_bytes_per_second,
            routing: ListenerId::new(name, spec.match_first),
            stats: ListenerStats::new(counts, gauges, self.worker_slot),
        }));
        Ok(())
    }

    fn route(&mut self, new: &mut Compiled, route: &Route) -> Result<RouteStack, String> {
        let place = format!("route/{}", route.name);
        let target = target(new, &route.action)?;
        let own_guard = match (route.layers.iter().find_map(breaker_rules), &target) {
            (Some(rules), Target::Forward { upstream, .. }) => {
                Some(self.guard(&format!("{}/{}", upstream.name, route.name), rules)?)
            }
            (Some(_), _) => return Err("a circuit_breaker needs an upstream".to_owned()),
            (None, _) => None,
        };
        let ops = self.ops(new, &place, &route.layers)?;
        let mut request_ops = header_ops(&route.request_headers)?;
        let matched = route.headers.iter().map(|field| field.name.as_bytes());
        matched.chain(ops.iter().filter_map(Op::key)).for_each(|name| request_ops.guard(name));
        let counts = self.block(Kind::Counters, &place, RouteStats::WORDS)?;
        let latency = self.block(Kind::Histogram, &place, Histogram::WORDS)?;
        Ok(RouteStack {
            name: route.name.clone(),
            ops,
            own_guard,
            target,
            timeout_ns: route.timeout_ns,
            idle_ns: route.idle_ns,
            retry: route.retry.clone(),
            body_rate: route.body_bytes_per_second,
            connect: route.upgrade.iter().any(|p| p == CONNECT),
            upgrade: route.upgrade.iter().filter(|p| *p != CONNECT).cloned().collect(),
            request_ops,
            response_ops: header_ops(&route.response_headers)?,
            stats: RouteStats::new(
                counts,
                self.worker_slot,
                Histogram::new(latency, self.worker_slot),
            ),
        })
    }

    fn ops(
        &mut self,
        new: &mut Compiled,
        place: &str,
        layers: &[Layer],
    ) -> Result<Vec<Op>, String> {
        let mut ops = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let name = format!("{place}/{i}");
            ops.push(match layer {
                Layer::ClientLimit { rate, clients } => {
                    Op::Client(self.table(&name, *rate, *clients)?)
                }
                Layer::Limit { rate, key: Some(key), clients } => {
                    Op::Keyed(self.table(&name, *rate, *clients)?, key.clone())
                }
                Layer::Limit { rate, key: None, .. } => {
                    let words = self.block(Kind::Bucket, &name, 1)?;
                    Op::Bucket(Arc::new(TokenBucket::new(words, quota(*rate)?)))
                }
                Layer::InFlight { max } => {
                    let words = self.block(Kind::Upstream, &name, InFlight::WORDS)?;
                    Op::InFlight(Arc::new(InFlight::new(words, self.worker_slot, *max)))
                }
                Layer::Python { name } => Op::Python(python_layer(new, name)),
                Layer::CircuitBreaker(_) => continue,
            });
        }
        Ok(ops)
    }

    fn table(
        &mut self,
        name: &str,
        rate: Rate,
        clients: u64,
    ) -> Result<Arc<ClientLimiter>, String> {
        let words = self.block(Kind::ClientTable, name, ClientLimiter::words(clients))?;
        Ok(Arc::new(ClientLimiter::new(words, quota(rate)?, self.seed)))
    }
}

fn header_ops(ops: &snapshot::FieldOps) -> Result<HeaderOps, String> {
    HeaderOps::compile(ops).map_err(|e| e.to_string())
}

fn quota(rate: Rate) -> Result<Quota, String> {
    Quota::new(rate).map_err(|e| e.to_string())
}

fn breaker_rules(layer: &Layer) -> Option<&snapshot::Breaker> {
    match layer {
        Layer::CircuitBreaker(rules) => Some(rules),
        _ => None,
    }
}

/// The number of a Python layer: the same name is the same object.
fn python_layer(new: &mut Compiled, name: &str) -> u32 {
    let at = new.layers.iter().position(|n| n == name).unwrap_or_else(|| {
        let layers = Arc::make_mut(&mut new.layers);
        layers.push(name.to_owned());
        layers.len() - 1
    });
    at as u32
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
        Action::Redirect { status, scheme, host, path } => {
            let to = rewrite::Redirect::new(scheme.as_deref(), host.as_deref(), path.as_deref());
            Target::Redirect { status, to: to.map_err(|e| e.to_string())? }
        }
        Action::Respond { status, body, content_type } => {
            Target::Respond { status, body, content_type }
        }
    })
}
