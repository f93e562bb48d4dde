//! The router by itself: one route in or out at a time, looked up by plain strings.

use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::error::{RouteError, RouteProblem};
use super::host_table::HostTable;
use super::hosts::HostPattern;
use super::listeners::ListenerId;
use super::table::{RequestView, RouteTable};
use crate::head::{Headers, without_root};
use crate::path::{PathError, PathRules, normalize};
use crate::snapshot::Route;

/// A route in a [`RouteMap`] and what was stored with it.
#[derive(Debug)]
pub struct Stored<T> {
    /// The route as it was given.
    pub route: Arc<Route>,
    /// What was stored with it.
    pub value: T,
}

/// A router that any number of threads read and write; readers never wait.
///
/// A route is known by its host pattern and its name. The routes' `listeners` must be empty:
/// there is no listener here.
#[derive(Debug)]
pub struct RouteMap<T> {
    table: ArcSwap<RouteTable<Arc<Stored<T>>>>,
}

impl<T> Default for RouteMap<T> {
    fn default() -> Self {
        Self { table: ArcSwap::from_pointee(RouteTable::default()) }
    }
}

/// One change of a [`RouteMap`].
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// Adds a route; a route of that name must not be there.
    Insert(Arc<Stored<T>>),
    /// Adds a route in the place of one of that name, if there is one.
    Replace(Arc<Stored<T>>),
    /// Takes the route of that name away; it must be there.
    Remove(String),
}

impl<T> RouteMap<T> {
    /// Adds a route to `host`. O(routes of the host); for many at once use [`Self::apply`].
    ///
    /// # Errors
    /// If it does not compile, or the host has a route of that name.
    pub fn insert(&self, host: &str, route: Route, value: T) -> Result<(), Vec<RouteError>> {
        self.change(host, Change::Insert(Arc::new(Stored { route: route.into(), value })))
    }

    /// Adds a route to `host` in the place of one of the same name, if there is one.
    ///
    /// # Errors
    /// If it does not compile; the old one then stays.
    pub fn replace(&self, host: &str, route: Route, value: T) -> Result<(), Vec<RouteError>> {
        self.change(host, Change::Replace(Arc::new(Stored { route: route.into(), value })))
    }

    /// Takes the route called `name` away from `host`.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove(&self, host: &str, name: &str) -> Result<(), Vec<RouteError>> {
        self.change(host, Change::Remove(name.to_owned()))
    }

    fn change(&self, host: &str, change: Change<T>) -> Result<(), Vec<RouteError>> {
        self.apply(&[(host.to_owned(), vec![change])])
    }

    /// Makes all changes or none, in order, as one step for readers. Each host is compiled once.
    ///
    /// # Errors
    /// One for each change that cannot be made.
    pub fn apply(&self, changes: &[(String, Vec<Change<T>>)]) -> Result<(), Vec<RouteError>> {
        let mut result = Ok(());
        // Lost races run it again, against the winner's table.
        self.table.rcu(|old| match next(old, changes) {
            Ok(new) => {
                result = Ok(());
                Arc::new(new)
            }
            Err(errors) => {
                result = Err(errors);
                old.clone()
            }
        });
        result
    }

    /// The route that owns a request. `target` is the path with its query, as sent; it is
    /// normalised by the strict rules first.
    ///
    /// # Errors
    /// If a proxy would answer 400 to that path.
    pub fn lookup(
        &self,
        host: &str,
        target: &str,
        method: &str,
        headers: &Headers,
    ) -> Result<Option<Arc<Stored<T>>>, PathError> {
        let (raw, query) = match target.split_once('?') {
            Some((raw, query)) => (raw, Some(query.as_bytes())),
            None => (target, None),
        };
        let mut out = Vec::new();
        let found = normalize(raw.as_bytes(), &PathRules::default(), &mut out)?;
        let path = found.path.of(raw.as_bytes(), &out);
        let lower;
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        let (method, host) = (method.as_bytes(), without_root(host.as_bytes()));
        let request = RequestView { method, host, path, query, headers };
        let table = self.table.load();
        let found = table.find_view(ListenerId::new("", false), &request);
        Ok(found.map(|found| found.payload.clone()))
    }

    /// Takes every route away.
    pub fn clear(&self) {
        self.table.store(Arc::default());
    }

    /// The table as it is now; it never changes.
    #[must_use]
    pub fn snapshot(&self) -> Arc<RouteTable<Arc<Stored<T>>>> {
        self.table.load_full()
    }
}

type Table<T> = RouteTable<Arc<Stored<T>>>;

/// `old` with all changes made.
fn next<T>(
    old: &Table<T>,
    changes: &[(String, Vec<Change<T>>)],
) -> Result<Table<T>, Vec<RouteError>> {
    let mut errors = Vec::new();
    let mut hosts = Vec::with_capacity(changes.len());
    for (host, changes) in changes {
        match HostPattern::parse(host) {
            Ok(pattern) => {
                let mut list = HostRoutes::new(old.payloads(&pattern));
                let faults = changes.iter().filter_map(|change| list.make(change).err());
                errors.extend(faults.map(|(name, problem)| RouteError {
                    host: host.clone(),
                    route: Some(name),
                    problem,
                }));
                hosts.push((host.clone(), list.routes));
            }
            Err(why) => {
                let problem = RouteProblem::Host(why);
                errors.push(RouteError { host: host.clone(), route: None, problem });
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let compiled = hosts.into_iter().map(|(host, routes)| {
        let table =
            HostTable::compile(&host, routes.iter().flatten().map(|s| (&*s.route, s.clone())));
        (host, table)
    });
    old.derive(compiled, &[])
}

/// One host's routes while they are changed: taken-away ones leave a hole, so that a thousand
/// changes cost no more than a thousand look-ups.
struct HostRoutes<T> {
    routes: Vec<Option<Arc<Stored<T>>>>,
    places: HashMap<String, usize, FixedState>,
}

impl<T> HostRoutes<T> {
    fn new(routes: &[Arc<Stored<T>>]) -> Self {
        let names = routes.iter().map(|stored| stored.route.name.clone());
        Self {
            places: names.zip(0..).collect(),
            routes: routes.iter().cloned().map(Some).collect(),
        }
    }

    fn make(&mut self, change: &Change<T>) -> Result<(), (String, RouteProblem)> {
        let name = match change {
            Change::Insert(stored) | Change::Replace(stored) => &stored.route.name,
            Change::Remove(name) => name,
        };
        match (change, self.places.get(name).copied()) {
            (Change::Insert(stored) | Change::Replace(stored), None) => {
                self.places.insert(name.clone(), self.routes.len());
                self.routes.push(Some(stored.clone()));
            }
            (Change::Replace(stored), Some(at)) => self.routes[at] = Some(stored.clone()),
            (Change::Remove(_), Some(at)) => {
                self.places.remove(name);
                self.routes[at] = None;
            }
            (Change::Insert(_), Some(_)) => return Err((name.clone(), RouteProblem::Twice)),
            (Change::Remove(_), None) => return Err((name.clone(), RouteProblem::NotThere)),
        }
        Ok(())
    }
}
