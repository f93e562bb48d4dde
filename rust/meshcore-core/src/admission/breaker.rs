//! A circuit breaker: stops asking a service that does not answer, and finds out when it does.
//!
//! The transitions are in [`super::breaker_word`], the counting in [`super::window`]; here both
//! are joined on one block. A closed breaker is entered by one load, and a success writes one
//! counter of the worker's own stripe (nothing at all without a failure rate).

use crate::segment::{Block, Line, WORDS_PER_LINE};
use crate::snapshot;
use crate::sync::{AtomicU64, Ordering, update};
use crate::time::Nanos;

use super::breaker_endpoints::{Endpoints, Weight};
use super::breaker_word::{
    BreakerPermit, BreakerState, Outcome, Request, Rules, Settled, Word, closed_permit,
    has_failures,
};
use super::rate::Rate;
use super::window::LINES;

/// Refused by a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Time until a probe may pass; one second while probes are under way.
    pub retry_after: Nanos,
}

/// How a breaker stands, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// In which state.
    pub state: BreakerState,
    /// How long it stays open; zero if it is not.
    pub left: Nanos,
    /// Failures in a row of a closed one.
    pub failures_in_row: u64,
    /// Calls in the window, since it last closed.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// A circuit breaker, shared by all who hold its block. All calls are lock-free and O(1).
///
/// It opens after `failures` in a row, or when `failure_percent` of at least `min_calls` failed
/// within `window_ns`; zero switches either rule off. Failures that name endpoints
/// ([`Breaker::settle_named`]) must name several, too. It stays open for `open_for_ns`, twice as
/// long after each failed probe up to `max_open_for_ns`, less up to a tenth by chance. Then at
/// most `probes` requests at one time find out: `successes` of them close it, one failure opens
/// it again. `probes`, `successes` count as at most 1,023 and `failures` as at most 1,048,575.
///
/// # Orderings
/// The control word is the whole state and is only changed by [`update`]. Window counts carry
/// the epoch they belong to, so a reader that sees them before or after a transition never takes
/// counts of one epoch for another's: no order between the words is needed.
///
/// The endpoints that a row names stand in the word beside it. A failure writes its bit after it
/// read the control word and before it exchanges it: the first of a row stores its bit and so
/// forgets the names of earlier rows, later ones add theirs. A row's number never comes back, so
/// an exchange that succeeds proves that the row it read is the present one; `AcqRel` there and
/// `Acquire` on the read put the first one's store before every later bit of its row. Nothing
/// stale is left then but the bit of a failure that is being settled right now. A store that
/// comes late may wipe the bits of others, until those endpoints fail again: a lost bit delays
/// the opening and never causes it. With weaker orders a bit of an older row could be added up.
#[derive(Clone, Debug)]
pub struct Breaker {
    block: Block,
    rules: Rules,
    rate: Option<Rate>,
    stripe: usize,
}

impl Breaker {
    /// Words of its block: a control line and the window, 832 bytes.
    pub const WORDS: usize = (1 + LINES) * WORDS_PER_LINE;

    /// A breaker in `block`.
    #[must_use]
    pub fn new(block: Block, rules: snapshot::Breaker) -> Self {
        Self { block, rules: Rules::new(&rules), rate: Rate::new(&rules), stripe: 0 }
    }

    /// The same breaker, counting its successes where worker `slot` does: workers that write
    /// different lines do not wait for each other.
    #[must_use]
    pub const fn on_worker(mut self, slot: usize) -> Self {
        self.stripe = slot;
        self
    }

