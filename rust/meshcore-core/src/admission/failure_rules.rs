//! What a failure is, in the eyes of a breaker.
//!
//! By default only what says that the service is not there counts for a row: no connection, a
//! reset, a timeout. Answers that a gateway or an overloaded service gives (502, 503, 504,
//! UNAVAILABLE) count for the rate, and other errors not at all: one broken page is no outage.

use super::breaker_endpoints::Weight;
use crate::snapshot;
use crate::time::Nanos;

/// The first status that can be a failure; there are 200 of them.
const FIRST_STATUS: u16 = 400;
/// Words of bits for statuses 400 to 599.
const STATUS_WORDS: usize = 4;
/// gRPC statuses (statuscodes.md of gRPC).
const CANCELLED: u8 = 1;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNAVAILABLE: u8 = 14;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// No connection was made.
    Connect,
    /// Cut before the response.
    Reset,
    /// No response in time.
    Timeout,
    /// A response, or a client that left before it, after more than [`FailureRules::slow_after`];
    /// only for what would be no failure otherwise.
    Slow,
    /// A response with this status. One that is malformed is as good as 502.
    Status(u16),
    /// A gRPC response with this status.
    Grpc(u8),
}

/// What that says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did its work.
    Success,
    /// It did not.
    Failure(Weight),
    /// Nothing.
    Neutral,
}

/// Tells failures from the rest; [`snapshot::Breaker`] gives the rules.
///
/// Where the configuration names failures (`on`), exactly these count, for row and rate alike;
/// any other answer is a success, and no answer at all says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRules {
    named: Option<Named>,
    /// Zero: no answer is too slow.
    slow_call: Nanos,
}

/// What the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    connect: bool,
    reset: bool,
    timeout: bool,
    slow: bool,
    statuses: [u64; STATUS_WORDS],
    grpc: u32,
}

impl FailureRules {
    /// The rules of a breaker. O(statuses named).
    #[must_use]
    pub fn new(rules: &snapshot::Breaker) -> Self {
        Self { named: rules.on.as_ref().map(Named::new), slow_call: Nanos(rules.slow_call_ns) }
    }

    /// The time after which an answer is [`What::Slow`]; `None` if that counts for nothing.
    #[must_use]
    #[inline]
    pub fn slow_after(&self) -> Option<Nanos> {
        let counts = self.slow_call > Nanos::ZERO && self.named.is_none_or(|named| named.slow);
        counts.then_some(self.slow_call)
    }

    /// What `what` says about the service. O(1), without allocation.
    #[must_use]
    pub fn of(&self, what: What) -> Verdict {
        match &self.named {
            None => self.by_default(what),
            Some(named) if named.has(what) => Verdict::Failure(Weight::RowAndRate),
            Some(_) => match what {
                What::Connect | What::Reset | What::Timeout => Verdict::Neutral,
                What::Slow | What::Status(_) | What::Grpc(_) => Verdict::Success,
            },
        }
    }

    fn by_default(&self, what: What) -> Verdict {
        match what {
            What::Connect | What::Reset | What::Timeout => Verdict::Failure(Weight::RowAndRate),
            What::Slow if self.slow_call > Nanos::ZERO => Verdict::Failure(Weight::RateOnly),
            What::Status(502..=504) | What::Grpc(UNAVAILABLE) => Verdict::Failure(Weight::RateOnly),
            // It works, and asks for less: neither does a breaker help, nor is it well.
            What::Status(429) | What::Grpc(RESOURCE_EXHAUSTED | CANCELLED) => Verdict::Neutral,
            What::Slow | What::Status(_) | What::Grpc(_) => Verdict::Success,
        }
    }
}

impl Named {
    fn new(on: &snapshot::BreakerOn) -> Self {
        let mut statuses = [0; STATUS_WORDS];
        for (word, bit) in on.statuses.iter().filter_map(|&status| place(status)) {
            statuses[word] |= bit;
        }
        let grpc = on.grpc_statuses.iter().fold(0, |all, &status| all | grpc_bit(status));
        let snapshot::BreakerOn { connect, reset, timeout, slow, .. } = *on;
        Self { connect, reset, timeout, slow, statuses, grpc }
    }

    fn has(&self, what: What) -> bool {
        match what {
            What::Connect => self.connect,
            What::Reset => self.reset,
            What::Timeout => self.timeout,
            What::Slow => self.slow,
            What::Status(s) => place(s).is_some_and(|(word, bit)| self.statuses[word] & bit != 0),
            What::Grpc(s) => self.grpc & grpc_bit(s) != 0,
        }
    }
}

/// The word and the bit of a status; `None` for one that is never named.
fn place(status: u16) -> Option<(usize, u64)> {
    let at = usize::from(status.checked_sub(FIRST_STATUS).filter(|&at| at < 200)?);
    Some((at / 64, 1 << (at % 64)))
}

