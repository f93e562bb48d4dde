//! One compiled route.

use super::error::RouteProblem;
use super::fields::{Asked, FieldDraft};
use super::listeners::{ListenerId, ListenerSet};
use super::paths::Pattern;
use super::predicates::Predicates;
use crate::snapshot::Route;

/// Which part of the path a route matched: what a path rewrite replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// How many bytes at the start of the path as matched (repeated slashes merged).
    Prefix(u32),
    /// All of it.
    Whole,
}

/// A route inside a [`super::RouteTable`].
#[derive(Debug)]
pub struct CompiledRoute {
    name: Box<str>,
    matched: Matched,
    /// Its place in Envoy's order: priority, then file order.
    pub(super) file_rank: u32,
    pub(super) listeners: ListenerSet,
    pub(super) predicates: Predicates,
}

impl CompiledRoute {
    /// `host`: the fields of its host.
    pub(super) fn compile(
        route: &Route,
        pattern: &Pattern,
        host: &mut FieldDraft,
    ) -> Result<Self, RouteProblem> {
        Ok(Self {
            name: route.name.as_str().into(),
            matched: match pattern {
                Pattern::Prefix(text) => Matched::Prefix(text.len() as u32),
                Pattern::Any => Matched::Prefix(0),
                Pattern::Exact(_) | Pattern::Regex(_) => Matched::Whole,
            },
            file_rank: 0,
            listeners: ListenerSet::new(&route.listeners),
            predicates: Predicates::compile(route, host)?,
        })
    }

    /// The route's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which part of the path it matches.
    #[must_use]
    pub fn matched(&self) -> Matched {
        self.matched
    }

    /// Whether host and path decide alone.
    pub(super) fn is_plain(&self) -> bool {
        self.listeners.is_all() && self.predicates.is_empty()
    }

    #[inline]
    pub(super) fn accepts(&self, listener: ListenerId, asked: &Asked<'_>) -> bool {
        self.listeners.contains(listener) && self.predicates.hold(asked)
    }
}