    /// Whether successes of a closed breaker may be told by a clock that is `late`: it only says in
    /// which slice of the window they count, and a slice is at least ten times that.
    #[must_use]
    pub fn tolerates(&self, late: Nanos) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.tolerates(late))
    }

    /// Asks for leave to make a request.
    ///
    /// # Errors
    /// [`Open`], with the time after which to ask again.
    #[inline]
    pub fn acquire(&self, now: Nanos) -> Result<BreakerPermit, Open> {
        self.acquire_for(Request::Whole, now)
    }

    /// The same for a request of which some may be missing: such requests have one probe for all of
    /// them, beside `probes`, so that slow senders keep no others from finding out.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_for(&self, request: Request, now: Nanos) -> Result<BreakerPermit, Open> {
        match self.acquire_closed() {
            Some(permit) => Ok(permit),
            None => self.acquire_not_closed(request, now),
        }
    }

    /// Whether [`acquire_for`](Self::acquire_for) would refuse now; takes nothing.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn look_for(&self, request: Request, now: Nanos) -> Result<(), Open> {
        if self.acquire_closed().is_some() {
            return Ok(());
        }
        let word = Word::unpack(self.word().load(Ordering::Acquire));
        let (_, verdict) = word.acquire(&self.rules, request, now);
        verdict.map(drop).map_err(|retry_after| Open { retry_after })
    }

    /// The permit of a closed breaker, which needs no time.
    #[must_use]
    #[inline]
    pub fn acquire_closed(&self) -> Option<BreakerPermit> {
        closed_permit(self.word().load(Ordering::Acquire))
    }

    /// Reports what became of a permit. Late results, of an earlier epoch, change nothing.
    ///
    /// A failure counts for row and rate, whatever endpoint it names: the rule for a service that
    /// is one. `rand` is a uniform random word; it shortens an opening by up to a tenth.
    #[inline]
    pub fn settle(&self, permit: BreakerPermit, outcome: Outcome, now: Nanos, rand: u64) {
        self.settle_with(permit, outcome, now, || rand);
    }

    /// The same for whom a random word is dear: most successes need none.
    #[inline]
    pub fn settle_with(
        &self,
        permit: BreakerPermit,
        outcome: Outcome,
        now: Nanos,
        rand: impl FnOnce() -> u64,
    ) {
        if outcome == Outcome::Success && !permit.is_probe() {
            let word = self.word().load(Ordering::Acquire);
            if closed_permit(word) != Some(permit) {
                return;
            }
            if let Some(rate) = &self.rate {
                rate.success(self.window_lines(), self.stripe, now, permit.epoch());
            }
            if !has_failures(word) {
                return;
            }
        }
        if outcome == Outcome::Neutral && !permit.is_probe() {
            return;
        }
        let (weight, rand) = (Weight::RowAndRate, rand());
        let by = Settled { permit, outcome, weight, spread: true, over_rate: false, now, rand };
        self.settle_changing(by, Endpoints::ALL_AS_ONE);
    }

    /// A probe takes long: its place is free for another one. What becomes of it is still to be
    /// settled, by the permit that is returned, and is heard as long as it is of this epoch.
    #[must_use]
    pub fn give_place_back(&self, permit: BreakerPermit, now: Nanos) -> BreakerPermit {
        self.settle(permit, Outcome::Neutral, now, 0);
        permit.without_place()
    }

    /// Reports a failure at one of several endpoints. Late results change nothing; that of a
    /// probe opens the breaker again, whatever its weight and whatever endpoint it names.
    ///
    /// A row opens it only if its failures name at least `failures` different endpoints (two at
    /// least), or each that can be chosen now; the rate only if the failures of the window name
    /// so many (five at least where `failures` is zero), or each. So one endpoint that fails is
    /// never taken for the service, however many requests it holds. Report failures of an ejected
    /// endpoint as [`Outcome::Neutral`]: it takes no part, and nor do they. `rand` as above.
    pub fn settle_named(
        &self,
        permit: BreakerPermit,
        weight: Weight,
        endpoints: Endpoints,
        now: Nanos,
        rand: u64,
    ) {
        let outcome = Outcome::Failure;
        let by = Settled { permit, outcome, weight, spread: false, over_rate: false, now, rand };
        self.settle_changing(by, endpoints);
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn state(&self, now: Nanos) -> BreakerState {
        Word::unpack(self.word().load(Ordering::Acquire)).state(now)
    }

    /// The same, and what led to it. O(1), or a 32nd of the calls that count.
    #[must_use]
    pub fn figures(&self, now: Nanos) -> Figures {
        let word = Word::unpack(self.word().load(Ordering::Acquire));
        let failures_in_row = match word {
            Word::Closed { failures, .. } => failures,
            Word::Open { .. } | Word::HalfOpen { .. } => 0,
        };
        let counts = |rate: &Rate| rate.counts(self.window_lines(), now, word.epoch());
        let counts = self.rate.as_ref().map(counts).unwrap_or_default();
        let (state, left) = (word.state(now), word.time_left(now));
        Figures { state, left, failures_in_row, calls: counts.calls, failures: counts.failures }
    }

    /// The state that was last written: an open breaker whose time is over is half-open when its
    /// first probe passes.
    #[must_use]
    pub fn written_state(&self) -> BreakerState {
        Word::unpack(self.word().load(Ordering::Acquire)).state(Nanos::ZERO)
    }

    /// Whether its time is over and probes pass, or have passed.
    #[must_use]
    pub fn probes(&self) -> bool {
        matches!(Word::unpack(self.word().load(Ordering::Acquire)), Word::HalfOpen { .. })
    }

    /// The permit of a call that a probe's call makes; `None` once the probe counts as lost.
    #[must_use]
    pub fn within(&self, probe: BreakerPermit, now: Nanos) -> Option<BreakerPermit> {
        let word = Word::unpack(self.word().load(Ordering::Acquire));
        word.probes_with(&self.rules, probe, now).then(|| probe.inner())
    }

    /// Closes it by hand; permits given before are forgotten.
    pub fn force_closed(&self) {
        update(self.word(), |old| (Some(Word::unpack(old).closed_by_hand().pack()), ()));
    }

    /// Opens it by hand until `until`; permits given before are forgotten.
    pub fn force_open(&self, until: Nanos) {
        update(self.word(), |old| (Some(Word::unpack(old).open_until(until).pack()), ()));
    }

    #[cold]
    fn acquire_not_closed(&self, request: Request, now: Nanos) -> Result<BreakerPermit, Open> {
        update(self.word(), |old| {
            let (new, verdict) = Word::unpack(old).acquire(&self.rules, request, now);
            (new.map(Word::pack), verdict.map_err(|retry_after| Open { retry_after }))
        })
    }

    #[inline(never)]
    fn settle_changing(&self, by: Settled, endpoints: Endpoints) {
        let over_rate = self.is_over_rate(&by, endpoints);
        update(self.word(), |old| {
            let word = Word::unpack(old);
            let spread = word.row_before(&by).is_some_and(|before| {
                self.rules
                    .is_spread(self.name_in_row(before, endpoints.failed), endpoints.choosable)
            });
            let by = Settled { spread, over_rate, ..by };
            (word.settle(&self.rules, &by).map(Word::pack), ())
        });
    }

    /// Counts a failure in the window: is the rate too high, and is it the service's?
    fn is_over_rate(&self, by: &Settled, endpoints: Endpoints) -> bool {
        let counts = by.outcome == Outcome::Failure && self.acquire_closed() == Some(by.permit);
        let Some(rate) = self.rate.as_ref().filter(|_| counts) else { return false };
        let lines = self.window_lines();
        rate.failure(lines, endpoints.failed, by.now, by.permit.epoch())
            .is_some_and(|names| self.rules.is_spread(names, endpoints.choosable))
    }

    /// Notes whom the next failure of a row names; all whom it names now. `before`: how many
    /// failures it had when the control word was read.
    fn name_in_row(&self, before: u64, bit: u64) -> u64 {
        let names = self.block.word(1);
        if before == 0 {
            names.store(bit, Ordering::Relaxed);
            bit
        } else {
            names.fetch_or(bit, Ordering::Relaxed) | bit
        }
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        self.block.word(0)
    }

    #[inline]
    fn window_lines(&self) -> &[Line] {
        &self.block.lines()[1..]
    }
}

