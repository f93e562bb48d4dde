//! A bucket for each client, in a table that never grows and never forgets a client in debt.
//!
//! # Layout
//! A line of eight words is seven clients and an overflow bucket. A client is one word: 24 bits
//! of its key as tag, 40 bits of its bucket, in fractions of a token. So finding, claiming and charging a
//! client is one compare-and-swap: no client can be charged for another's claim. A key belongs to
//! its home line and, when that is full, to the line beside it, which the hardware prefetches.
//!
//! # No eviction
//! A full bucket is the same as no bucket, so only words whose instant has passed are taken over.
//! When all fourteen are in debt, a new client shares the overflow bucket of its home line: a
//! flood of addresses limits itself, costs no memory, and touches no client that is being served.
//!
//! # Errors that are accepted
//! Two clients of one line share a bucket if their tags are equal: once in 2.4 million pairs. A
//! bucket is taken over between charge and give-back: nothing is given back.
//!
//! Rejected: a tag word beside a time word (a claim and a charge that can be torn apart), LRU
//! (an attacker makes the table forget; Envoy's default of 20 descriptors), a map with a lock.

use crate::segment::{Block, Line, WORDS_PER_LINE};
use crate::sync::{Ordering, fence, update};
use crate::time::Nanos;

use super::quota::{Admitted, Quota, Refused};
use super::token_clock::{INSTANT_MASK, TokenClock};

/// Clients of a line; its last word is the overflow bucket.
const WAYS: usize = WORDS_PER_LINE - 1;
const OVERFLOW: usize = WAYS;

/// Of 14 words 8 are in use when as many clients as asked for are in debt at once: then 0.4 % of
/// them overflow (Poisson, mean 8).
const CLIENTS_PER_LINE: u64 = 4;

const TAG_SHIFT: u32 = 40;

/// Claims that may be lost to others before a client makes do with the overflow bucket.
const CLAIM_TRIES: usize = 8;

/// Limits each client by itself. All calls are O(1), lock-free and allocate nothing.
///
/// A table's words mean nothing under another quota: see [`Self::take_over`].
///
/// # Orderings
/// A word is the whole state of a client. Only a claim looks at other words afterwards (is this
/// key anywhere else?), and two claimers must not both look before either has written: hence the
/// `SeqCst` fence between the claim and the look. Two fences are totally ordered, so the later
/// one sees the earlier one's claim; acquire and release alone allow both to see nothing.
#[derive(Clone, Debug)]
pub struct ClientLimiter {
    block: Block,
    quota: Quota,
    clock: TokenClock,
    line_mask: usize,
}

/// What an admission took, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    word: u32,
    /// Zero for an overflow bucket.
    tag: u32,
    cost: u64,
}

/// Where a key belongs.
enum Place {
    /// It has this word.
    Own(usize),
    /// It has none, and this one, as it was seen, is free.
    Free(usize, u64),
    /// It has none, and all are in debt.
    Full,
}

impl ClientLimiter {
    /// 16.7 million clients, 256 MiB: a typo must not take the host's memory.
    pub const MAX_CLIENTS: u64 = 1 << 24;

    /// Words of a block for `clients` in debt at once: 16 bytes for each, rounded up to a power
    /// of two, at most 256 MiB.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // at most 2^25
    pub fn words(clients: u64) -> usize {
        let lines =
            clients.min(Self::MAX_CLIENTS).div_ceil(CLIENTS_PER_LINE).next_power_of_two().max(2);
        lines as usize * WORDS_PER_LINE
    }

    /// For how many clients in debt at once a block of this many words is made.
    #[must_use]
    pub const fn clients(words: usize) -> u64 {
        (words / WORDS_PER_LINE) as u64 * CLIENTS_PER_LINE
    }

    /// A limiter in `block`.
    #[must_use]
    pub fn new(block: Block, quota: Quota) -> Self {
        let line_mask = (1 << block.lines().len().ilog2()) - 1;
        Self { block, quota, clock: TokenClock::new(&quota), line_mask }
    }

