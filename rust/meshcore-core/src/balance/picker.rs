//! Picks an endpoint of one upstream.

use std::sync::Arc;

use crate::segment::{Block, WORDS_PER_LINE};
use crate::snapshot::{Balance, Ejection};
use crate::sync::AtomicU64;
use crate::time::Nanos;

use super::ejection::{EndpointOutcome, EndpointPermit, Settled};
use super::endpoint::EndpointState;
use super::health::Health;
use super::random::Weighted;
use super::rng::Rng;
use super::round_robin::Turns;
use super::tried::Tried;

/// Draws before the list is scanned. With half of the endpoints out, one of 250 picks scans.
const DRAWS: usize = 8;
/// Claims that may be lost to other workers, each because an endpoint changed its state.
const CLAIMS: usize = 8;
/// Fewer healthy endpoints than this many in a hundred: all are used (Envoy's panic threshold).
const PANIC_PERCENT: u8 = 50;

/// One endpoint of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its shared words.
    pub state: EndpointState,
    /// Its share, at least 1.
    pub weight: u16,
    /// `host:port`, `[v6]:port` or `unix:/path`.
    pub address: String,
}

/// The choice.
#[derive(Debug)]
pub struct Picked {
    /// Which endpoint.
    pub index: usize,
    /// Its permit, to be given to [`Picker::settle`].
    pub permit: EndpointPermit,
    /// Chosen among all because too few are healthy.
    pub panic: bool,
}

/// How endpoints are drawn.
#[derive(Debug)]
enum Draw {
    /// All weights equal.
    Even,
    Weighted(Weighted),
}

#[derive(Debug)]
enum Policy {
    RoundRobin(Turns),
    LeastRequest(Draw),
    Random(Draw),
}

/// Chooses among the endpoints of one upstream; immutable but for two words of its own.
#[derive(Debug)]
pub struct Picker {
    policy: Policy,
    endpoints: Arc<[Endpoint]>,
    panic_percent: u8,
    /// Word 0: the sequence of turns.
    turns: Block,
    /// Word 0: the remembered health; not shared, as its age is a matter of one process.
    health: Block,
}

/// What an endpoint must be to be chosen.
#[derive(Clone, Copy)]
struct Want<'a> {
    now: Nanos,
    tried: Option<&'a Tried>,
    /// For another attempt of a request that has had its turn.
    retry: bool,
    /// Ejected ones too.
    panic: bool,
    /// Those too that are due for a probe.
    probes: bool,
    /// Draining ones too.
    draining: bool,
}

impl Picker {
    /// Words of the block that [`with_sequence`](Self::with_sequence) takes.
    pub const WORDS: usize = 1;

    /// A picker with a sequence of its own. O(n).
    #[must_use]
    pub fn new(kind: Balance, endpoints: Arc<[Endpoint]>) -> Self {
        Self::with_sequence(kind, endpoints, Block::private(Self::WORDS))
    }

    /// A picker that goes on with the sequence in `turns`, so that a reload does not begin again
    /// with the first endpoint, and workers that share it take turns together.
    #[must_use]
    pub fn with_sequence(kind: Balance, endpoints: Arc<[Endpoint]>, turns: Block) -> Self {
        let weights = || endpoints.iter().map(|e| e.weight);
        let draw = || match endpoints.first() {
            Some(first) if endpoints.iter().any(|e| e.weight != first.weight) => {
                Draw::Weighted(Weighted::new(weights()))
            }
            _ => Draw::Even,
        };
        let policy = match kind {
            Balance::RoundRobin => Policy::RoundRobin(Turns::new(weights())),
            Balance::LeastRequest => Policy::LeastRequest(draw()),
            Balance::Random => Policy::Random(draw()),
        };
        let health = Block::private(WORDS_PER_LINE);
        Self { policy, endpoints, panic_percent: PANIC_PERCENT, turns, health }
    }

    /// Sets below which percentage of healthy endpoints all are used; zero for never. Default 50.
    #[must_use]
    pub fn with_panic_percent(mut self, percent: u8) -> Self {
        self.panic_percent = percent.min(100);
        self
    }

