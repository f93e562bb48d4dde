//! Every transition of a circuit breaker, as pure steps on one word.
//!
//! ```text
//!            failures in a row, or too high a rate                    time is over
//!   Closed ─────────────────────────────────────────▶ Open(level) ─────────────────▶ HalfOpen
//!     ▲                                                 ▲    first caller is a probe    │  │
//!     │                                                 └─ a probe failed: level + 1 ───┘  │
//!     └────────────────────── enough probes succeeded ─────────────────────────────────────┘
//! ```
//! Illegal is whatever is not listed: a result whose permit belongs to an earlier epoch, or to
//! another state than the present, changes nothing.
//!
//! # Layout
//! `state:2 epoch:12 level:5`, then by state: Closed, `row:25 failures:20`, the number of the row
//! and its length; Open, when it ends (45 bits of 2^19 ns: 0.5 ms); HalfOpen, `lap:5 out:10
//! passed:10 unfinished:1 lease:19` (lease in 2^30 ns: 1.07 s). A zero word is a closed breaker.
//!
//! # Rows
//! Each row has a number, so that a word never comes back within an epoch: a thread that exchanges
//! it knows that nothing happened since it was read, and so that the names of its row are no other
//! row's ([`super::breaker`]).
//!
//! # Unfinished requests
//! A client that sends slowly decides how long its probe is out. So a request that is not all
//! there yet takes no place of those that are: there is one place more for all such requests.
//!
//! # Leases
//! A probe whose holder died would keep its place for ever. When all places are taken and none
//! was given for the length of a lease, they count as free: a new *lap* begins. A probe of an earlier
//! lap that still reports is heard (else a service slower than the lease never closed), but it
//! has no place to give back. So is one that gave its place back before it had anything to report.
//!
//! # Calls within a probe
//! What a probe's call calls through the same breaker belongs to the probe, or such a service would
//! never be found well. Its failure is heard as any other; its success is the outer call's to tell.

use super::breaker_endpoints::Weight;
use crate::snapshot;
use crate::time::Nanos;

/// Largest `probes` and `successes`; larger values count as this.
const MAX_PROBES: u64 = (1 << 10) - 1;
/// Largest number of failures in a row; larger values count as this.
const MAX_FAILURES: u64 = (1 << 20) - 1;
/// The back-off doubles at most this often; `max_open_for` is reached long before.
const MAX_LEVEL: u64 = 31;
/// Leases are counted in ticks of a second: a shorter one might be over when it begins. Their number
/// wraps after 6.5 days, of which a day is little enough.
const LEASE_RANGE: (Nanos, Nanos) = (Nanos::from_secs(2), Nanos::from_secs(86_400));
/// When to come back while all probes are out: they end when they end, so: soon.
const PROBE_WAIT: Nanos = Nanos::from_secs(1);

const UNTIL_SHIFT: u32 = 19;
const LEASE_SHIFT: u32 = 30;
const LEASE_MASK: u64 = (1 << 19) - 1;
const UNFINISHED: u64 = 1 << 19;
const EPOCH_MASK: u64 = (1 << 12) - 1;
const LAP_MASK: u64 = (1 << 5) - 1;
const ROW_SHIFT: u32 = 20;
/// Rows count modulo 2^25: hours of a failure and a success in turn, a thousand times a second.
const ROW_MASK: u64 = (1 << 25) - 1;

/// Endpoints that failures must name if no number of failures in a row says how many: as many
/// as the default of that number.
const NAMED_BY_RATE: u64 = 5;

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// None does.
    Open,
    /// Its time is over: single probes pass.
    HalfOpen,
}

/// What became of a request, as far as its breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// It did not; [`FailureRules`](super::FailureRules) say what that is for the proxy.
    Failure,
    /// Says nothing about the service: cancelled, never sent, the client's own deadline.
    Neutral,
}

/// How much of a request is there when it asks for leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// All of it.
    Whole,
    /// Its client still sends it, for as long as it likes.
    Unfinished,
}

/// Leave to make one request; settle it exactly once.
///
/// One word, so that it travels in a register: `inner:1 placeless:1 unfinished:1 probe:1 lap:5
/// epoch:12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPermit(u32);

impl BreakerPermit {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // 12 and 5 bits
    const fn probe(epoch: u64, lap: u64, request: Request) -> Self {
        let unfinished = matches!(request, Request::Unfinished) as u32;
        Self(unfinished << 18 | 1 << 17 | (lap << 12) as u32 | epoch as u32)
    }

