//! What all workers know of one endpoint.

use crate::segment::Block;
use crate::snapshot::Ejection;
use crate::sync::{Ordering, update};
use crate::time::Nanos;

use super::ejection::{EndpointOutcome, EndpointPermit, Settled, Word};

/// The shared words: the ejection machine, then flags that control sets.
const EJECTION: usize = 0;
const FLAGS: usize = 1;
const DRAINING: u64 = 1;
/// The word of a worker's column that counts requests in flight.
const IN_FLIGHT: usize = 0;

/// One endpoint's words, seen by one worker.
///
/// # Orderings
/// The in-flight columns and flags are hints to the picker and publish nothing: `Relaxed`. The
/// ejection word goes through [`update`], see there.
#[derive(Clone, Debug)]
pub struct EndpointState {
    block: Block,
    slot: usize,
}

impl EndpointState {
    /// Shared words of an endpoint's block.
    pub const WORDS: usize = 2;

    /// The endpoint behind `block`, as the worker in `worker_slot` writes it.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize) -> Self {
        Self { block, slot: worker_slot }
    }

    /// A request starts; pair with [`leave`](Self::leave).
    #[inline]
    pub fn enter(&self) {
        self.block.column(self.slot, IN_FLIGHT).fetch_add(1, Ordering::Relaxed);
    }

    /// A request has ended.
    #[inline]
    pub fn leave(&self) {
        let before = self.block.column(self.slot, IN_FLIGHT).fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before.cast_signed() > 0, "left more often than entered");
    }

    /// Requests in flight, over all workers. O(workers).
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> u64 {
        let one = |slot| self.block.column(slot, IN_FLIGHT).load(Ordering::Relaxed);
        // A column that control zeroed under a living worker may go below zero for a while.
        (0..self.block.workers()).map(|slot| one(slot).cast_signed().max(0).cast_unsigned()).sum()
    }

    #[inline]
    fn word(&self) -> Word {
        Word::from_bits(self.block.word(EJECTION).load(Ordering::Acquire))
    }

    /// Whether the endpoint takes no new work because it is going away.
    #[must_use]
    #[inline]
    pub fn draining(&self) -> bool {
        self.block.word(FLAGS).load(Ordering::Relaxed) & DRAINING != 0
    }

    /// Starts or ends draining. Control only.
    pub fn set_draining(&self, on: bool) {
        update(self.block.word(FLAGS), |old| {
            let new = if on { old | DRAINING } else { old & !DRAINING };
            ((new != old).then_some(new), ())
        });
    }

    /// Whether the endpoint is ejected, due for a probe or not.
    #[must_use]
    #[inline]
    pub fn is_ejected(&self) -> bool {
        self.word().is_ejected()
    }

    /// How long an ejected one stays out; zero once it may be, or is, probed. `None`: it is in.
    #[must_use]
    pub fn out_for(&self, now: Nanos) -> Option<Nanos> {
        self.word().out_for(now)
    }

    /// Whether an attempt may go: not draining, and in or due for a probe. Only loads.
    #[must_use]
    #[inline]
    pub fn available(&self, now: Nanos) -> bool {
        self.is_admitted(now, true) && !self.draining()
    }

    /// Whether ejection lets an attempt go, be it (with `probes`) as the probe.
    #[inline]
    pub(super) fn is_admitted(&self, now: Nanos, probes: bool) -> bool {
        let word = self.word();
        !word.is_ejected() || (probes && word.is_available(now))
    }

    /// A permit for one attempt; claims the one probe when the time out is over.
    ///
    /// Only loads while the endpoint is in. `None` while it is out or another's probe is under
    /// way. Draining is the picker's business.
    #[inline]
    pub fn try_claim(&self, now: Nanos) -> Option<EndpointPermit> {
        update(self.block.word(EJECTION), |old| {
            let (new, permit) = Word::from_bits(old).claim(now);
            (new.map(Word::bits), permit)
        })
    }

    /// A permit whatever the state is: for panic, when too few endpoints are left to be choosy.
    #[inline]
    pub fn claim_anyway(&self, now: Nanos) -> EndpointPermit {
        self.try_claim(now).unwrap_or_else(|| self.word().permit_anyway())
    }

    /// Whether one more failure would eject: then `settle` wants to know if it may.
    #[must_use]
    pub fn is_on_the_brink(&self, rules: &Ejection) -> bool {
        self.word().is_on_the_brink(rules)
    }

    /// Settles an attempt. A success of an endpoint without failures only loads.
    ///
    /// `may_eject` is whether the upstream can spare this endpoint; `rules.failures` zero means
    /// that ejection is off.
    #[inline]
    pub fn settle(
        &self,
        permit: EndpointPermit,
        outcome: EndpointOutcome,
        now: Nanos,
        rules: &Ejection,
        may_eject: bool,
    ) -> Settled {
        update(self.block.word(EJECTION), |old| {
            let word = Word::from_bits(old);
            let (new, verdict) = word.settle(&permit, outcome, now, rules, may_eject);
            (new.map(Word::bits), verdict)
        })
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn in_flight_goes_up_and_comes_down() {
        let block = Block::private(EndpointState::WORDS);
        let (a, b) = (EndpointState::new(block.clone(), 0), EndpointState::new(block, 1));
        a.enter();
        b.enter();
        assert_eq!(a.in_flight(), 2);
        a.leave();
        b.leave();
        assert_eq!(b.in_flight(), 0);
    }

    #[test]
    fn draining_makes_unavailable_and_leaves_ejection_alone() {
        let state = EndpointState::new(Block::private(EndpointState::WORDS), 0);
        assert!(state.available(Nanos::ZERO));
        state.set_draining(true);
        assert!(state.draining() && !state.available(Nanos::ZERO) && !state.is_ejected());
        state.set_draining(false);
        assert!(state.available(Nanos::ZERO));
    }
}