    /// What it was made with.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes `n` tokens of the client `key`, all or none.
    ///
    /// A key comes from [`super::client_key`] or [`super::bytes_key`], under the same seed for all
    /// who share the block: its bits say where it belongs.
    ///
    /// # Errors
    /// [`Refused`] when fewer than `n` are there; then nothing was written.
    #[inline]
    pub fn try_acquire(&self, key: u64, now: Nanos, n: u64) -> Result<(Admitted, Charge), Refused> {
        if n > self.quota.limit() {
            return Err(self.quota.never());
        }
        let (home, tag) = self.home(key);
        let (at, cost) = (self.clock.units(now), self.clock.cost(n));
        if let Some(word) = self.find(home, tag)
            && let Some(verdict) = self.charge(word, tag, at, cost)
        {
            return verdict;
        }
        self.acquire_new(home, tag, at, cost)
    }

    /// Returns what an admission took; nothing if its bucket went to another client since.
    pub fn give_back(&self, charge: Charge) {
        update(self.block.word(charge.word as usize), |old| {
            let new = (old & !INSTANT_MASK) | (old.wrapping_sub(charge.cost) & INSTANT_MASK);
            (same_tag(old, u64::from(charge.tag)).then_some(new), ())
        });
    }

    /// Whether a client has the same place in both.
    #[must_use]
    pub fn is_as_large_as(&self, other: &Self) -> bool {
        self.block.lines().len() == other.block.lines().len()
    }

    /// Goes on from what was taken in `before`, a table of the same size and seed under another
    /// quota. O(words).
    ///
    /// What is charged to `before` meanwhile is forgiven.
    ///
    /// # Orderings
    /// `Relaxed`: each word is carried over as it is at some moment, and this table is not charged
    /// before it is in force.
    pub fn take_over(&self, before: &Self, now: Nanos) {
        for (to, from) in self.block.lines().iter().zip(before.block.lines()) {
            for (to, from) in to.0.iter().zip(&from.0) {
                let (tag, instant) = split(from.load(Ordering::Relaxed));
                let taken = Some(instant).filter(|_| (tag, instant) != (0, 0));
                let taken = taken.and_then(|instant| self.clock.taken(instant, &before.clock, now));
                to.store(taken.map_or(0, |taken| tag << TAG_SHIFT | taken), Ordering::Relaxed);
            }
        }
    }

    /// What the client has now; changes nothing.
    #[must_use]
    pub fn peek(&self, key: u64, now: Nanos) -> Admitted {
        let (home, tag) = self.home(key);
        let at = self.clock.units(now);
        let word = match self.place(home, tag, at) {
            Place::Own(word) => word,
            Place::Free(..) => return self.clock.admitted(0),
            Place::Full => home * WORDS_PER_LINE + OVERFLOW,
        };
        self.clock.admitted(self.ahead(self.block.word(word).load(Ordering::Acquire), at))
    }

    /// How many clients have a bucket that is not full. O(words).
    #[must_use]
    pub fn busy(&self, now: Nanos) -> usize {
        let at = self.clock.units(now);
        let ways = self.block.lines().iter().flat_map(|line| &line.0[..WAYS]);
        ways.filter(|slot| self.ahead(slot.load(Ordering::Relaxed), at) > 0).count()
    }

    /// Fills the bucket of a client, and of those who share it if the table is full.
    pub fn refill(&self, key: u64, now: Nanos) {
        let (home, tag) = self.home(key);
        let (word, tag) = match self.place(home, tag, self.clock.units(now)) {
            Place::Own(word) => (word, tag),
            Place::Free(..) => return,
            Place::Full => (home * WORDS_PER_LINE + OVERFLOW, 0),
        };
        update(self.block.word(word), |old| (same_tag(old, tag).then_some(0), ()));
    }

