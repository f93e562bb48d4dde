//! The routes of one host pattern.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::RequestView;
use super::error::{RouteError, RouteProblem};
use super::fields::{Asked, FieldDraft, Fields};
use super::listeners::{ListenerId, ListenerSet};
use super::paths::{Bucket, Candidate, PathIndex, Pattern};
use super::route::CompiledRoute;
use crate::snapshot::Route;

/// The compiled routes of one host pattern, most specific first, and their payloads.
#[derive(Debug)]
pub(super) struct HostTable<T> {
    pub(super) pattern: Box<str>,
    pub(super) listeners: ListenerSet,
    pub(super) routes: Box<[CompiledRoute]>,
    pub(super) payloads: Box<[T]>,
    paths: PathIndex,
    fields: Fields,
    /// All priorities are equal, so the rank follows the order in which the index is asked.
    tiered: bool,
}

impl<T> HostTable<T> {
    /// Compiles the routes of `pattern`. O(n log n).
    ///
    /// # Errors
    /// One for each route that does not compile.
    pub(super) fn compile<'a>(
        pattern: &str,
        items: impl IntoIterator<Item = (&'a Route, T)>,
    ) -> Result<Self, Vec<RouteError>> {
        let (sources, payloads): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let mut fields = FieldDraft::default();
        let mut drafts = drafts(pattern, &sources, &mut fields)?;
        for (rank, at) in file_order(&drafts).into_iter().enumerate() {
            drafts[at].route.file_rank = rank as u32;
        }
        drafts.sort_by_cached_key(Draft::specificity);
        let tiered = drafts.windows(2).all(|two| two[0].priority == two[1].priority);
        let mut groups: HashMap<Pattern, Vec<Candidate>, FixedState> = HashMap::default();
        let mut payloads: Vec<_> = payloads.into_iter().map(Some).collect();
        let mut routes = Vec::with_capacity(drafts.len());
        let mut sorted = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let candidate = Candidate::new(routes.len() as u32, draft.route.is_plain());
            groups.entry(draft.pattern).or_default().push(candidate);
            routes.push(draft.route);
            sorted.extend(payloads[draft.place].take());
        }
        let of_host = |problem| vec![RouteError { host: pattern.to_owned(), route: None, problem }];
        let paths = PathIndex::build(groups).map_err(of_host)?;
        let fields = fields.compile().map_err(of_host)?;
        Ok(Self {
            pattern: pattern.into(),
            listeners: ListenerSet::union(routes.iter().map(|route| &route.listeners)),
            routes: routes.into(),
            payloads: sorted.into(),
            paths,
            fields,
            tiered,
        })
    }

    /// The number of the route that owns the request.
    #[inline]
    pub(super) fn find(&self, listener: ListenerId, request: &RequestView<'_>) -> Option<usize> {
        let path = request.path;
        let asked = Asked::new(request, &self.fields);
        let mut search = Search { table: self, listener, asked: &asked, best: None };
        let buckets = self.paths.exact(path).into_iter().chain(self.paths.prefixes(path));
        if self.tiered && !listener.match_first() {
            // The order of the index is that of the ranks.
            if let Some(rank) = search.first(buckets) {
                return Some(rank as usize);
            }
        } else {
            buckets.for_each(|bucket| search.look(bucket));
        }
        if search.may_be_better(self.paths.regexes().best()) {
            self.paths.regexes().each(path, |bucket| search.look_on(bucket));
        }
        if let Some(bucket) = self.paths.any() {
            search.look(bucket);
        }
        search.best.map(|(_, rank)| rank as usize)
    }
}

/// The best route so far, as (key, rank): the key is what the listener orders by.
struct Search<'s, 'a, T> {
    table: &'a HostTable<T>,
    listener: ListenerId,
    asked: &'s Asked<'a>,
    best: Option<(u32, u32)>,
}

