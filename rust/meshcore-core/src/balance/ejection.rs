//! Ejection of one endpoint: a machine in one word.
//!
//! ```text
//!          failures in a row               time is over: one claims the probe
//!   In ────────────────────────→ Out ───────────────────────────────→ Probing
//!    ↑                            ↑ ←──── failed (longer), neutral (now) ── │ │
//!    └────────────────────────────│──────────── success ────────────────────┘ │ lease over:
//!                                 └                       another claims it ←─┘
//! ```
//! Anything not drawn leaves the word as it is. A zero word is an endpoint that is in.
//!
//! A permit carries the epoch, which changes with every ejection, probe and return, so a result
//! that was on its way across such a change is ignored: the last requests of a bad spell neither
//! eject again an endpoint that came back, nor settle another's probe.
//!
//! The field: Envoy lets all traffic return at once when the time is over; one probe at a time
//! costs one request instead of a burst when the endpoint is still dead.

use crate::snapshot::Ejection;
use crate::time::Nanos;

/// How long a probe is waited for before another may start.
///
/// A worker that dies takes its probe along; twice the default request timeout (15 s) is longer
/// than nearly every probe that is still alive.
pub const PROBE_LEASE: Nanos = Nanos::from_secs(30);

/// How an attempt at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointOutcome {
    /// It answered.
    Ok,
    /// Connect error, reset or timeout.
    Failed,
    /// Says nothing of the endpoint: the client left, or its own deadline ended.
    Neutral,
}

/// The right to send one attempt, to be given back by `settle`.
///
/// A permit that is never settled costs at most one [`PROBE_LEASE`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit is settled"]
pub struct EndpointPermit {
    epoch: u16,
    probe: bool,
}

impl EndpointPermit {
    /// Whether this attempt decides if the endpoint comes back.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing to tell of.
    Same,
    /// The endpoint is out, for the first time or again, until this instant.
    Ejected {
        /// When a probe may go.
        until: Nanos,
    },
    /// The endpoint is back.
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    In,
    Out,
    Probing,
}

/// The word, unpacked: `state:2 | epoch:12 | repeats:4 | failures:8 | at_ms:38`.
///
/// `at_ms` is when an endpoint that is in came back, when one that is out may be probed, or when
/// a probe's lease ends; 38 bits of milliseconds are 8.7 years of uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    state: State,
    epoch: u16,
    repeats: u8,
    failures: u8,
    at_ms: u64,
}

const AT_BITS: u32 = 38;
const AT_MASK: u64 = (1 << AT_BITS) - 1;
const EPOCH_MASK: u16 = (1 << 12) - 1;
/// Beyond this many ejections in a row the time out no longer grows (4 bits).
const MAX_REPEATS: u8 = 15;
const NS_PER_MS: u64 = 1_000_000;

const fn ms_floor(t: Nanos) -> u64 {
    let ms = t.0 / NS_PER_MS;
    if ms < AT_MASK { ms } else { AT_MASK }
}

/// Never before `t`: an endpoint stays out for at least its time.
const fn ms_ceil(t: Nanos) -> u64 {
    let ms = t.0.div_ceil(NS_PER_MS);
    if ms < AT_MASK { ms } else { AT_MASK }
}

impl Word {
    /// How long it stays out; zero once it may be, or is, probed. `None`: it is in.
    #[must_use]
    pub fn out_for(self, now: Nanos) -> Option<Nanos> {
        match self.state {
            State::In => None,
            State::Out => Some(Nanos(self.at_ms * NS_PER_MS) - now),
            State::Probing => Some(Nanos::ZERO),
        }
    }