#[cfg(all(test, not(feature = "loom")))]
#[allow(clippy::unwrap_used)] // in helpers, where clippy does not see the test
mod tests {
    use super::*;

    fn rules() -> snapshot::Breaker {
        snapshot::Breaker { failure_percent: 0, ..snapshot::Breaker::default() }
    }

    fn breaker(rules: snapshot::Breaker) -> Breaker {
        Breaker::new(Block::private(Breaker::WORDS), rules)
    }

    fn fail(b: &Breaker, times: usize, now: Nanos) {
        for _ in 0..times {
            let permit = b.acquire(now).unwrap();
            b.settle(permit, Outcome::Failure, now, 0);
        }
    }

    const T0: Nanos = Nanos::from_secs(1_000);
    const OPEN_FOR: Nanos = Nanos::from_secs(30);

    #[test]
    fn five_failures_in_a_row_open_it_and_two_probes_close_it() {
        let b = breaker(rules());
        fail(&b, 4, T0);
        assert_eq!(b.state(T0), BreakerState::Closed);
        fail(&b, 1, T0);
        assert_eq!(b.state(T0), BreakerState::Open);
        let refused = b.acquire(T0).unwrap_err().retry_after;
        assert!(refused <= OPEN_FOR && OPEN_FOR - refused < Nanos::from_millis(1));
        let later = T0 + OPEN_FOR;
        assert_eq!(b.state(later), BreakerState::HalfOpen);
        for left in [1, 0] {
            let probe = b.acquire(later).unwrap();
            assert!(probe.is_probe());
            assert_eq!(b.acquire(later).unwrap_err().retry_after, Nanos::from_secs(1));
            b.settle(probe, Outcome::Success, later, 0);
            assert_eq!(b.state(later) == BreakerState::Closed, left == 0);
        }
    }

