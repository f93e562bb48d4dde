//! How programs before this one wrote the names of blocks, read where they are unambiguous.
//!
//! They joined names with a slash, which names may hold themselves, and knew a layer by its place.

use std::collections::HashSet;

use super::key::{Key, Stack};
use crate::segment::BlockKind;

/// What the blocks of an export were called.
#[derive(Debug, Default)]
pub(super) struct OldNames<'a> {
    upstreams: HashSet<&'a str>,
    routes: HashSet<&'a str>,
}

/// What a block with an old name is here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renamed<'a> {
    /// The block of this name.
    Name(String),
    /// The layer at this place of this stack.
    Layer(Stack<'a>, usize),
    /// It could be two things, or is none that is kept.
    Unknown,
}

impl<'a> OldNames<'a> {
    /// From every name of an export.
    pub(super) fn new(all: impl Iterator<Item = (BlockKind, &'a str)>) -> Self {
        let mut names = Self::default();
        for (kind, name) in all {
            match (kind, name.strip_suffix("/balance"), name.strip_prefix("route/")) {
                (BlockKind::Upstream, Some(upstream), _) => drop(names.upstreams.insert(upstream)),
                (BlockKind::Counters, _, Some(route)) => drop(names.routes.insert(route)),
                _ => {}
            }
        }
        names
    }

    /// What a block is called here. O(length of its name).
    pub(super) fn rename(&self, kind: BlockKind, name: &'a str) -> Renamed<'a> {
        match kind {
            BlockKind::Breaker => self.breaker(name),
            BlockKind::Endpoint => self.endpoint(name),
            BlockKind::Counters
            | BlockKind::Gauges
            | BlockKind::Histogram
            | BlockKind::NamedCounters => match stack(name) {
                Some(stack) => Renamed::Name(Key::Stats(stack).to_string()),
                None => Renamed::Unknown,
            },
            // Clients lie elsewhere in their tables now.
            BlockKind::ClientTable => Renamed::Unknown,
            BlockKind::Bucket => match placed(name) {
                Some((stack, place)) => Renamed::Layer(stack, place),
                None => Renamed::Unknown,
            },
            BlockKind::Upstream => match name.strip_suffix("/balance") {
                Some(upstream) => Renamed::Name(Key::Balance(upstream).to_string()),
                // What is in flight is not carried over.
                None => Renamed::Unknown,
            },
        }
    }

    /// `upstream/address`; no address but a path holds a slash.
    fn endpoint(&self, name: &'a str) -> Renamed<'a> {
        let is_one = |address: &str| address.starts_with("unix:") || !address.contains('/');
        let pairs = self.splits(name).filter(|(_, address)| is_one(address));
        only(pairs.map(|(upstream, address)| Key::Endpoint { upstream, address }))
    }

    /// `upstream` or `upstream/route`.
    fn breaker(&self, name: &'a str) -> Renamed<'a> {
        let own = self.upstreams.get(name).map(|upstream| Key::UpstreamBreaker(upstream));
        let pairs = self.splits(name).filter(|(_, route)| self.routes.contains(route));
        only(
            own.into_iter()
                .chain(pairs.map(|(upstream, route)| Key::RouteBreaker { upstream, route })),
        )
    }

    /// Every way in which a name begins with an upstream's.
    fn splits(&self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let slashes = name.match_indices('/');
        slashes
            .map(|(at, _)| (&name[..at], &name[at + 1..]))
            .filter(|(upstream, _)| self.upstreams.contains(upstream))
    }
}

fn stack(name: &str) -> Option<Stack<'_>> {
    let listener = name.strip_prefix("listener/").map(Stack::Listener);
    listener.or_else(|| name.strip_prefix("route/").map(Stack::Route))
}

fn placed(name: &str) -> Option<(Stack<'_>, usize)> {
    let (owner, place) = name.rsplit_once('/')?;
    Some((stack(owner)?, place.parse().ok()?))
}

/// The name of the only key that it can be.
fn only<'a>(mut keys: impl Iterator<Item = Key<'a>>) -> Renamed<'static> {
    match (keys.next(), keys.next()) {
        (Some(key), None) => Renamed::Name(key.to_string()),
        _ => Renamed::Unknown,
    }
}
