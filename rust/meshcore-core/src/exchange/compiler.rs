//! From the plain snapshot to what requests walk through: what a change touches, and the words of
//! it; [`resources`](super::resources) makes the single resources.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::compiled::{Compiled, Host, Map};
use super::key::Key;
use super::layer::{Inherited, Limiters};
use super::layout::{old_format, word_format};
use super::old_names::{OldNames, Renamed};
use super::stack::RouteStack;
use super::tracing::Tracing;
use crate::routing::RouteTable;
use crate::segment::{Block, BlockKind, Carried, Exported, Segment, SegmentError};
use crate::snapshot::{Delta, Route};
use crate::time::Nanos;

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
pub struct Compiler {
    segment: Segment,
    writes: bool,
    seed: [u64; 2],
    pub(super) worker_slot: usize,
    pub(super) next_endpoint: u32,
    /// Until the first configuration is in force.
    pub(super) inherited: Inherited,
    /// The highest version that was compiled, be it refused or never put in force.
    newest: u64,
    /// Whether the segment had no room for something of the last change.
    full: Cell<bool>,
}

impl Compiler {
    /// The one that writes the registry; `seed` keys the limiters' tables.
    #[must_use]
    pub fn new(segment: Segment, worker_slot: usize, seed: [u64; 2]) -> Self {
        Self {
            segment,
            writes: true,
            seed,
            worker_slot,
            next_endpoint: 0,
            inherited: Inherited::default(),
            newest: 0,
            full: Cell::new(false),
        }
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
        let exported = Exported::read(data)?;
        let is_old = |found: &&Carried| found.format == old_format(found.kind);
        let old = exported.blocks.iter().filter(is_old);
        let names = OldNames::new(old.clone().map(|found| (found.kind, &*found.name)));
        for found in old {
            if let Renamed::Layer(stack, place) = names.rename(found.kind, &found.name) {
                self.inherited.place(stack, place, found.clone());
            }
        }
        let kept = self.segment.import(&exported, |found| {
            if found.format == word_format(found.kind) {
                return Some(found.name.clone());
            }
            match names.rename(found.kind, &found.name) {
                Renamed::Name(name) if is_old(&found) => Some(name),
                _ => None,
            }
        })?;
        Ok(kept + self.inherited.placed())
    }

    /// Whether changes can be applied.
    ///
    /// # Errors
    /// If this was the one that writes the registry, which was handed over.
    pub fn check(&self) -> Result<(), SegmentError> {
        if self.writes { self.segment.check_writer() } else { Ok(()) }
    }

    /// The most bytes of the segment, if the last change was refused since they do not suffice:
    /// what it says of each resource is then one thing.
    #[must_use]
    pub fn full(&self) -> Option<usize> {
        self.full.get().then(|| self.segment.max_bytes())
    }

    /// The key of the limiters' tables.
    #[must_use]
    pub fn seed(&self) -> [u64; 2] {
        self.seed
    }

    /// Applies a change to a configuration and gives the new one; the old one stays as it is.
    ///
    /// Only what the delta names is compiled. O(delta), one copy of the host index and one look
    /// at each block of the segment: what no configuration holds any more makes room. A limiter
    /// whose rate changes goes on from what was taken at `now`.
    ///
    /// # Errors
    /// Everything that is wrong, at once; nothing is changed then.
    pub fn apply(
        &mut self,
        old: &Compiled,
        delta: Delta,
        now: Nanos,
    ) -> Result<Compiled, Vec<ApplyError>> {
        self.make_room(old, delta.config_version);
        self.inherited = match old.version {
            0 if self.writes => std::mem::take(&mut self.inherited).look(&self.segment),
            _ => Inherited::default(),
        };
        let before = Limiters::new(old, now);
        self.full.set(false);
        let mut errors = Vec::new();
        let mut new = Compiled {
            version: delta.config_version,
            seed: self.seed,
            listeners: old.listeners.clone(),
            guards: Vec::new(),
            routes: RouteTable::default(),
            upstreams: old.upstreams.clone(),
            hosts: old.hosts.clone(),
            layers: Arc::clone(&old.layers),
            buffers: old.buffers.clone(),
            tracing: old.tracing,
            counts: Arc::clone(&old.counts),
            program: Arc::clone(&old.program),
            layer_counts: Map::default(),
            clients: Arc::clone(&old.clients),
        };
        if let Some(most) = delta.buffer_total {
            new.buffers.most = most;
        }
        if let Some(spec) = &delta.tracing {
            match Tracing::compile(spec) {
                Ok(tracing) => new.tracing = tracing,
                Err(message) => errors.push(ApplyError { place: "tracing".to_owned(), message }),
            }
        }
        if let Some(counts) = delta.counts {
            match self.counted(&counts.program, None) {
                Ok(counted) => new.program = Arc::new(counted),
                Err(message) => errors.push(ApplyError { place: "counts".to_owned(), message }),
            }
            new.counts = Arc::new(counts);
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
            match self.upstream(&name, spec, (old, &new.counts)) {
                Ok(upstream) => drop(new.upstreams.insert(name, upstream)),
                Err(e) => errors.push(ApplyError { place: format!("upstream {name}"), message: e }),
            }
        }
        for (name, spec) in delta.listeners {
            if let Err(message) = self.listener(&mut new, &before, &name, &spec) {
                errors.push(ApplyError { place: format!("listener {name}"), message });
            }
        }
        let change = HostChange { set: delta.hosts, remove: delta.remove.hosts, upstreams };
        self.hosts((old, &before), &mut new, change, &mut errors);
        match self.layer_counts(&new) {
            Ok(counts) => new.layer_counts = counts,
            Err(message) => errors.push(ApplyError { place: "counts".to_owned(), message }),
        }
        if errors.is_empty() {
            new.guards = new.find_guards();
        }
        if errors.is_empty() { Ok(new) } else { Err(errors) }
    }

    /// Compiles the hosts that are set, and those whose routes lead to a changed upstream.
    fn hosts(
        &mut self,
        (old, before): (&Compiled, &Limiters<'_>),
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
                match RouteStack::compile(self, new, before, route) {
                    Ok(stack) => stacks.push(Arc::new(stack)),
                    Err(message) => {
                        errors.push(ApplyError { place: format!("route {}", route.name), message });
                    }
                }
            }
            compiled.push((host.clone(), routes.iter().cloned().zip(stacks.clone()).collect()));
            new.hosts.insert(host, Arc::new(Host::new(routes, stacks)));
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

    /// The block of a key: made if it is not there, by the one that writes the registry.
    pub(super) fn block(
        &self,
        kind: BlockKind,
        key: Key<'_>,
        words: usize,
    ) -> Result<Block, String> {
        if !self.writes {
            return self.find(kind, key, words);
        }
        let block = self.segment.block(kind, &key.to_string(), words);
        if matches!(block, Err(SegmentError::Full { .. })) {
            self.full.set(true);
        }
        block.map_err(|e| e.to_string())
    }

    /// The block of a key, if it is there.
    pub(super) fn find(
        &self,
        kind: BlockKind,
        key: Key<'_>,
        words: usize,
    ) -> Result<Block, String> {
        self.segment.find(kind, &key.to_string(), words).map_err(|e| e.to_string())
    }

    /// Whether it writes the registry.
    pub(super) fn writes(&self) -> bool {
        self.writes
    }
}