    /// A client without a word: claims one, or shares the overflow bucket.
    fn acquire_new(
        &self,
        home: usize,
        tag: u64,
        at: u64,
        cost: u64,
    ) -> Result<(Admitted, Charge), Refused> {
        for _ in 0..CLAIM_TRIES {
            let done = match self.place(home, tag, at) {
                Place::Own(word) => self.charge(word, tag, at, cost),
                Place::Free(word, seen) => self.claim(home, (word, seen), tag, (at, cost)),
                Place::Full => break,
            };
            if let Some(verdict) = done {
                return verdict;
            }
        }
        let word = home * WORDS_PER_LINE + OVERFLOW;
        self.charge(word, 0, at, cost).unwrap_or_else(|| Err(self.clock.refused(cost)))
    }

    /// Charges `word`; `None` if it is no longer the client's.
    #[inline]
    fn charge(
        &self,
        word: usize,
        tag: u64,
        at: u64,
        cost: u64,
    ) -> Option<Result<(Admitted, Charge), Refused>> {
        update(self.block.word(word), |old| {
            if !same_tag(old, tag) {
                return (None, None);
            }
            let instant = if old == 0 { at } else { old };
            match self.clock.step(instant & INSTANT_MASK, at, cost) {
                Ok((new, ahead)) => {
                    let verdict = (self.clock.admitted(ahead), made(word, tag, cost));
                    (Some(tag << TAG_SHIFT | new), Some(Ok(verdict)))
                }
                Err(short) => (None, Some(Err(self.clock.refused(short)))),
            }
        })
    }

