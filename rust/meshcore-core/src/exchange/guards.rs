//! The fields that decide about a listener's requests: what its limits count by, what its routes
//! match and count by.
//!
//! A gateway interface behind us (CGI, WSGI) reads `x_a` and `x-a` as one variable, so a field that
//! was not looked at here would speak for one that was. A client that sends only the
//! twin is let pass by the route that was found because the field is not there: so it goes by all
//! that a listener's requests may meet, and not by what one of them did.

use std::sync::Arc;

use smallvec::SmallVec;

use super::compiled::{Compiled, CompiledListener, Host, Map};
use super::layer::Op;
use super::stack::RouteStack;
use crate::head::Headers;
use crate::snapshot::Route;

/// The spellings of a name that were asked for.
type Spellings = SmallVec<[Box<[u8]>; 1]>;

/// The names of a listener, by their form with hyphens alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Guards {
    names: Map<Box<[u8]>, Spellings>,
    /// One was asked for with an underscore: names without one may be other spellings.
    underscored: bool,
}

impl Guards {
    fn add(&mut self, name: &[u8]) {
        self.underscored |= name.contains(&b'_');
        let plain = hyphens(name);
        match self.names.get_mut(&*plain) {
            Some(spelt) if spelt.iter().any(|known| **known == *name) => {}
            Some(spelt) => spelt.push(name.into()),
            None => _ = self.names.insert((&*plain).into(), Spellings::from_iter([name.into()])),
        }
    }

    /// Takes other spellings of the names out of a received head. O(fields), and where no name is
    /// guarded nothing.
    pub(super) fn clean(&self, headers: &mut Headers) {
        if !self.names.is_empty() {
            headers.retain(|name, _| !self.is_other_spelling(name));
        }
    }

    /// Whether `name` is another spelling of a guarded one, and none itself.
    fn is_other_spelling(&self, name: &[u8]) -> bool {
        let may_be = self.underscored || memchr::memchr(b'_', name).is_some();
        let spelt = if may_be { self.names.get(&*hyphens(name)) } else { None };
        spelt.is_some_and(|known| !known.iter().any(|spelling| **spelling == *name))
    }

    /// Whether trailers must not say `name`: what the head has decided is not said again behind it
    /// (RFC 9110 §6.5.1).
    pub(super) fn closes(&self, name: &[u8]) -> bool {
        !self.names.is_empty() && self.names.contains_key(&*hyphens(name))
    }
}

fn hyphens(name: &[u8]) -> SmallVec<[u8; 64]> {
    name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect()
}

/// The fields that a route is found by, and that its limits count by.
fn fields_read_by<'a>(route: &'a Route, ops: &'a [Op]) -> impl Iterator<Item = &'a [u8]> {
    let matched = route.headers.iter().map(|field| field.name.as_bytes());
    matched.chain(ops.iter().filter_map(Op::key))
}

impl Host {
    /// Routes, and what they became; fewer if some were refused.
    pub(super) fn new(routes: Vec<Route>, stacks: Vec<Arc<RouteStack>>) -> Self {
        let looks = |(route, stack): (&Route, &Arc<RouteStack>)| {
            fields_read_by(route, &stack.ops).next().is_some()
        };
        let found = routes.iter().zip(&stacks).map(looks).enumerate();
        let watchful = found.filter(|(_, looks)| *looks).map(|(place, _)| place).collect();
        Self { routes, stacks, watchful }
    }
}

impl Compiled {
    /// The guards of every listener, by id. O(hosts + routes that look at fields).
    pub(super) fn find_guards(&self) -> Vec<Guards> {
        let watchful: Vec<_> = self
            .hosts
            .values()
            .flat_map(|host| host.watchful.iter().map(|i| (&host.routes[*i], &host.stacks[*i])))
            .collect();
        let of = |listener: &CompiledListener| {
            let mut guards = Guards::default();
            listener.keys().chain(listener.trust.written()).for_each(|name| guards.add(name));
            for (route, stack) in &watchful {
                if route.listeners.is_empty() || route.listeners.contains(&listener.name) {
                    fields_read_by(route, &stack.ops).for_each(|name| guards.add(name));
                }
            }
            guards
        };
        self.listeners.iter().map(|l| l.as_ref().map_or_else(Guards::default, |l| of(l))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_guarded_and_each_spelling_that_was_asked_for_is_a_name() {
        let mut guards = Guards::default();
        for name in ["x-user-id", "x-a", "x_a", "plain", "x-a", "under_scored_name"] {
            guards.add(name.as_bytes());
        }
        for (name, passes, closes) in [
            ("x-user-id", true, true),
            ("x_user_id", false, true),
            ("x-user_id", false, true),
            ("x-user-ids", true, false),
            ("x_user", true, false),
            ("x-a", true, true),
            ("x_a", true, true),
            ("plain", true, true),
            ("a_b", true, false),
            ("a-b", true, false),
            ("under_scored_name", true, true),
            ("under-scored-name", false, true),
            ("under_scored-name", false, true),
        ] {
            let mut headers = Headers::default();
            headers.push(name.as_bytes(), b"1");
            guards.clean(&mut headers);
            assert_eq!(!headers.is_empty(), passes, "{name}");
            assert_eq!(guards.closes(name.as_bytes()), closes, "{name} in trailers");
        }
    }
}