    #[test]
    fn a_success_breaks_the_row() {
        let b = breaker(rules());
        for _ in 0..10 {
            fail(&b, 4, T0);
            b.settle(b.acquire(T0).unwrap(), Outcome::Success, T0, 0);
        }
        assert_eq!(b.state(T0), BreakerState::Closed);
    }

    #[test]
    fn half_of_twenty_open_it_by_rate() {
        let b = breaker(snapshot::Breaker::default());
        for i in 0..20 {
            assert_eq!(b.state(T0), BreakerState::Closed, "after {i}");
            let outcome = if i % 2 == 0 { Outcome::Success } else { Outcome::Failure };
            b.settle(b.acquire(T0).unwrap(), outcome, T0, 0);
        }
        assert_eq!(b.state(T0), BreakerState::Open);
    }

    #[test]
    fn half_of_the_last_ten_open_it_however_long_they_took() {
        let last_calls = snapshot::Breaker { last_calls: 10, min_calls: 10, ..Default::default() };
        let b = breaker(snapshot::Breaker { failures: 0, ..last_calls });
        let call = |outcome, secs| {
            let now = T0 + Nanos::from_secs(secs);
            b.settle(b.acquire(now).unwrap(), outcome, now, 0);
            b.figures(now)
        };
        (0..20).for_each(|i| assert_eq!(call(Outcome::Success, 100 * i).failures, 0));
        (20..24)
            .for_each(|i| assert_eq!(call(Outcome::Failure, 100 * i).state, BreakerState::Closed));
        let found = call(Outcome::Success, 2_400);
        assert_eq!((found.state, found.calls, found.failures), (BreakerState::Closed, 10, 4));
        let found = call(Outcome::Failure, 2_500);
        assert_eq!((found.state, found.calls, found.failures), (BreakerState::Open, 0, 0));
        assert!(found.left > Nanos::from_secs(29));
    }

    #[test]
    fn figures_are_those_of_the_window() {
        let b = breaker(snapshot::Breaker::default());
        fail(&b, 3, T0);
        let found = b.figures(T0);
        assert_eq!((found.failures_in_row, found.calls, found.failures), (3, 3, 3));
        b.settle(b.acquire(T0).unwrap(), Outcome::Success, T0, 0);
        let found = b.figures(T0);
        assert_eq!((found.failures_in_row, found.calls, found.failures), (0, 4, 3));
        let found = b.figures(T0 + Nanos::from_secs(11));
        assert_eq!((found.calls, found.failures), (0, 0));
    }

    #[test]
    fn each_failed_probe_doubles_the_time_up_to_its_limit() {
        let b = breaker(rules());
        fail(&b, 5, T0);
        let mut now = T0;
        for secs in [30, 60, 120, 240, 300, 300] {
            let open_for = Nanos::from_secs(secs);
            assert_eq!(b.state(now + open_for - Nanos::from_millis(2)), BreakerState::Open);
            now = now + open_for;
            b.settle(b.acquire(now).unwrap(), Outcome::Failure, now, 0);
        }
        let shortest = breaker(rules());
        for _ in 0..5 {
            shortest.settle(shortest.acquire(T0).unwrap(), Outcome::Failure, T0, u64::MAX);
        }
        let left = shortest.acquire(T0).unwrap_err().retry_after;
        assert!(left >= Nanos::from_millis(26_999) && left <= Nanos::from_secs(27), "{left}");
    }

    #[test]
    fn late_results_of_an_earlier_epoch_change_nothing() {
        let b = breaker(rules());
        let late = b.acquire(T0).unwrap();
        fail(&b, 5, T0);
        let later = T0 + OPEN_FOR;
        let probe = b.acquire(later).unwrap();
        b.settle(late, Outcome::Failure, later, 0);
        b.settle(late, Outcome::Success, later, 0);
        assert_eq!(b.state(later), BreakerState::HalfOpen);
        b.settle(probe, Outcome::Success, later, 0);
        b.settle(b.acquire(later).unwrap(), Outcome::Success, later, 0);
        b.settle(late, Outcome::Failure, later, 0);
        fail(&b, 4, later);
        assert_eq!(b.state(later), BreakerState::Closed, "the late failure did not count");
    }