    /// Takes over a free word and charges it in one step, then looks for a second claim of the
    /// same key; `None` if it was lost or taken back.
    fn claim(
        &self,
        home: usize,
        (word, seen): (usize, u64),
        tag: u64,
        (at, cost): (u64, u64),
    ) -> Option<Result<(Admitted, Charge), Refused>> {
        let (new, ahead) = self.clock.step(at, at, cost).ok()?;
        let mine = tag << TAG_SHIFT | new;
        let slot = self.block.word(word);
        slot.compare_exchange(seen, mine, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        fence(Ordering::SeqCst);
        if self.is_elsewhere(home, tag, word) {
            // The one that sees the other withdraws, so at most one of two claims stands. If the
            // word changed meanwhile, a third caller was charged on it: only this charge goes back.
            if slot.compare_exchange(mine, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                self.give_back(made(word, tag, cost));
            }
            return None;
        }
        Some(Ok((self.clock.admitted(ahead), made(word, tag, cost))))
    }

    /// Where `tag` belongs at `at`.
    fn place(&self, home: usize, tag: u64, at: u64) -> Place {
        if let Some(word) = self.find(home, tag) {
            return Place::Own(word);
        }
        for line in [home, self.beside(home)] {
            for (way, slot) in self.block.lines()[line].0[..WAYS].iter().enumerate() {
                let seen = slot.load(Ordering::Acquire);
                if self.ahead(seen, at) == 0 {
                    return Place::Free(line * WORDS_PER_LINE + way, seen);
                }
            }
        }
        Place::Full
    }

    /// The word of `tag`, first in its home line.
    #[inline]
    fn find(&self, home: usize, tag: u64) -> Option<usize> {
        let lines = self.block.lines();
        if let Some(way) = way_of(&lines[home], tag) {
            return Some(home * WORDS_PER_LINE + way);
        }
        let beside = self.beside(home);
        way_of(&lines[beside], tag).map(|way| beside * WORDS_PER_LINE + way)
    }

    fn is_elsewhere(&self, home: usize, tag: u64, mine: usize) -> bool {
        [home, self.beside(home)].into_iter().any(|line| {
            let ways = self.block.lines()[line].0[..WAYS].iter().enumerate();
            let mut others = ways.filter(|(way, _)| line * WORDS_PER_LINE + way != mine);
            others.any(|(_, slot)| same_tag(slot.load(Ordering::Relaxed), tag))
        })
    }

    #[inline]
    fn ahead(&self, word: u64, at: u64) -> u64 {
        if word == 0 { 0 } else { self.clock.ahead(word & INSTANT_MASK, at) }
    }

    /// The home line and the tag of a key: bits of a keyed hash that say nothing without the
    /// seed, and no bit is in both.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // lines fit in usize
    const fn home(&self, key: u64) -> (usize, u64) {
        let tag = key >> TAG_SHIFT;
        (key as usize & self.line_mask, if tag == 0 { 1 } else { tag })
    }

    #[inline]
    const fn beside(&self, home: usize) -> usize {
        (home ^ 1) & self.line_mask
    }
}

/// The way that carries `tag`. Without a branch per way: which one it is cannot be predicted.
#[inline]
fn way_of(line: &Line, tag: u64) -> Option<usize> {
    let mut found = 0_u32;
    for (way, slot) in line.0[..WAYS].iter().enumerate() {
        found |= u32::from(same_tag(slot.load(Ordering::Relaxed), tag)) << way;
    }
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// The tag and the instant of a word.
const fn split(word: u64) -> (u64, u64) {
    (word >> TAG_SHIFT, word & INSTANT_MASK)
}

#[inline]
const fn same_tag(word: u64, tag: u64) -> bool {
    word >> TAG_SHIFT == tag
}

#[allow(clippy::cast_possible_truncation)] // at most 2^25 words, tags of 24 bits
const fn made(word: usize, tag: u64, cost: u64) -> Charge {
    Charge { word: word as u32, tag: tag as u32, cost }
}

#[cfg(all(test, not(feature = "loom")))]
#[allow(clippy::unwrap_used)] // in helpers, where clippy does not see the test
mod tests {
    use super::*;
    use crate::admission::bytes_key;
    use crate::snapshot::Rate;

    const NOW: Nanos = Nanos::from_secs(5_000);

    fn limiter(clients: u64, tokens: u64, burst: u64) -> ClientLimiter {
        let quota = Quota::new(Rate { tokens, period_ns: 1_000_000_000, burst }).unwrap();
        ClientLimiter::new(Block::private(ClientLimiter::words(clients)), quota)
    }

    fn key(number: u64) -> u64 {
        bytes_key([3, 5], &number.to_le_bytes())
    }

    #[test]
    fn each_client_has_its_own_burst_and_rate() {
        let l = limiter(64, 10, 3);
        for client in [1, 2] {
            for remaining in [2, 1, 0] {
                assert_eq!(l.try_acquire(key(client), NOW, 1).unwrap().0.remaining, remaining);
            }
            let refused = l.try_acquire(key(client), NOW, 1).unwrap_err();
            assert_eq!(refused.limit, 3);
            let early = refused.retry_after - Nanos::from_millis(2);
            assert!(l.try_acquire(key(client), NOW + early, 1).is_err());
            assert!(l.try_acquire(key(client), NOW + refused.retry_after, 1).is_ok());
        }
        assert_eq!(l.try_acquire(key(1), NOW, 4).unwrap_err().retry_after, Nanos::MAX);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let l = limiter(64, 10, 3);
        let (_, charge) = l.try_acquire(key(9), NOW, 3).unwrap();
        assert_eq!(l.peek(key(9), NOW).remaining, 0);
        l.give_back(charge);
        assert_eq!(l.peek(key(9), NOW).remaining, 3);
        l.give_back(charge);
        assert_eq!(l.peek(key(9), NOW).remaining, 3, "never more than a full bucket");
    }

    #[test]
    fn clients_are_busy_until_their_bucket_is_full() {
        let l = limiter(64, 10, 3);
        assert_eq!(l.busy(NOW), 0);
        for client in [1, 2, 2, 3] {
            l.try_acquire(key(client), NOW, 1).unwrap();
        }
        l.refill(key(3), NOW);
        assert_eq!(l.busy(NOW), 2);
        assert_eq!(l.busy(NOW + Nanos::from_millis(150)), 1);
        assert_eq!(l.busy(NOW + Nanos::from_millis(250)), 0);
    }

    #[test]
    fn a_refill_is_one_clients_alone() {
        let l = limiter(64, 10, 3);
        for client in [9, 10] {
            l.try_acquire(key(client), NOW, 3).unwrap();
        }
        l.refill(key(9), NOW);
        l.refill(key(11), NOW);
        assert_eq!([9, 10, 11].map(|client| l.peek(key(client), NOW).remaining), [3, 0, 3]);
        assert!(l.try_acquire(key(9), NOW, 3).is_ok());
    }

    #[test]
    fn what_went_to_another_client_is_not_given_back() {
        let l = limiter(1, 10, 3);
        let (_, charge) = l.try_acquire(key(9), NOW, 1).unwrap();
        let later = NOW + Nanos::from_secs(60);
        // Enough newcomers to take over every idle word of the two lines.
        for client in 100..200 {
            let _ = l.try_acquire(key(client), later, 3);
        }
        let before: Vec<u64> = (0..16).map(|i| l.block.word(i).load(Ordering::Relaxed)).collect();
        l.give_back(charge);
        let after: Vec<u64> = (0..16).map(|i| l.block.word(i).load(Ordering::Relaxed)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn a_full_set_shares_its_overflow_bucket_and_evicts_nobody() {
        let l = limiter(1, 1, 2);
        let admitted: Vec<u64> =
            (0..1_000).filter(|&client| l.try_acquire(key(client), NOW, 2).is_ok()).collect();
        // Two lines: fourteen clients, and the overflow bucket of each line once.
        assert_eq!(admitted.len(), 16);
        for &client in &admitted {
            assert!(l.try_acquire(key(client), NOW, 1).is_err(), "{client} was forgotten");
        }
        assert_eq!(l.peek(key(10_000), NOW).remaining, 0, "a newcomer sees the overflow bucket");
        assert!(l.try_acquire(key(10_000), NOW + Nanos::from_secs(3), 2).is_ok());
    }

    /// A million addresses of an attacker against a table for 4,096 clients: they do not make it
    /// forget who is in debt, do not get more than the buckets they share, and a client that was
    /// there keeps its own rate to the last token.
    #[test]
    fn a_million_addresses_touch_nobody_who_is_being_served() {
        const RATE: u64 = 10;
        const BURST: u64 = 5;
        let l = limiter(4_096, RATE, BURST);
        let friends: Vec<u64> = (1..=500).collect();
        // They are there first: who comes while a set is full shares its overflow bucket.
        let mut served: Vec<u64> = friends
            .iter()
            .map(|client| u64::from(l.try_acquire(key(*client), NOW, 1).is_ok()))
            .collect();
        let (mut attackers_got, mut now) = (0_u64, NOW);
        let steps = 1_000;
        for step in 0..steps {
            now = NOW + Nanos::from_millis(step);
            // Each friend asks at twice its rate, so it is always in debt.
            for (friend, got) in friends.iter().zip(&mut served) {
                if (step + friend) % 50 == 0 {
                    *got += u64::from(l.try_acquire(key(*friend), now, 1).is_ok());
                }
            }
            for i in 0..1_000 {
                let address = 1_000_000 + step * 1_000 + i;
                attackers_got += u64::from(l.try_acquire(key(address), now, 1).is_ok());
            }
        }
        let span = now.since(NOW).0;
        let own = BURST + RATE * span / 1_000_000_000;
        for got in &served {
            assert!(*got >= own && *got <= own + 1, "{got} of {own}");
        }
        // Every word of the table is a bucket: more than they all hold cannot be had.
        let words = ClientLimiter::words(4_096) as u64;
        assert!(attackers_got <= words * (own + 1), "{attackers_got}");
        assert!(attackers_got < 200_000, "{attackers_got} of a million");
    }

    #[test]
    fn the_table_is_bounded_whatever_is_asked_for() {
        assert_eq!(ClientLimiter::words(0), 16);
        assert_eq!(ClientLimiter::words(65_536) * 8, 1 << 20);
        assert_eq!(ClientLimiter::words(u64::MAX) * 8, 256 << 20);
    }

    #[test]
    fn keys_in_a_row_spread_evenly() {
        let l = limiter(4_096, 1, 1);
        let mut lines = vec![0_u32; l.line_mask + 1];
        (0..4_096).for_each(|client| lines[l.home(key(client)).0] += 1);
        assert!(lines.iter().all(|n| *n < 20), "{:?}", lines.iter().max());
    }
}