impl<T> Search<'_, '_, T> {
    /// Takes the best route of `bucket` if it is better than what there is.
    #[inline]
    fn look(&mut self, bucket: Bucket) {
        let first = self.listener.match_first();
        for candidate in self.table.paths.candidates(bucket) {
            let rank = candidate.rank();
            let route = &self.table.routes[rank as usize];
            let key = if first { route.file_rank } else { rank };
            let better = self.best.is_none_or(|(best, _)| key < best);
            if better && (candidate.is_plain() || route.accepts(self.listener, self.asked)) {
                self.best = Some((key, rank));
            }
            // A bucket is in order of rank: what follows is worse.
            if !first && self.best.is_some_and(|(best, _)| best <= rank) {
                return;
            }
        }
    }

    /// The first route of `buckets` that accepts the request.
    #[inline]
    fn first(&self, mut buckets: impl Iterator<Item = Bucket>) -> Option<u32> {
        buckets.find_map(|bucket| bucket.plain().or_else(|| self.accepting(bucket)))
    }

    #[inline(never)]
    fn accepting(&self, bucket: Bucket) -> Option<u32> {
        let mut ranks = self.table.paths.candidates(bucket).map(Candidate::rank);
        let routes = &self.table.routes;
        ranks.find(|rank| routes[*rank as usize].accepts(self.listener, self.asked))
    }

    /// Takes the best route of `bucket` if it is better; goes on if that of another bucket whose best
    /// is worse may be better still.
    fn look_on(&mut self, bucket: Bucket) -> ControlFlow<()> {
        self.look(bucket);
        if self.may_be_better(bucket.best() + 1) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Whether a route of rank `rank` or worse could still win.
    #[inline]
    fn may_be_better(&self, rank: u32) -> bool {
        self.listener.match_first() || self.best.is_none_or(|(best, _)| rank < best)
    }
}

/// A route on its way into the table.
struct Draft {
    route: CompiledRoute,
    pattern: Pattern,
    priority: i32,
    order: u32,
    /// Its place in the list: the last tie-break, and where its payload is.
    place: usize,
}

impl Draft {
    fn specificity(&self) -> impl Ord + use<> {
        let predicates = &self.route.predicates;
        (
            Reverse(self.priority),
            self.pattern.kind(),
            Reverse(self.pattern.prefix_len()),
            Reverse(predicates.fields()),
            !predicates.has_methods(),
            self.order,
            self.place,
        )
    }
}

fn drafts(
    host: &str,
    sources: &[&Route],
    fields: &mut FieldDraft,
) -> Result<Vec<Draft>, Vec<RouteError>> {
    let error = |route: Option<&Route>, problem| RouteError {
        host: host.to_owned(),
        route: route.map(|route| route.name.clone()),
        problem,
    };
    if sources.len() > Candidate::MOST {
        return Err(vec![error(None, RouteProblem::TooManyRoutes)]);
    }
    let mut names = HashSet::with_capacity_and_hasher(sources.len(), FixedState::default());
    let (mut drafts, mut errors) = (Vec::with_capacity(sources.len()), Vec::new());
    for (place, source) in sources.iter().enumerate() {
        if !names.insert(source.name.as_str()) {
            errors.push(error(Some(source), RouteProblem::Twice));
        }
        let compiled = Pattern::compile(&source.path).and_then(|pattern| {
            let route = CompiledRoute::compile(source, &pattern, fields)?;
            let (priority, order) = (source.priority, source.order);
            Ok(Draft { route, pattern, priority, order, place })
        });
        match compiled {
            Ok(draft) => drafts.push(draft),
            Err(problem) => errors.push(error(Some(source), problem)),
        }
    }
    if errors.is_empty() { Ok(drafts) } else { Err(errors) }
}

/// The places of the drafts in Envoy's order.
fn file_order(drafts: &[Draft]) -> Vec<usize> {
    let mut places: Vec<_> = (0..drafts.len()).collect();
    places.sort_by_key(|&at| (Reverse(drafts[at].priority), drafts[at].order, at));
    places
}
