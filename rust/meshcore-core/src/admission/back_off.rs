//! How long it is waited before another attempt, and who is not asked again.

use crate::calendar::parse_date;
use crate::time::Nanos;

/// Pauses by chance, each twice as long at most as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The shortest pause.
    pub least: Nanos,
    /// The longest one before the first retry.
    pub first: Nanos,
    /// The longest one at all.
    pub most: Nanos,
}

impl BackOff {
    /// Uniform in 25 to 250 ms, as Envoy's: a client waits meanwhile.
    pub const PROXY: Self = Self {
        least: Nanos::from_millis(25),
        first: Nanos::from_millis(250),
        most: Nanos::from_millis(250),
    };

    /// The pause before a retry, counted from zero. `random` is uniform over its 64 bits.
    #[must_use]
    pub const fn pause(&self, retry: u32, random: u64) -> Nanos {
        let doublings = if retry < 63 { retry } else { 63 };
        let longest = self.first.0.saturating_mul(1 << doublings);
        let longest = if longest < self.most.0 { longest } else { self.most.0 };
        let span = longest.saturating_sub(self.least.0);
        Nanos(self.least.0.saturating_add(part_of(span, random)))
    }
}

const fn part_of(span: u64, random: u64) -> u64 {
    ((random as u128 * span as u128) >> 64) as u64
}

/// The longest pause that an endpoint may ask the proxy for before it is asked again: meanwhile the
/// request holds its place at the upstream. A service that asks for more has its response passed
/// on.
pub const LONGEST_ASKED: Nanos = Nanos::from_secs(2);

/// When a service that asks for a pause may be asked again: within `longest`, and before
/// all is over.
#[must_use]
pub fn not_before(asked: Nanos, longest: Nanos, now: Nanos, until: Nanos) -> Option<Nanos> {
    let at = Nanos(now.0.saturating_add(asked.0));
    (asked <= longest && at < until).then_some(at)
}

/// The moment of an attempt that is asked for no sooner than `not_before`. Many were told the same,
/// so the pause is added to it: they would all come back in one instant. Before `until`, for which
/// the pause is cut short by the same chance.
#[must_use]
pub fn spread(not_before: Nanos, pause: Nanos, until: Nanos, random: u64) -> Nanos {
    let room = until.0.saturating_sub(not_before.0);
    let pause = if pause.0 < room { pause.0 } else { part_of(room, random) };
    Nanos(not_before.0.saturating_add(pause))
}

/// How long a `retry-after` asks to be left alone (RFC 9110 §10.2.3), in seconds or until a date: of
/// the clock that wrote the `date` of the response, or of ours, `unix_s`, where it has none.
pub fn retry_after(
    value: &[u8],
    date: Option<&[u8]>,
    unix_s: impl FnOnce() -> u64,
) -> Option<Nanos> {
    if value.iter().all(u8::is_ascii_digit) {
        let digits = std::str::from_utf8(value).ok().filter(|digits| digits.len() <= 9)?;
        return digits.parse().ok().map(Nanos::from_secs);
    }
    let now = unix_s();
    let at = parse_date(value, now)?;
    let from = date.and_then(|date| parse_date(date, now)).unwrap_or(now);
    Some(Nanos::from_secs(at.saturating_sub(from)))
}

/// What a caller of a library may set; the proxy's rules are its configuration's.
#[derive(Clone, Copy, Debug)]
pub struct RetryRules {
    /// Attempts at most, the first one included.
    pub attempts: u32,
    /// How long it is waited.
    pub back_off: BackOff,
}

/// Why no attempt follows one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// There were as many as there may be.
    Attempts,
    /// The service asks for a longer pause than is ever waited.
    Asked,
    /// All would be over before it.
    Deadline,
    /// A budget of retries has no room for it.
    Budget,
}