    /// The endpoints, by index.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<[Endpoint]> {
        &self.endpoints
    }

    fn sequence(&self) -> &AtomicU64 {
        self.turns.word(0)
    }

    fn health(&self) -> Health<'_> {
        Health {
            remembered: self.health.word(0),
            endpoints: &self.endpoints,
            percent: self.panic_percent,
        }
    }

    /// Whether so few endpoints are healthy that all are used.
    #[must_use]
    pub fn is_panic(&self, now: Nanos) -> bool {
        self.health().is_panic(now)
    }

    /// Chooses an endpoint: neither ejected nor draining nor tried, if there is one.
    ///
    /// Only a first attempt probes an ejected endpoint, whose likely failure a retry makes good.
    /// A retry goes, in this order, to another endpoint, to a probe, to one that was tried (there
    /// may be only one). When all are draining, they are used. `None` if there is no endpoint, or,
    /// with panic off, if all are ejected. O(1) expected, O(n) when most draws fail.
    ///
    /// A retry leaves the sequence of a round robin as it is, so that the next request has its own
    /// turn: with two endpoints of which one refuses, the retries would else take each turn of the
    /// other one, and every request would begin at the one that refuses.
    pub fn pick(&self, now: Nanos, rand: &mut Rng, tried: &Tried) -> Option<Picked> {
        if self.endpoints.is_empty() {
            return None;
        }
        let panic = self.health().is_panic(now);
        let first = tried.is_empty();
        let want =
            Want { now, tried: Some(tried), retry: !first, panic, probes: first, draining: false };
        if let Some(picked) = self.claim(want, rand) {
            return Some(picked);
        }
        let again = if first { None } else { self.pick_again(want, rand) };
        again.or_else(|| self.pick_draining(want, rand))
    }

    /// The endpoint at `index`, if a first attempt could be sent there now. The sequence of a round
    /// robin stays as it is. O(1) while one endpoint is not draining.
    pub fn pick_at(&self, index: usize, now: Nanos) -> Option<Picked> {
        let want = self.first_of_any(now);
        if index >= self.endpoints.len() || !self.is_wanted(want, index) {
            return None;
        }
        let permit = self.permit(want, index)?;
        Some(Picked { index, permit, panic: want.panic })
    }

    /// What a first attempt asks of an endpoint, wherever its turn is.
    fn first_of_any(&self, now: Nanos) -> Want<'_> {
        Want {
            now,
            tried: None,
            retry: false,
            panic: self.health().is_panic(now),
            probes: true,
            // As `pick_draining`: those that go are left alone while one stays.
            draining: self.endpoints.iter().all(|e| e.state.draining()),
        }
    }

    #[cold]
    fn pick_again(&self, want: Want<'_>, rand: &mut Rng) -> Option<Picked> {
        let want = Want { probes: true, ..want };
        self.claim(want, rand).or_else(|| self.claim(Want { tried: None, ..want }, rand))
    }

    /// The last resort. While one endpoint stays, those that go are left alone.
    #[cold]
    fn pick_draining(&self, want: Want<'_>, rand: &mut Rng) -> Option<Picked> {
        if self.endpoints.iter().any(|e| !e.state.draining()) {
            return None;
        }
        let want = Want { draining: true, probes: true, ..want };
        self.claim(want, rand).or_else(|| self.claim(Want { tried: None, ..want }, rand))
    }

    fn claim(&self, want: Want<'_>, rand: &mut Rng) -> Option<Picked> {
        for _ in 0..CLAIMS {
            let index = self.choose(want, rand)?;
            if let Some(permit) = self.permit(want, index) {
                return Some(Picked { index, permit, panic: want.panic });
            }
        }
        None
    }

    /// `None`: another worker took the probe, or ejected it, since it was looked at.
    #[inline]
    fn permit(&self, want: Want<'_>, index: usize) -> Option<EndpointPermit> {
        let state = &self.endpoints[index].state;
        if want.panic { Some(state.claim_anyway(want.now)) } else { state.try_claim(want.now) }
    }

    #[inline]
    fn is_wanted(&self, want: Want<'_>, index: usize) -> bool {
        let state = &self.endpoints[index].state;
        (want.panic || state.is_admitted(want.now, want.probes))
            && (want.draining || !state.draining())
            && want.tried.is_none_or(|t| !t.contains(index))
    }

    fn choose(&self, want: Want<'_>, rand: &mut Rng) -> Option<usize> {
        let found = match &self.policy {
            Policy::RoundRobin(turns) if want.retry => {
                (0..DRAWS).filter_map(|_| turns.draw(rand)).find(|&i| self.is_wanted(want, i))
            }
            Policy::RoundRobin(turns) => turns.next(self.sequence(), |i| self.is_wanted(want, i)),
            Policy::LeastRequest(draw) => self.less_loaded(draw, want, rand),
            Policy::Random(draw) => {
                (0..DRAWS).map(|_| self.draw(draw, rand)).find(|&i| self.is_wanted(want, i))
            }
        };
        found.or_else(|| self.scan(want, rand))
    }

    #[inline]
    fn draw(&self, draw: &Draw, rand: &mut Rng) -> usize {
        match draw {
            Draw::Even => rand.below(self.endpoints.len() as u64) as usize,
            Draw::Weighted(table) => table.draw(rand),
        }
    }

    /// The less loaded of two (Mitzenmacher 2001), each drawn by weight.
    ///
    /// Load is requests in flight ÷ weight. A tie, which is the rule when idle, goes to the first
    /// drawn, so that idle endpoints share by weight; comparing (in flight + 1) ÷ weight would
    /// send everything to the heaviest.
    #[inline]
    fn less_loaded(&self, draw: &Draw, want: Want<'_>, rand: &mut Rng) -> Option<usize> {
        let mut first = None;
        if self.endpoints.len() == 1 {
            return self.is_wanted(want, 0).then_some(0);
        }
        for _ in 0..DRAWS {
            let index = match first {
                None => self.draw(draw, rand),
                Some(first) => self.draw_other(draw, first, rand),
            };
            match first {
                _ if first == Some(index) || !self.is_wanted(want, index) => {}
                None => first = Some(index),
                Some(first) => return Some(self.lighter(first, index)),
            }
        }
        first
    }

    /// A draw that leaves out `first` where that costs nothing.
    #[inline]
    fn draw_other(&self, draw: &Draw, first: usize, rand: &mut Rng) -> usize {
        match draw {
            Draw::Even => {
                let other = rand.below(self.endpoints.len() as u64 - 1) as usize;
                other + usize::from(other >= first)
            }
            Draw::Weighted(table) => table.draw(rand),
        }
    }

    #[inline]
    fn lighter(&self, a: usize, b: usize) -> usize {
        let load = |i: usize| self.endpoints[i].state.in_flight();
        let weight = |i: usize| u64::from(self.endpoints[i].weight.max(1));
        if load(b).saturating_mul(weight(a)) < load(a).saturating_mul(weight(b)) { b } else { a }
    }

    /// Which endpoints a first attempt could choose now, by index modulo 64. O(n).
    ///
    /// Endpoints that share a bit cannot be told apart: the bit is set if one of them can be
    /// chosen. Exact for up to 64 endpoints.
    #[must_use]
    pub fn choosable_bits(&self, now: Nanos) -> u64 {
        let want = self.first_of_any(now);
        let choosable = (0..self.endpoints.len()).filter(|&index| self.is_wanted(want, index));
        choosable.fold(0, |bits, index| bits | 1 << (index % 64))
    }

    /// One pass over all, choosing by weight (reservoir of one). O(n).
    #[cold]
    fn scan(&self, want: Want<'_>, rand: &mut Rng) -> Option<usize> {
        let mut total = 0;
        let mut found = None;
        for index in (0..self.endpoints.len()).filter(|&i| self.is_wanted(want, i)) {
            let weight = u64::from(self.endpoints[index].weight.max(1));
            total += weight;
            if rand.below(total) < weight {
                found = Some(index);
            }
        }
        found
    }

    /// Settles an attempt at endpoint `index`; `rules` is `None` when ejection is off.
    ///
    /// At most `rules.max_percent` of the endpoints are ejected, and never all of them. That is
    /// counted when one is about to be ejected, so workers that eject at the same instant may go
    /// over it by their number less one; panic is there if that happens.
    pub fn settle(
        &self,
        index: usize,
        permit: EndpointPermit,
        outcome: EndpointOutcome,
        now: Nanos,
        rules: Option<&Ejection>,
    ) -> Settled {
        const OFF: Ejection =
            Ejection { failures: 0, eject_for_ns: 0, max_eject_for_ns: 0, max_percent: 0 };
        let rules = rules.unwrap_or(&OFF);
        let state = &self.endpoints[index].state;
        let may_eject = outcome == EndpointOutcome::Failed
            && state.is_on_the_brink(rules)
            && self.can_spare_one(rules);
        let settled = state.settle(permit, outcome, now, rules, may_eject);
        if settled != Settled::Same {
            self.health().forget();
        }
        settled
    }

    fn can_spare_one(&self, rules: &Ejection) -> bool {
        let out = 1 + self.endpoints.iter().filter(|e| e.state.is_ejected()).count();
        let all = self.endpoints.len();
        out < all && out * 100 <= all * usize::from(rules.max_percent)
    }
}
