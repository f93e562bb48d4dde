//! Native layers: one file for each, which compiles, admits and releases it.
//!
//! [`Op`] is a compiled layer. The [walk](super::walk) asks each in the order in which they are
//! written; what a layer charged or entered is noted in the ticket by its [`Place`], and released
//! from there.

mod allow;
mod circuit_breaker;
mod client_limit;
mod in_flight;
mod limit;
mod limiter;

pub(super) use allow::{Allow, Evaluated};
pub use circuit_breaker::Guard;
pub(super) use circuit_breaker::OF_ROUTE;
pub(super) use limiter::{Inherited, Limiters};

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::answer::Answer;
use super::compiler::Compiler;
use super::key::{Key, LayerKey, Stack};
use super::ticket::{RequestTicket, Stage, Verdict};
use super::walk::Walk;
use crate::admission::Charge;
use crate::error::Reason;
use crate::snapshot::{self, Layer};
use client_limit::ClientLimit;
use in_flight::Cap;
use limit::Limit;

/// One compiled layer.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A bucket for each client.
    ClientLimit(ClientLimit),
    /// One bucket, or one for each value of a key.
    Limit(Limit),
    /// A cap on requests in flight.
    InFlight(Arc<Cap>),
    /// What may pass.
    Allow(Arc<Allow>),
    /// The breaker of a route at its upstream.
    CircuitBreaker(Arc<Guard>),
    /// A Python layer: pause, and say which.
    Python(Arc<u32>),
}

/// Where a layer stands: on the route or the listener, and its place in that list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) of_route: bool,
    pub(super) op: u16,
}

impl Op {
    /// Lets the request pass, or says what is to be done instead. For [`Verdict::Await`] the layer
    /// is asked again.
    #[inline]
    pub(super) fn admit(
        &self,
        walk: &Walk<'_>,
        ticket: &mut RequestTicket,
        place: Place,
    ) -> Option<Verdict> {
        match self {
            Self::ClientLimit(limit) => limit.admit(walk, ticket, place),
            Self::Limit(limit) => limit.admit(walk, ticket, place),
            Self::InFlight(cap) => in_flight::admit(cap, walk, ticket, place),
            Self::Allow(allow) => allow.admit(walk, ticket, place),
            Self::CircuitBreaker(guard) => circuit_breaker::look(guard, walk, ticket),
            Self::Python(layer) => Some(Verdict::Pause(**layer)),
        }
    }

    /// Which of those that count it is, in the words of the log, if that answer is its own.
    fn label(&self, answer: &Answer) -> Option<&str> {
        let limited = answer.reason == Reason::RateLimited;
        match self {
            Self::ClientLimit(limit) if limited => Some(&limit.0.label),
            Self::Limit(limit) if limited => Some(limit.label()),
            Self::InFlight(cap) if answer.detail == in_flight::DETAIL => Some(&cap.label),
            _ => None,
        }
    }

    /// Gives a charge back: a later limiter refused the request.
    pub(super) fn give_back(&self, charge: Option<Charge>) {
        match self {
            Self::ClientLimit(limit) => limit.give_back(charge),
            Self::Limit(limit) => limit.give_back(charge),
            _ => {}
        }
    }

    /// The request is over; what it entered is left.
    pub(super) fn release(&self) {
        if let Self::InFlight(cap) = self {
            cap.leave();
        }
    }

    /// The field that it counts by.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Limit(limit) => limit.key(),
            _ => None,
        }
    }

    /// Its rules, if it is an `allow`.
    pub(super) fn allow(&self) -> Option<&Allow> {
        match self {
            Self::Allow(allow) => Some(allow),
            _ => None,
        }
    }

    /// Its breaker, if it is one.
    pub(super) fn guard(&self) -> Option<&Arc<Guard>> {
        match self {
            Self::CircuitBreaker(guard) => Some(guard),
            _ => None,
        }
    }
}

/// A Python layer that stacks pause for, those of requests under way among them. Its number is its
/// place among all, and another's once none of them is left.
#[derive(Clone, Debug)]
pub(super) struct PythonLayer {
    name: String,
    used: Weak<u32>,
}

impl PythonLayer {
    /// Its name while a stack has it.
    pub(super) fn name(&self) -> Option<&str> {
        (self.used.strong_count() > 0).then_some(&*self.name)
    }