    /// Whether this is a probe of a half-open breaker: no other may try meanwhile.
    #[must_use]
    #[inline]
    pub const fn is_probe(self) -> bool {
        self.0 >> 17 & 1 != 0
    }

    const fn is_unfinished(self) -> bool {
        self.0 >> 18 & 1 != 0
    }

    /// Whether it is a probe that keeps another one from its place.
    #[must_use]
    #[inline]
    pub const fn holds_place(self) -> bool {
        self.is_probe() && self.0 >> 19 & 1 == 0
    }

    /// The same, once its place was given back.
    pub(crate) const fn without_place(self) -> Self {
        Self(self.0 | 1 << 19)
    }

    /// The permit of a call within this one's.
    #[must_use]
    pub const fn inner(self) -> Self {
        Self(self.without_place().0 | 1 << 20)
    }

    const fn is_inner(self) -> bool {
        self.0 >> 20 & 1 != 0
    }

    const fn lap(self) -> u64 {
        self.0 as u64 >> 12 & LAP_MASK
    }

    /// The permit as a word, to be kept in an atomic.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The permit of [`BreakerPermit::bits`].
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The epoch in which it was given.
    #[inline]
    pub(crate) const fn epoch(self) -> u64 {
        self.0 as u64 & EPOCH_MASK
    }
}

/// The rules of a breaker, in the units of its word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Failures in a row that open it; zero for none.
    failures: u64,
    successes: u64,
    probes: u64,
    open_for: Nanos,
    max_open_for: Nanos,
    lease: Nanos,
}

impl Rules {
    pub(crate) fn new(rules: &snapshot::Breaker) -> Self {
        let open_for = Nanos(rules.open_for_ns);
        Self {
            failures: u64::from(rules.failures).min(MAX_FAILURES),
            successes: u64::from(rules.successes).clamp(1, MAX_PROBES),
            probes: u64::from(rules.probes).clamp(1, MAX_PROBES),
            open_for,
            max_open_for: open_for.max(Nanos(rules.max_open_for_ns)),
            lease: Nanos(rules.probe_timeout_ns).clamp(LEASE_RANGE.0, LEASE_RANGE.1),
        }
    }

    /// Whether failures that name these endpoints (bits) say something of the service: enough
    /// are named, or each that could be chosen.
    ///
    /// Two at least, for one is never the service as long as there is another.
    pub(crate) fn is_spread(&self, names: u64, choosable: u64) -> bool {
        let needed = if self.failures == 0 { NAMED_BY_RATE } else { self.failures.max(2) };
        u64::from(names.count_ones()) >= needed || names & choosable == choosable
    }

    /// How long to stay open: `open_for` doubled `level` times, at most `max_open_for`, less up to
    /// a tenth, so that many proxies do not probe at the same moment.
    fn open_for(&self, level: u64, rand: u64) -> Nanos {
        let whole = self.open_for.0.saturating_mul(1 << level).min(self.max_open_for.0);
        // The high half of a product: uniform over 0 to a tenth, without a division.
        let less = (u128::from(whole / 10) * u128::from(rand)) >> 64;
        Nanos(whole - u64::try_from(less).unwrap_or(0))
    }
}

/// A result, as it is weighed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) permit: BreakerPermit,
    pub(crate) outcome: Outcome,
    /// Of a failure: what it counts for.
    pub(crate) weight: Weight,
    /// Of a failure: those of its row, itself included, name enough endpoints.
    pub(crate) spread: bool,
    /// The window says that the rate of failures is too high.
    pub(crate) over_rate: bool,
    pub(crate) now: Nanos,
    pub(crate) rand: u64,
}

/// The word, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Closed {
        epoch: u64,
        row: u64,
        failures: u64,
    },
    Open {
        epoch: u64,
        level: u64,
        until: u64,
    },
    HalfOpen {
        epoch: u64,
        level: u64,
        lap: u64,
        out: u64,
        passed: u64,
        unfinished: bool,
        lease: u64,
    },
}

/// The permit that a packed word gives if it is a closed breaker: all that the plain path needs.
#[inline]
pub(crate) const fn closed_permit(word: u64) -> Option<BreakerPermit> {
    #[allow(clippy::cast_possible_truncation)] // 12 bits
    if word >> 62 == 0 { Some(BreakerPermit((word >> 50) as u32)) } else { None }
}

/// Whether a closed breaker has seen failures since the last success.
#[inline]
pub(crate) const fn has_failures(word: u64) -> bool {
    word & MAX_FAILURES != 0
}