    /// Unpacks.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        let state = match bits >> 62 {
            0 => State::In,
            1 => State::Out,
            _ => State::Probing,
        };
        Self {
            state,
            epoch: (bits >> 50) as u16 & EPOCH_MASK,
            repeats: (bits >> 46) as u8 & MAX_REPEATS,
            failures: (bits >> AT_BITS) as u8,
            at_ms: bits & AT_MASK,
        }
    }

    /// Packs.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        ((self.state as u64) << 62)
            | ((self.epoch as u64) << 50)
            | ((self.repeats as u64) << 46)
            | ((self.failures as u64) << AT_BITS)
            | self.at_ms
    }

    /// Whether the endpoint is out, probe or not.
    #[must_use]
    #[inline]
    pub const fn is_ejected(self) -> bool {
        !matches!(self.state, State::In)
    }

    /// Whether an attempt may go: the endpoint is in, or due for a probe.
    #[must_use]
    #[inline]
    pub const fn is_available(self, now: Nanos) -> bool {
        matches!(self.state, State::In) || ms_floor(now) >= self.at_ms
    }

    /// Whether one more failure would eject.
    #[must_use]
    #[inline]
    pub fn is_on_the_brink(self, rules: &Ejection) -> bool {
        self.state == State::In && u32::from(self.failures) + 1 >= threshold(rules)
    }

    /// A permit for an attempt that goes whatever the state is (panic): its result counts only
    /// if the endpoint is in.
    #[inline]
    pub const fn permit_anyway(self) -> EndpointPermit {
        EndpointPermit { epoch: self.epoch, probe: false }
    }

    /// Step: asks for a permit, claiming the probe if one is due.
    #[must_use]
    #[inline]
    pub const fn claim(self, now: Nanos) -> (Option<Self>, Option<EndpointPermit>) {
        if matches!(self.state, State::In) {
            return (None, Some(self.permit_anyway()));
        }
        if ms_floor(now) < self.at_ms {
            return (None, None);
        }
        let epoch = next(self.epoch);
        let lease = ms_ceil(Nanos(now.0.saturating_add(PROBE_LEASE.0)));
        let word = Self { state: State::Probing, epoch, at_ms: lease, ..self };
        (Some(word), Some(EndpointPermit { epoch, probe: true }))
    }

    /// Step: an attempt's result. `may_eject` is whether the upstream can spare the endpoint.
    #[must_use]
    pub fn settle(
        self,
        permit: &EndpointPermit,
        outcome: EndpointOutcome,
        now: Nanos,
        rules: &Ejection,
        may_eject: bool,
    ) -> (Option<Self>, Settled) {
        if permit.epoch != self.epoch {
            return (None, Settled::Same);
        }
        match (self.state, permit.probe) {
            (State::In, false) => self.settle_in(outcome, now, rules, may_eject),
            (State::Probing, true) => self.settle_probe(outcome, now, rules),
            _ => (None, Settled::Same),
        }
    }

    fn settle_in(
        self,
        outcome: EndpointOutcome,
        now: Nanos,
        rules: &Ejection,
        may_eject: bool,
    ) -> (Option<Self>, Settled) {
        match outcome {
            EndpointOutcome::Neutral => (None, Settled::Same),
            // The plain path: nothing to forget, nothing written.
            EndpointOutcome::Ok if self.failures == 0 => (None, Settled::Same),
            EndpointOutcome::Ok => (Some(Self { failures: 0, ..self }), Settled::Same),
            EndpointOutcome::Failed if may_eject && self.is_on_the_brink(rules) => {
                self.eject(now, rules)
            }
            EndpointOutcome::Failed => {
                let failures = self.failures.saturating_add(1);
                let word = Self { failures, ..self };
                ((word != self).then_some(word), Settled::Same)
            }
        }
    }

    fn settle_probe(
        self,
        outcome: EndpointOutcome,
        now: Nanos,
        rules: &Ejection,
    ) -> (Option<Self>, Settled) {
        let epoch = next(self.epoch);
        match outcome {
            EndpointOutcome::Failed if rules.failures > 0 => self.eject(now, rules),
            // Undecided: the next attempt is a probe again, at once.
            EndpointOutcome::Neutral => {
                let word = Self { state: State::Out, epoch, at_ms: ms_floor(now), ..self };
                (Some(word), Settled::Same)
            }
            EndpointOutcome::Ok | EndpointOutcome::Failed => {
                let at_ms = ms_floor(now);
                let word = Self { state: State::In, epoch, failures: 0, at_ms, ..self };
                (Some(word), Settled::Returned)
            }
        }
    }

    /// Out for `eject_for` times the ejections in a row (Envoy's rule); every `eject_for` spent in
    /// service forgets one of them.
    fn eject(self, now: Nanos, rules: &Ejection) -> (Option<Self>, Settled) {
        let served = match self.state {
            State::In => Nanos(ms_floor(now).saturating_sub(self.at_ms) * NS_PER_MS),
            State::Out | State::Probing => Nanos::ZERO,
        };
        let forgotten = served.0 / rules.eject_for_ns.max(1);
        let kept = u64::from(self.repeats).saturating_sub(forgotten);
        let repeats = (kept + 1).min(u64::from(MAX_REPEATS)) as u8;
        let longest = rules.max_eject_for_ns.max(rules.eject_for_ns);
        let time = rules.eject_for_ns.saturating_mul(u64::from(repeats)).min(longest);
        let at_ms = ms_ceil(now + Nanos(time));
        let word = Self { state: State::Out, epoch: next(self.epoch), repeats, failures: 0, at_ms };
        (Some(word), Settled::Ejected { until: Nanos(at_ms.saturating_mul(NS_PER_MS)) })
    }
}

/// Failures in a row that eject; zero switches ejection off. The count has 8 bits.
fn threshold(rules: &Ejection) -> u32 {
    match rules.failures {
        0 => u32::MAX,
        n => n.min(255),
    }
}

const fn next(epoch: u16) -> u16 {
    epoch.wrapping_add(1) & EPOCH_MASK
}

#[cfg(test)]
mod tests {
    use super::EndpointOutcome::{Failed, Neutral, Ok};
    use super::*;

    const RULES: Ejection = Ejection {
        failures: 2,
        eject_for_ns: 10_000_000_000,
        max_eject_for_ns: 25_000_000_000,
        max_percent: 50,
    };

    fn at(secs: u64) -> Nanos {
        Nanos::from_secs(secs)
    }

