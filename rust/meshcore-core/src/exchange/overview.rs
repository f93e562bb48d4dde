//! How breakers and endpoints stand, for people; and breakers opened and closed by hand.
//!
//! The words are those of all workers, so a holder of a configuration sees and changes them for
//! all.

use super::compiled::Compiled;
use crate::admission::{Breaker, BreakerState, Figures};
use crate::time::Nanos;

/// A breaker, by the upstream that it guards; and by the route, if it is a route's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// The upstream.
    pub upstream: String,
    /// The route whose breaker it is; none for the upstream's own.
    pub route: Option<String>,
    /// How it stands.
    pub figures: Figures,
}

/// An endpoint that gets no requests now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EjectedView {
    /// Its upstream.
    pub upstream: String,
    /// Its address.
    pub endpoint: String,
    /// Until it is probed; zero once it may be, or is.
    pub left: Nanos,
}

/// Which breaker is meant.
#[derive(Clone, Copy, Debug)]
pub enum BreakerOf<'a> {
    /// An upstream's own.
    Upstream(&'a str),
    /// That of a route.
    Route(&'a str),
}

impl Compiled {
    /// The breakers, at most `most`, and how many there are: first those that are not closed, then
    /// those with failures, by name. O(breakers).
    #[must_use]
    pub fn breakers(&self, now: Nanos, most: usize) -> (Vec<BreakerView>, usize) {
        let of_upstreams = self.upstreams().filter_map(|upstream| {
            Some((upstream.name.as_str(), None, upstream.breaker()?.figures(now)))
        });
        let of_routes = self.routes().filter_map(|route| {
            let guard = route.own_guard.as_ref()?;
            let upstream = route.upstream()?.name.as_str();
            Some((upstream, Some(&*route.name), guard.breaker.figures(now)))
        });
        let mut all: Vec<_> = of_upstreams.chain(of_routes).collect();
        let rank = |figures: &Figures| {
            (figures.state == BreakerState::Closed, figures.failures_in_row + figures.failures == 0)
        };
        all.sort_by_key(|&(upstream, route, ref figures)| (rank(figures), upstream, route));
        // A route may stand under several hosts; its breaker is the same.
        all.dedup_by_key(|&mut (upstream, route, _)| (upstream, route));
        let count = all.len();
        let view = |(upstream, route, figures): (&str, Option<&str>, Figures)| BreakerView {
            upstream: upstream.to_owned(),
            route: route.map(str::to_owned),
            figures,
        };
        (all.into_iter().take(most).map(view).collect(), count)
    }

    /// The endpoints that are ejected, at most `most`, and how many there are. O(endpoints).
    #[must_use]
    pub fn ejected(&self, now: Nanos, most: usize) -> (Vec<EjectedView>, usize) {
        let mut all: Vec<_> = self
            .upstreams()
            .flat_map(|upstream| upstream.endpoints().map(move |(_, one)| (upstream, one)))
            .filter_map(|(upstream, one)| Some((upstream, one, one.state.out_for(now)?)))
            .collect();
        all.sort_by_key(|(upstream, one, _)| (&upstream.name, &one.address));
        let count = all.len();
        let view = |(upstream, one, left)| {
            let (upstream, one): (&std::sync::Arc<super::Upstream>, &crate::balance::Endpoint) =
                (upstream, one);
            EjectedView { upstream: upstream.name.clone(), endpoint: one.address.clone(), left }
        };
        (all.into_iter().take(most).map(view).collect(), count)
    }

    /// A breaker, if there is one. O(routes).
    #[must_use]
    pub fn breaker(&self, of: BreakerOf<'_>) -> Option<&Breaker> {
        match of {
            BreakerOf::Upstream(name) => self.upstreams().find(|u| u.name == name)?.breaker(),
            BreakerOf::Route(name) => {
                let route = self.routes().find(|route| &*route.name == name)?;
                route.own_guard.as_ref().map(|guard| &guard.breaker)
            }
        }
    }
}
