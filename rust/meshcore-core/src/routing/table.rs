//! The route table: immutable, cheap to derive the next one from, the only place of the decision.

use std::sync::Arc;

use hashbrown::HashMap;

use super::error::{RouteError, RouteProblem};
use super::host_table::HostTable;
use super::hosts::{HostIndex, HostPattern};
use super::listeners::ListenerId;
use super::route::CompiledRoute;
use crate::head::{Headers, RequestHead};
use crate::snapshot::Route;

/// What routing looks at.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method as sent.
    pub method: &'a [u8],
    /// The host in lower case, without port and without the root's dot.
    pub host: &'a [u8],
    /// The path, in its normal form ([`crate::path`]).
    pub path: &'a [u8],
    /// The query without `?`.
    pub query: Option<&'a [u8]>,
    /// The header fields.
    pub headers: &'a Headers,
}

impl<'a> RequestView<'a> {
    /// The view of a head.
    #[must_use]
    #[inline]
    pub fn new(head: &'a RequestHead) -> Self {
        Self {
            method: head.slice(head.method),
            host: head.slice(head.host),
            path: head.slice(head.path),
            query: head.query.map(|query| head.slice(query)),
            headers: &head.headers,
        }
    }
}

/// Routes by host pattern, each with a payload of the owner's.
///
/// A clone, and a derived table, share every host that did not change.
#[derive(Debug)]
pub struct RouteTable<T> {
    hosts: HostIndex<T>,
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> Self {
        Self { hosts: self.hosts.clone() }
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { hosts: HostIndex::default() }
    }
}

/// The route that owns a request.
#[derive(Debug)]
pub struct Found<'a, T> {
    /// What the owner stored with the route.
    pub payload: &'a T,
    /// The route.
    pub route: &'a CompiledRoute,
    /// The host pattern that it belongs to, as it was written.
    pub host: &'a str,
}

impl<T> RouteTable<T> {
    /// A table in which the hosts of `set` have these routes (none: the host goes away) and those
    /// of `remove`, if they are there, are gone. Every other host is shared with `self`.
    ///
    /// O(n log n) in the routes of the changed hosts; of the others only a 256th part of the
    /// pointers is copied for each change.
    ///
    /// # Errors
    /// One for each route or host that does not compile, all at once; `self` stays good.
    pub fn with_hosts(
        &self,
        set: impl IntoIterator<Item = (String, Vec<(Route, T)>)>,
        remove: &[String],
    ) -> Result<Self, Vec<RouteError>> {
        let set = set.into_iter().map(|(host, items)| {
            let table = {
                let (routes, payloads): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                HostTable::compile(&host, routes.iter().zip(payloads))
            };
            (host, table)
        });
        self.derive(set, remove)
    }

    /// As [`Self::with_hosts`], for tables that are compiled already.
    pub(super) fn derive(
        &self,
        set: impl IntoIterator<Item = (String, Result<HostTable<T>, Vec<RouteError>>)>,
        remove: &[String],
    ) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let mut changes = HashMap::<_, _, foldhash::fast::FixedState>::default();
        // A pattern that does not parse was never set.
        let gone = remove.iter().filter_map(|host| HostPattern::parse(host).ok());
        changes.extend(gone.map(|pattern| (pattern, None)));
        let mut twice = hashbrown::HashSet::<_, foldhash::fast::FixedState>::default();
        for (host, table) in set {
            let mut fault = |problem| {
                errors.push(RouteError { host: host.clone(), route: None, problem });
            };
            match HostPattern::parse(&host) {
                Err(why) => fault(RouteProblem::Host(why)),
                Ok(pattern) if !twice.insert(pattern.clone()) => fault(RouteProblem::Twice),
                Ok(pattern) => match table {
                    Ok(table) => {
                        let table = (!table.routes.is_empty()).then(|| Arc::new(table));
                        changes.insert(pattern, table);
                    }
                    Err(more) => errors.extend(more),
                },
            }
        }
        if errors.is_empty() { Ok(Self { hosts: self.hosts.with(changes) }) } else { Err(errors) }
    }

    /// The route that owns a request which arrived at `listener`. Takes tens of nanoseconds.
    #[must_use]
    #[inline]
    pub fn find(&self, listener: ListenerId, head: &RequestHead) -> Option<Found<'_, T>> {
        self.find_view(listener, &RequestView::new(head))
    }

    /// [`Self::find`] for a request that is no [`RequestHead`].
    #[must_use]
    pub fn find_view(
        &self,
        listener: ListenerId,
        request: &RequestView<'_>,
    ) -> Option<Found<'_, T>> {
        let table = self.hosts.find(request.host, |table| table.listeners.contains(listener))?;
        let number = table.find(listener, request)?;
        Some(Found {
            payload: &table.payloads[number],
            route: &table.routes[number],
            host: &table.pattern,
        })
    }

    /// How many host patterns there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Every route with its host pattern and payload: hosts in no order, the routes of a host
    /// most specific first. O(routes).
    pub fn iter(&self) -> impl Iterator<Item = Found<'_, T>> {
        self.hosts.tables().flat_map(|table| {
            table.routes.iter().zip(&table.payloads).map(|(route, payload)| Found {
                payload,
                route,
                host: &table.pattern,
            })
        })
    }

    /// The payloads of one host pattern, most specific route first.
    pub(super) fn payloads(&self, pattern: &HostPattern) -> &[T] {
        self.hosts.get(pattern).map_or(&[], |table| &table.payloads)
    }
}