impl RetryRules {
    /// When another attempt may begin after so many, or why none may: who was asked wants to be left
    /// alone for `asked`, and all is over at `until`.
    ///
    /// # Errors
    /// With any reason but the budget's, which is not asked here.
    pub fn next(
        &self,
        attempts: u32,
        asked: Nanos,
        (now, until): (Nanos, Nanos),
        random: u64,
    ) -> Result<Nanos, GaveUp> {
        if attempts >= self.attempts {
            return Err(GaveUp::Attempts);
        }
        if asked > self.back_off.most {
            return Err(GaveUp::Asked);
        }
        let not_before = not_before(asked, self.back_off.most, now, until);
        let not_before = not_before.ok_or(GaveUp::Deadline)?;
        let pause = self.back_off.pause(attempts.saturating_sub(1), random);
        if asked > Nanos::ZERO {
            return Ok(spread(not_before, pause, until, random));
        }
        let at = Nanos(now.0.saturating_add(pause.0));
        if at < until { Ok(at) } else { Err(GaveUp::Deadline) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let b = BackOff { least: Nanos(MS), first: Nanos(10 * MS), most: Nanos(35 * MS) };
        let longest: Vec<u64> = (0..5).map(|n| b.pause(n, u64::MAX).0.div_ceil(MS)).collect();
        assert_eq!(longest, [10, 20, 35, 35, 35]);
        assert!((0..200).all(|n| b.pause(n, 0) == Nanos(MS)));
        assert_eq!(b.pause(0, 1 << 63), Nanos(MS + 9 * MS / 2), "uniform");
        let most = Nanos(u64::MAX);
        let all = BackOff { least: Nanos(0), first: most, most };
        assert!(all.pause(u32::MAX, u64::MAX) < most);
    }

    #[test]
    fn the_proxys_pause_is_one_range() {
        for retry in [0, 1, 9] {
            assert_eq!(BackOff::PROXY.pause(retry, 0), Nanos::from_millis(25));
            let longest = BackOff::PROXY.pause(retry, u64::MAX);
            assert!(longest < Nanos::from_millis(250) && longest > Nanos::from_millis(249));
        }
    }

    #[test]
    fn who_asks_for_too_much_is_not_asked_again() {
        let (now, until) = (Nanos(100), Nanos(200));
        assert_eq!(not_before(Nanos(50), Nanos(50), now, until), Some(Nanos(150)));
        assert_eq!(not_before(Nanos(51), Nanos(50), now, until), None);
        assert_eq!(not_before(Nanos(100), Nanos::MAX, now, until), None);
        assert_eq!(not_before(Nanos::MAX, Nanos::MAX, now, until), None);
    }

    #[test]
    fn another_attempt_begins_in_time_or_not_at_all() {
        let pause = Nanos(10);
        let rules = RetryRules {
            attempts: 3,
            back_off: BackOff { least: pause, first: pause, most: pause },
        };
        let next = |n, asked, until| rules.next(n, Nanos(asked), (Nanos(100), Nanos(until)), 7);
        assert_eq!(next(1, 0, 200), Ok(Nanos(110)));
        assert_eq!(next(2, 0, 111), Ok(Nanos(110)));
        assert_eq!(next(2, 0, 110), Err(GaveUp::Deadline), "it would be over before it begins");
        assert_eq!(next(3, 0, 200), Err(GaveUp::Attempts));
        assert_eq!(next(1, 5, 200), Ok(Nanos(115)));
        assert_eq!(next(1, 5, 105), Err(GaveUp::Deadline));
        assert_eq!(next(1, 11, 200), Err(GaveUp::Asked), "longer than it is ever waited");
    }

    #[test]
    fn who_was_told_the_same_does_not_come_back_in_one_instant() {
        let back_off = BackOff { least: Nanos(20), first: Nanos(50), most: Nanos(1_000) };
        let rules = RetryRules { attempts: 3, back_off };
        let part = u64::MAX / 1_000;
        for until in [u64::MAX, 2_000, 1_010, 1_002] {
            let next = |random| rules.next(1, Nanos(900), (Nanos(100), Nanos(until)), random);
            let all: Vec<u64> = (0..1_000).map(|n| next(n * part).unwrap().0).collect();
            assert!(all.iter().all(|&at| (1_000..until).contains(&at)), "{until}");
            let distinct: std::collections::BTreeSet<_> = all.iter().collect();
            assert!(distinct.len() as u64 >= (until - 1_000).min(29), "{until}: {distinct:?}");
        }
        let none = rules.next(1, Nanos(900), (Nanos(100), Nanos(1_000)), 0);
        assert_eq!(none, Err(GaveUp::Deadline), "nobody comes earlier than was asked");
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = || 1_445_412_470; // ten seconds before the date below
        let date = b"Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(retry_after(b"120", None, now), Some(Nanos::from_secs(120)));
        assert_eq!(retry_after(date, None, now), Some(Nanos::from_secs(10)));
        assert_eq!(retry_after(date, None, || 1_445_412_500), Some(Nanos::ZERO), "it has passed");
        // By the clock that wrote it, an hour behind ours.
        let theirs = b"Wed, 21 Oct 2015 07:27:57 GMT";
        let three = Some(Nanos::from_secs(3));
        assert_eq!(retry_after(date, Some(theirs), || 1_445_416_080), three);
        assert_eq!(retry_after(date, Some(b"today"), now), Some(Nanos::from_secs(10)));
        for bad in [&b""[..], b"-1", b"1.5", b" 1", b"9999999999", b"Wed, 21 Oct 2015"] {
            assert_eq!(retry_after(bad, None, now), None);
        }
    }
}