    fn call(word: Word, outcome: EndpointOutcome, now: Nanos) -> (Word, Settled) {
        let (claimed, permit) = word.claim(now);
        let word = claimed.unwrap_or(word);
        let (settled, verdict) = word.settle(&permit.unwrap(), outcome, now, &RULES, true);
        (settled.unwrap_or(word), verdict)
    }

    #[test]
    fn every_bit_pattern_survives_packing() {
        let mut rng = crate::balance::Rng::new(3);
        for _ in 0..1_000 {
            let bits = rng.next_u64();
            let bits = if bits >> 62 == 3 { bits & !(1 << 62) } else { bits };
            assert_eq!(Word::from_bits(bits).bits(), bits);
        }
        assert!(!Word::from_bits(0).is_ejected());
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_starts_again() {
        let word = Word::from_bits(0);
        let (word, _) = call(word, Failed, at(1));
        let (word, _) = call(word, Ok, at(1));
        let (word, _) = call(word, Failed, at(1));
        let (word, _) = call(word, Neutral, at(1));
        assert!(!word.is_ejected());
        let (word, verdict) = call(word, Failed, at(1));
        assert_eq!(verdict, Settled::Ejected { until: at(11) });
        assert!(word.is_ejected() && !word.is_available(Nanos(10_999_999_999)));
        assert!(word.is_available(at(11)));
    }

    #[test]
    fn the_time_out_grows_with_repeats_up_to_its_limit_and_is_forgotten_in_service() {
        let (word, _) = call(Word::from_bits(0), Failed, at(0));
        let (word, first) = call(word, Failed, at(0));
        let (word, second) = call(word, Failed, at(10));
        let (word, third) = call(word, Failed, at(30));
        assert_eq!(first, Settled::Ejected { until: at(10) });
        assert_eq!(second, Settled::Ejected { until: at(30) });
        assert_eq!(third, Settled::Ejected { until: at(55) });
        let (word, back) = call(word, Ok, at(55));
        assert_eq!(back, Settled::Returned);
        let (word, _) = call(word, Failed, at(76));
        let (_, again) = call(word, Failed, at(76));
        // Three repeats less two served spans of 10 s, and this one.
        assert_eq!(again, Settled::Ejected { until: at(96) });
    }

    #[test]
    fn one_probe_at_a_time_until_its_lease_is_over() {
        let (word, _) = call(Word::from_bits(0), Failed, at(0));
        let (word, _) = call(word, Failed, at(0));
        let (probing, probe) = word.claim(at(10));
        let (word, probe) = (probing.unwrap(), probe.unwrap());
        assert!(probe.is_probe());
        assert_eq!(word.claim(at(39)), (None, None));
        let (second, other) = word.claim(at(40));
        assert!(other.unwrap().is_probe());
        // The first probe comes home late: it settles nothing.
        assert_eq!(second.unwrap().settle(&probe, Ok, at(41), &RULES, true).0, None);
    }

    #[test]
    fn a_neutral_probe_leaves_the_next_attempt_a_probe() {
        let (word, _) = call(Word::from_bits(0), Failed, at(0));
        let (word, _) = call(word, Failed, at(0));
        let (word, verdict) = call(word, Neutral, at(10));
        assert_eq!(verdict, Settled::Same);
        assert!(word.is_ejected() && word.claim(at(10)).1.unwrap().is_probe());
    }

    #[test]
    fn late_results_and_panic_results_change_nothing_while_out() {
        let word = Word::from_bits(0);
        let late = word.permit_anyway();
        let (word, _) = call(word, Failed, at(0));
        let (word, _) = call(word, Failed, at(0));
        for outcome in [Ok, Failed, Neutral] {
            assert_eq!(word.settle(&late, outcome, at(1), &RULES, true), (None, Settled::Same));
            let panic = word.permit_anyway();
            assert_eq!(word.settle(&panic, outcome, at(1), &RULES, true), (None, Settled::Same));
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_spared_stays_and_goes_when_it_can() {
        let mut word = Word::from_bits(0);
        for _ in 0..300 {
            let permit = word.permit_anyway();
            word = word.settle(&permit, Failed, at(0), &RULES, false).0.unwrap_or(word);
        }
        assert!(!word.is_ejected() && word.is_on_the_brink(&RULES));
        assert!(call(word, Failed, at(0)).0.is_ejected());
    }

    #[test]
    fn with_ejection_off_nothing_is_ejected_and_a_probe_returns_either_way() {
        let off = Ejection { failures: 0, ..RULES };
        let word = Word::from_bits(0);
        let permit = word.permit_anyway();
        assert!(!word.settle(&permit, Failed, at(0), &off, true).0.unwrap().is_ejected());
        let (word, _) = call(word, Failed, at(0));
        let (word, _) = call(word, Failed, at(0));
        let (word, probe) = word.claim(at(10));
        let (_, verdict) = word.unwrap().settle(&probe.unwrap(), Failed, at(10), &off, true);
        assert_eq!(verdict, Settled::Returned);
    }
}