    /// What it is called where it may be shown: behind a blank there are its arguments.
    pub(super) fn called(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

impl RequestTicket {
    /// What the log says of an answer at which the walk has stopped: of a limiter's or a cap's, which
    /// it is. Its layer is the one before the cursor.
    #[must_use]
    pub fn detail_of(&self, answer: &Answer) -> Cow<'static, str> {
        let ops = match self.stage {
            Stage::Listener => self.compiled.listener(self.listener).map(|listener| &listener.ops),
            Stage::RouteLayers => self.route.as_ref().map(|route| &route.ops),
            _ => None,
        };
        let at = usize::from(self.cursor).checked_sub(1);
        let layer = ops.zip(at).and_then(|(ops, at)| ops.get(at));
        match layer.and_then(|layer| layer.label(answer)) {
            Some(label) => Cow::Owned(label.to_owned()),
            None => Cow::Borrowed(answer.detail),
        }
    }
}

/// What layers are compiled with.
pub(super) struct Maker<'a, 'b> {
    pub(super) compiler: &'a Compiler,
    pub(super) stack: Stack<'a>,
    /// Where a route forwards to.
    pub(super) upstream: Option<&'a str>,
    /// The limiters before this change.
    pub(super) before: &'a Limiters<'b>,
    /// The Python layers.
    pub(super) python: &'a mut Arc<Vec<PythonLayer>>,
}

impl Maker<'_, '_> {
    /// The layers of a stack, in the order in which they are written.
    pub(super) fn layers(&mut self, layers: &[Layer]) -> Result<Vec<Op>, String> {
        let mut keys = HashSet::new();
        for key in layers.iter().filter_map(identity) {
            if !keys.insert(key.to_string()) {
                let what = "two layers that share what they count: give them names";
                return Err(format!("{what} ({key})"));
            }
        }
        layers.iter().enumerate().map(|(place, layer)| self.layer(layer, place)).collect()
    }

    fn layer(&mut self, layer: &Layer, place: usize) -> Result<Op, String> {
        let key = identity(layer);
        Ok(match (layer, key) {
            (Layer::ClientLimit { rate, clients, .. }, Some(key)) => {
                Op::ClientLimit(ClientLimit::compile(self, (key, place), *rate, *clients)?)
            }
            (Layer::Limit { rate, clients, key: by, .. }, Some(key)) => {
                Op::Limit(Limit::compile(self, (key, place), *rate, (by.as_ref(), *clients))?)
            }
            (Layer::InFlight { max, .. }, Some(key)) => {
                Op::InFlight(in_flight::compile(self, key, *max)?)
            }
            (Layer::CircuitBreaker(rules), _) => Op::CircuitBreaker(self.route_breaker(rules)?),
            (Layer::Allow { rules, shadow }, _) => Op::Allow(Allow::compile(self, rules, *shadow)?),
            (Layer::Python { name }, _) => Op::Python(self.python_layer(name)),
            (_, None) => return Err("a layer without a key".to_owned()),
        })
    }

    fn route_breaker(&mut self, rules: &snapshot::Breaker) -> Result<Arc<Guard>, String> {
        let (Stack::Route(route), Some(upstream)) = (self.stack, self.upstream) else {
            return Err("a circuit_breaker needs an upstream".to_owned());
        };
        let key = Key::RouteBreaker { upstream, route };
        Ok(Arc::new(Guard::compile(self.compiler, key, rules)?))
    }

    /// The number of a Python layer: the same name is the same object.
    fn python_layer(&mut self, name: &str) -> Arc<u32> {
        let known = self.python.iter().position(|layer| layer.name == name);
        let used = known.and_then(|at| self.python[at].used.upgrade());
        used.unwrap_or_else(|| {
            let free = || self.python.iter().position(|layer| layer.name().is_none());
            let at = known.or_else(free).unwrap_or(self.python.len());
            let number = Arc::new(at as u32);
            let layer = PythonLayer { name: name.to_owned(), used: Arc::downgrade(&number) };
            let layers = Arc::make_mut(self.python);
            match layers.get_mut(at) {
                Some(place) => *place = layer,
                None => layers.push(layer),
            }
            number
        })
    }
}

/// What tells a layer from the others of its list, if it has words of its own there.
fn identity(layer: &Layer) -> Option<LayerKey<'_>> {
    let (name, otherwise) = match layer {
        Layer::ClientLimit { name, .. } => (name, LayerKey::ClientLimit),
        Layer::Limit { name, key: Some(key), .. } => (name, LayerKey::LimitBy(key)),
        Layer::Limit { name, key: None, .. } => (name, LayerKey::Limit),
        Layer::InFlight { name, .. } => (name, LayerKey::InFlight),
        Layer::CircuitBreaker(_) => return Some(LayerKey::CircuitBreaker),
        Layer::Allow { .. } | Layer::Python { .. } => return None,
    };
    Some(name.as_deref().map_or(otherwise, LayerKey::Named))
}