/// The bit of a gRPC status; none for OK and for numbers that are no status.
const fn grpc_bit(status: u8) -> u32 {
    if matches!(status, 1..=16) { 1 << status } else { 0 }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    const ROW: Verdict = Verdict::Failure(Weight::RowAndRate);
    const RATE: Verdict = Verdict::Failure(Weight::RateOnly);

    fn rules(on: Option<snapshot::BreakerOn>, slow_call_ns: u64) -> FailureRules {
        FailureRules::new(&snapshot::Breaker { on, slow_call_ns, ..Default::default() })
    }

    fn on(statuses: &[u16], grpc_statuses: &[u8]) -> snapshot::BreakerOn {
        snapshot::BreakerOn {
            statuses: statuses.to_vec(),
            grpc_statuses: grpc_statuses.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn by_default_a_service_that_is_not_there_counts_for_the_row() {
        for what in [What::Connect, What::Reset, What::Timeout] {
            assert_eq!(rules(None, 0).of(what), ROW, "{what:?}");
        }
    }

    #[test]
    fn by_default_gateway_errors_count_for_the_rate_and_other_statuses_do_not_count() {
        let rules = rules(None, 0);
        for status in 100..=999 {
            let expected = match status {
                502..=504 => RATE,
                429 => Verdict::Neutral,
                _ => Verdict::Success,
            };
            assert_eq!(rules.of(What::Status(status)), expected, "{status}");
        }
        for status in 0..=u8::MAX {
            let expected = match status {
                14 => RATE,
                1 | 8 => Verdict::Neutral,
                _ => Verdict::Success,
            };
            assert_eq!(rules.of(What::Grpc(status)), expected, "{status}");
        }
    }

    #[test]
    fn slow_counts_for_the_rate_where_a_time_is_set() {
        assert_eq!(rules(None, 0).of(What::Slow), Verdict::Success);
        assert_eq!(rules(None, 0).slow_after(), None);
        assert_eq!(rules(None, 5).of(What::Slow), RATE);
        assert_eq!(rules(None, 5).slow_after(), Some(Nanos(5)));
        let named = snapshot::BreakerOn { slow: true, ..on(&[], &[]) };
        assert_eq!(rules(Some(named.clone()), 5).of(What::Slow), ROW);
        assert_eq!(rules(Some(named.clone()), 5).slow_after(), Some(Nanos(5)));
        assert_eq!(rules(Some(named), 0).slow_after(), None);
        assert_eq!(rules(Some(on(&[500], &[])), 5).of(What::Slow), Verdict::Success);
        assert_eq!(rules(Some(on(&[500], &[])), 5).slow_after(), None);
    }

    #[test]
    fn exactly_the_named_statuses_count() {
        let named = [400, 429, 463, 464, 500, 527, 528, 591, 592, 599];
        let rules = rules(Some(on(&named, &[1, 8, 16])), 0);
        for status in 0..=999 {
            let expected = if named.contains(&status) { ROW } else { Verdict::Success };
            assert_eq!(rules.of(What::Status(status)), expected, "{status}");
        }
        for status in 0..=u8::MAX {
            let expected = if [1, 8, 16].contains(&status) { ROW } else { Verdict::Success };
            assert_eq!(rules.of(What::Grpc(status)), expected, "{status}");
        }
    }

    #[test]
    fn what_is_not_named_and_brings_no_answer_says_nothing() {
        let rules_of = |on| rules(Some(on), 0);
        let none = [What::Connect, What::Reset, What::Timeout];
        for what in none {
            assert_eq!(rules_of(on(&[503], &[])).of(what), Verdict::Neutral, "{what:?}");
        }
        let each = [
            snapshot::BreakerOn { connect: true, ..on(&[], &[]) },
            snapshot::BreakerOn { reset: true, ..on(&[], &[]) },
            snapshot::BreakerOn { timeout: true, ..on(&[], &[]) },
        ];
        for (i, named) in each.into_iter().enumerate() {
            let verdicts = none.map(|what| rules_of(named.clone()).of(what));
            let expected = [0, 1, 2].map(|j| if i == j { ROW } else { Verdict::Neutral });
            assert_eq!(verdicts, expected);
        }
    }

    #[test]
    fn numbers_that_are_no_status_are_not_named() {
        let rules = rules(Some(on(&[0, 200, 399, 600, u16::MAX], &[0, 17, 32, 255])), 0);
        assert!((0..=u16::MAX).all(|s| rules.of(What::Status(s)) == Verdict::Success));
        assert!((0..=u8::MAX).all(|s| rules.of(What::Grpc(s)) == Verdict::Success));
    }
}