impl Word {
    pub(crate) const fn unpack(word: u64) -> Self {
        let (epoch, level) = ((word >> 50) & EPOCH_MASK, (word >> 45) & MAX_LEVEL);
        match word >> 62 {
            0 => {
                let row = (word >> ROW_SHIFT) & ROW_MASK;
                Self::Closed { epoch, row, failures: word & MAX_FAILURES }
            }
            1 => Self::Open { epoch, level, until: word & ((1 << 45) - 1) },
            _ => Self::HalfOpen {
                epoch,
                level,
                lap: (word >> 40) & LAP_MASK,
                out: (word >> 30) & MAX_PROBES,
                passed: (word >> 20) & MAX_PROBES,
                unfinished: word & UNFINISHED != 0,
                lease: word & LEASE_MASK,
            },
        }
    }

    pub(crate) const fn pack(self) -> u64 {
        match self {
            Self::Closed { epoch, row, failures } => epoch << 50 | row << ROW_SHIFT | failures,
            Self::Open { epoch, level, until } => 1 << 62 | epoch << 50 | level << 45 | until,
            Self::HalfOpen { epoch, level, lap, out, passed, unfinished, lease } => {
                let counts = lap << 40 | out << 30 | passed << 20;
                2 << 62 | epoch << 50 | level << 45 | counts | (unfinished as u64) << 19 | lease
            }
        }
    }

    /// May a request pass? The new word, if it changes, and the permit, or when to come back.
    pub(crate) fn acquire(
        self,
        rules: &Rules,
        request: Request,
        now: Nanos,
    ) -> (Option<Self>, Result<BreakerPermit, Nanos>) {
        match self {
            Self::Closed { .. } => (None, closed_permit(self.pack()).ok_or(PROBE_WAIT)),
            Self::Open { until, .. } if self.time_left(now) > Nanos::ZERO => {
                (None, Err(Nanos(until << UNTIL_SHIFT) - now))
            }
            Self::Open { epoch, level, .. } => Self::HalfOpen {
                epoch,
                level,
                lap: 0,
                out: 0,
                passed: 0,
                unfinished: false,
                lease: 0,
            }
            .with_probe(rules, request, now),
            Self::HalfOpen { epoch, level, lap, out, passed, unfinished, lease } => {
                let taken = match request {
                    Request::Whole => out >= rules.probes,
                    Request::Unfinished => unfinished,
                };
                if !taken {
                    return self.with_probe(rules, request, now);
                }
                if !is_over(rules, lease, now) {
                    return (None, Err(PROBE_WAIT));
                }
                let lap = (lap + 1) & LAP_MASK;
                Self::HalfOpen { epoch, level, lap, out: 0, passed, unfinished: false, lease }
                    .with_probe(rules, request, now)
            }
        }
    }

    /// A half-open word with one more probe out, and its permit.
    fn with_probe(
        self,
        rules: &Rules,
        request: Request,
        now: Nanos,
    ) -> (Option<Self>, Result<BreakerPermit, Nanos>) {
        let Self::HalfOpen { epoch, level, lap, out, passed, unfinished, .. } = self else {
            return (None, Err(PROBE_WAIT));
        };
        let (out, unfinished) = match request {
            Request::Whole => (out + 1, unfinished),
            Request::Unfinished => (out, true),
        };
        let lease = lease_end(rules, now);
        let new = Self::HalfOpen { epoch, level, lap, out, passed, unfinished, lease };
        (Some(new), Ok(BreakerPermit::probe(epoch, lap, request)))
    }

    /// How many failures the row has that a result is about to make longer; `None` if it is not.
    pub(crate) fn row_before(self, by: &Settled) -> Option<u64> {
        let counts = by.outcome == Outcome::Failure && by.weight == Weight::RowAndRate;
        match self {
            Self::Closed { epoch, failures, .. } if counts && by.is_of(epoch, false) => {
                Some(failures)
            }
            _ => None,
        }
    }