    #[test]
    fn a_neutral_probe_gives_its_place_back() {
        let b = breaker(rules());
        fail(&b, 5, T0);
        let later = T0 + OPEN_FOR;
        for _ in 0..100 {
            let probe = b.acquire(later).unwrap();
            assert!(b.acquire(later).is_err());
            b.settle(probe, Outcome::Neutral, later, 0);
        }
    }

    #[test]
    fn a_lost_probe_is_replaced_after_its_lease_and_still_heard() {
        let b = breaker(rules());
        fail(&b, 5, T0);
        let later = T0 + OPEN_FOR;
        let lost = b.acquire(later).unwrap();
        assert!(b.acquire(later + Nanos::from_secs(29)).is_err());
        let after = later + Nanos::from_secs(33);
        let probe = b.acquire(after).unwrap();
        b.settle(lost, Outcome::Success, after, 0);
        assert!(b.acquire(after).is_err(), "the lost one has no place to give back");
        b.settle(probe, Outcome::Success, after, 0);
        assert_eq!(b.state(after), BreakerState::Closed);
    }

    #[test]
    fn a_lease_is_as_long_as_its_rules_say() {
        for (secs, asked) in [(2, 0), (2, 2), (90, 90), (86_400, 86_400), (86_400, u64::MAX >> 32)]
        {
            let probe_timeout_ns = asked * 1_000_000_000;
            let b = breaker(snapshot::Breaker { probe_timeout_ns, ..rules() });
            fail(&b, 5, T0);
            let later = T0 + OPEN_FOR;
            let _lost = b.acquire(later).unwrap();
            assert!(b.acquire(later + Nanos::from_secs(secs)).is_err(), "{asked}");
            assert!(b.acquire(later + Nanos::from_secs(secs + 3)).is_ok(), "{asked}");
        }
    }

    #[test]
    fn what_a_probe_calls_belongs_to_it() {
        let b = breaker(rules());
        let closed = b.acquire(T0).unwrap();
        assert_eq!(b.within(closed, T0), None);
        fail(&b, 5, T0);
        let later = T0 + OPEN_FOR;
        let probe = b.acquire(later).unwrap();
        let inner = b.within(probe, later).unwrap();
        let innermost = b.within(inner, later).unwrap();
        for permit in [innermost, inner] {
            b.settle(permit, Outcome::Success, later, 0);
            assert!(b.acquire(later).is_err(), "it gave no place back");
        }
        b.settle(probe, Outcome::Success, later, 0);
        assert_eq!(b.state(later), BreakerState::HalfOpen, "one success of two");
        let probe = b.acquire(later).unwrap();
        b.settle(b.within(probe, later).unwrap(), Outcome::Failure, later, 0);
        assert_eq!(b.state(later), BreakerState::Open);
        assert_eq!(b.within(probe, later), None, "its epoch is over");
        let later = later + OPEN_FOR + OPEN_FOR;
        let lost = b.acquire(later).unwrap();
        let after = later + Nanos::from_secs(33);
        assert_eq!(b.within(lost, after), None, "its time is over");
        let _other = b.acquire(after).unwrap();
        assert_eq!(b.within(lost, after), None, "its lap is over");
    }

    #[test]
    fn a_lease_left_for_weeks_is_over() {
        let b = breaker(rules());
        fail(&b, 5, T0);
        let later = T0 + OPEN_FOR;
        let _lost = b.acquire(later).unwrap();
        for days in 1..40 {
            assert!(b.clone_with_word().acquire(later + Nanos::from_secs(days * 86_400)).is_ok());
        }
    }

    #[test]
    fn by_hand_it_opens_and_closes_and_forgets_permits() {
        let b = breaker(rules());
        let permit = b.acquire(T0).unwrap();
        b.force_open(T0 + Nanos::from_secs(5));
        assert_eq!(b.state(T0), BreakerState::Open);
        assert_eq!(b.state(T0 + Nanos::from_secs(5)), BreakerState::HalfOpen);
        b.force_closed();
        b.settle(permit, Outcome::Failure, T0, 0);
        fail(&b, 4, T0);
        assert_eq!(b.state(T0), BreakerState::Closed);
    }

    #[test]
    fn with_both_rules_off_it_never_opens() {
        let b = breaker(snapshot::Breaker { failures: 0, ..rules() });
        fail(&b, 10_000, T0);
        assert_eq!(b.state(T0), BreakerState::Closed);
    }

    impl Breaker {
        fn clone_with_word(&self) -> Self {
            let block = Block::private(Self::WORDS);
            block.word(0).store(self.word().load(Ordering::Relaxed), Ordering::Relaxed);
            Self { block, ..self.clone() }
        }
    }
}
