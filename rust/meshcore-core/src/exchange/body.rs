//! The account of a request's body: how much came, how fast, and whether it can be sent again.

use crate::time::Nanos;

/// A body is kept for a second attempt up to this many bytes: what Linkerd replays. One that is
/// awaited before its request takes a place is no larger.
pub(super) const REPLAY_BYTES: u64 = 65_536;
/// The rate of a body counts after this time (Apache's mod_reqtimeout: `body=20,MinRate=500`).
const RATE_GRACE: Nanos = Nanos::from_secs(20);
/// Between two bytes of a plain request's body: half of what nginx allows (60 s).
const IDLE: Nanos = Nanos::from_secs(30);
/// A body that is not whole after this time is waited for.
const UNHURRIED: Nanos = Nanos::from_millis(500);
const SECOND_NS: u64 = 1_000_000_000;

/// What is to be done with a piece of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Keep it: it may have to be sent again.
    Yes,
    /// Keep it, and take no more until it is taken.
    Full,
    /// Drop it and what was kept: it is not sent again.
    No,
}

/// What came of a body behind the part that came with the head.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyAccount {
    received: u64,
    /// The same as it goes on: layers may have changed it.
    made: u64,
    /// What came with the head.
    first: u64,
    /// All that came is at hand.
    kept: bool,
    /// The last byte came.
    pub(super) done: bool,
    began: Nanos,
    last: Nanos,
    /// Since when the client is not read.
    paused: Option<Nanos>,
    /// How long it was not read before.
    unread: Nanos,
    /// The least rate in bytes a second; zero for none.
    pub(super) least_rate: u64,
}

impl BodyAccount {
    pub(super) const fn new(done: bool, now: Nanos) -> Self {
        Self {
            received: 0,
            made: 0,
            first: 0,
            kept: true,
            done,
            began: now,
            last: now,
            paused: None,
            unread: Nanos::ZERO,
            least_rate: 0,
        }
    }

    /// A piece came; `taken`: it is taken, `answered`: no other attempt follows.
    pub(super) fn receive(&mut self, len: u64, taken: bool, answered: bool, now: Nanos) -> Keep {
        self.come(len, now);
        self.make(len, taken, answered)
    }

    /// This much came.
    pub(super) fn come(&mut self, len: u64, now: Nanos) {
        self.received += len;
        self.last = now;
    }

    /// This much goes on; `taken` and `answered` as in [`receive`](Self::receive).
    pub(super) fn make(&mut self, len: u64, taken: bool, answered: bool) -> Keep {
        self.made += len;
        if answered || !self.kept || (taken && self.made > REPLAY_BYTES) {
            self.kept = false;
            return Keep::No;
        }
        if self.made > REPLAY_BYTES { Keep::Full } else { Keep::Yes }
    }

    /// Layers make another one of it, from its beginning to its end.
    pub(super) fn make_anew(&mut self) {
        self.made = 0;
        self.done = false;
    }

    /// Its sender was not waited for until now.
    pub(super) fn excuse(&mut self, now: Nanos) {
        self.last = now;
    }

    /// How much of it came with the head.
    pub(super) fn begin(&mut self, len: u64) {
        self.first = len;
    }

    /// Whether the endpoint waits for the client: some of the body is missing, after a time that is
    /// no matter of distance. How fast it has to come the endpoint says, and the client chooses.
    pub(super) fn is_awaited(&self, now: Nanos) -> bool {
        !self.done && !self.is_paused() && now.since(self.began) >= UNHURRIED
    }

    /// What was held until it was taken was sent: if it was too much, it is not kept. Whether
    /// it still is.
    pub(super) fn sent(&mut self) -> bool {
        self.kept &= self.made <= REPLAY_BYTES;
        self.kept
    }

    /// Whether all of it that came is at hand for an attempt.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// The client is read no more. Time does not count until it is.
    pub(super) fn pause(&mut self, now: Nanos) {
        self.paused.get_or_insert(now);
    }

    /// It is read again.
    pub(super) fn resume(&mut self, now: Nanos) {
        if let Some(since) = self.paused.take() {
            self.unread = self.unread + now.since(since);
            self.last = now;
        }
    }

    /// The client's side of a tunnel begins, as slow as it likes.
    pub(super) fn open(&mut self) {
        self.done = false;
        self.least_rate = 0;
    }

    /// The last byte came.
    pub(super) fn end(&mut self, now: Nanos) {
        self.done = true;
        self.last = now;
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// When a byte came last, or the client was read again.
    pub(super) const fn last(&self) -> Nanos {
        self.last
    }

    /// When the next byte must have come.
    pub(super) fn idle_due(&self) -> Nanos {
        self.last + IDLE
    }

    /// When more of it must have come for its rate: never while it is not read.
    pub(super) fn rate_due(&self) -> Nanos {
        if self.least_rate == 0 || self.is_paused() {
            return Nanos::MAX;
        }
        let came = u128::from(self.first + self.received);
        let earned = came * u128::from(SECOND_NS) / u128::from(self.least_rate);
        let earned = Nanos(u64::try_from(earned).unwrap_or(u64::MAX));
        self.began + RATE_GRACE + self.unread + earned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Nanos = Nanos::from_secs(100);

    fn after(secs: u64) -> Nanos {
        T0 + Nanos::from_secs(secs)
    }

    #[test]
    fn the_rate_counts_after_twenty_seconds_and_not_while_nobody_reads() {
        let mut body = BodyAccount::new(false, T0);
        assert_eq!(body.rate_due(), Nanos::MAX, "off");
        body.least_rate = 500;
        assert_eq!(body.rate_due(), after(20));
        body.begin(1_000);
        body.receive(4_000, true, false, after(1));
        assert_eq!(body.rate_due(), after(30));
        body.pause(after(2));
        assert_eq!(body.rate_due(), Nanos::MAX);
        body.pause(after(5));
        body.resume(after(12));
        assert_eq!(body.rate_due(), after(40));
        assert_eq!(body.idle_due(), after(42), "idle from when it was read again");
    }

    #[test]
    fn a_piece_is_kept_while_all_of_it_can_be_sent_again() {
        let mut body = BodyAccount::new(false, T0);
        assert_eq!(body.receive(65_536, true, false, T0), Keep::Yes);
        assert_eq!(body.receive(1, true, false, T0), Keep::No);
        assert_eq!(body.receive(1, true, false, T0), Keep::No, "nor the rest of it");
        assert!(!body.is_kept());

        let mut body = BodyAccount::new(false, T0);
        assert_eq!(body.receive(65_537, false, false, T0), Keep::Full, "nobody has it yet");
        assert!(body.is_kept());
        assert!(!body.sent());
        assert_eq!(body.receive(1, true, false, T0), Keep::No);

        let mut body = BodyAccount::new(false, T0);
        assert_eq!(body.receive(1, true, true, T0), Keep::No, "the response is out");
    }

    #[test]
    fn what_layers_make_of_it_is_kept_and_what_came_is_rated() {
        let mut body = BodyAccount::new(true, T0);
        body.least_rate = 500;
        body.receive(60_000, false, false, T0);
        body.make_anew();
        assert!(!body.done, "its end is not made yet");
        assert_eq!(body.make(65_536, true, false), Keep::Yes);
        body.come(1_000_000, after(1));
        assert!(body.sent());
        assert_eq!(body.rate_due(), after(20 + 2_120));
        assert_eq!(body.make(1, true, false), Keep::No);
    }
}