    /// A result came: the new word, if it changes.
    pub(crate) fn settle(self, rules: &Rules, by: &Settled) -> Option<Self> {
        match self {
            Self::Closed { epoch, row, failures } if by.is_of(epoch, false) => match by.outcome {
                Outcome::Success if failures > 0 => {
                    Some(Self::Closed { epoch, row: (row + 1) & ROW_MASK, failures: 0 })
                }
                Outcome::Success | Outcome::Neutral => None,
                Outcome::Failure if by.over_rate => Some(Self::opened(rules, epoch, 0, by)),
                Outcome::Failure if by.weight == Weight::RateOnly => None,
                Outcome::Failure => {
                    let failures = (failures + 1).min(MAX_FAILURES);
                    if by.spread && rules.failures > 0 && failures >= rules.failures {
                        return Some(Self::opened(rules, epoch, 0, by));
                    }
                    Some(Self::Closed { epoch, row, failures })
                }
            },
            Self::HalfOpen { epoch, level, lap, out, passed, unfinished, lease }
                if by.is_of(epoch, true) =>
            {
                let in_place = lap == by.permit.lap() && by.permit.holds_place();
                let (out, unfinished) = match by.permit.is_unfinished() {
                    _ if !in_place => (out, unfinished),
                    true => (out, false),
                    false => (out.saturating_sub(1), unfinished),
                };
                let passed = match by.outcome {
                    Outcome::Success if by.permit.is_inner() => passed,
                    Outcome::Success if passed + 1 >= rules.successes => {
                        return Some(Self::closed(next(epoch)));
                    }
                    Outcome::Success => passed + 1,
                    Outcome::Neutral => passed,
                    Outcome::Failure => {
                        let level = (level + 1).min(MAX_LEVEL);
                        return Some(Self::opened(rules, epoch, level, by));
                    }
                };
                Some(Self::HalfOpen { epoch, level, lap, out, passed, unfinished, lease })
            }
            _ => None,
        }
    }

    /// Whether this probe is one of the half-open breaker that stands here, and not lost.
    pub(crate) const fn probes_with(
        self,
        rules: &Rules,
        permit: BreakerPermit,
        now: Nanos,
    ) -> bool {
        match self {
            Self::HalfOpen { epoch, lap, lease, .. } => {
                let is_of = permit.epoch() == epoch && permit.lap() == lap;
                permit.is_probe() && is_of && !is_over(rules, lease, now)
            }
            Self::Closed { .. } | Self::Open { .. } => false,
        }
    }

    /// The word after closing by hand.
    pub(crate) const fn closed_by_hand(self) -> Self {
        Self::closed(next(self.epoch()))
    }

    /// The word after opening by hand, until `until`.
    pub(crate) const fn open_until(self, until: Nanos) -> Self {
        Self::Open { epoch: next(self.epoch()), level: 0, until: until.0 >> UNTIL_SHIFT }
    }

    /// How long it stays open; zero if it is not, or if its time is over.
    pub(crate) fn time_left(self, now: Nanos) -> Nanos {
        match self {
            Self::Open { until, .. } if now.0 >> UNTIL_SHIFT < until => {
                Nanos(until << UNTIL_SHIFT) - now
            }
            _ => Nanos::ZERO,
        }
    }

    pub(crate) fn state(self, now: Nanos) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } if self.time_left(now) > Nanos::ZERO => BreakerState::Open,
            Self::Open { .. } | Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    const fn closed(epoch: u64) -> Self {
        Self::Closed { epoch, row: 0, failures: 0 }
    }

    fn opened(rules: &Rules, epoch: u64, level: u64, by: &Settled) -> Self {
        let until = (by.now + rules.open_for(level, by.rand)).0 >> UNTIL_SHIFT;
        let until = until.max((by.now.0 >> UNTIL_SHIFT) + 1);
        Self::Open { epoch: next(epoch), level, until }
    }

    pub(crate) const fn epoch(self) -> u64 {
        let (Self::Closed { epoch, .. } | Self::Open { epoch, .. } | Self::HalfOpen { epoch, .. }) =
            self;
        epoch
    }
}

impl Settled {
    /// Whether the permit was given in this epoch and this state.
    fn is_of(&self, epoch: u64, probe: bool) -> bool {
        self.permit.epoch() == epoch && self.permit.is_probe() == probe
    }
}

const fn next(epoch: u64) -> u64 {
    (epoch + 1) & EPOCH_MASK
}

/// The first lease tick at which a probe given now counts as lost.
const fn lease_end(rules: &Rules, now: Nanos) -> u64 {
    ((now.0.saturating_add(rules.lease.0) >> LEASE_SHIFT) + 1) & LEASE_MASK
}

/// Whether a lease has ended. Its tick wraps after 13 days, but it never lies further ahead than
/// one lease (and a second between two clocks): beyond that it is in the past.
const fn is_over(rules: &Rules, lease: u64, now: Nanos) -> bool {
    let ahead = lease.wrapping_sub(now.0 >> LEASE_SHIFT) & LEASE_MASK;
    ahead == 0 || ahead > (rules.lease.0 >> LEASE_SHIFT) + 3
}
