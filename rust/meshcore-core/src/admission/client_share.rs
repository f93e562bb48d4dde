//! How much of an upstream's cap one client may take.

use crate::sync::{AtomicU32, Ordering};

use super::inflight::InFlight;

/// A client that holds less than this part of the cap, in percent, may use its last part. With the
/// default share a client that takes all it can leaves room for four that hold as much as this.
const LIGHT_PERCENT: u8 = 5;
/// The share at which the whole cap is open to all.
const ALL_PERCENT: u8 = 100;

const ROWS: usize = 2;
/// 2 rows of these are 64 KiB.
const CELLS: usize = 1 << 13;
/// Odd multipliers, one for each row: the golden ratio's, and one of `wyrand`.
const MIXES: [u64; ROWS] = [0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f];

/// How many requests each client holds at each upstream, in this process: a count-min sketch.
///
/// A pair of client and upstream is one hash, which adds to one cell of each row; the least of the
/// two is its count. So a count is never too low, and too high only if both cells are shared with
/// others that hold something now. With `n` other pairs that hold something the odds of that are
/// `(1 - e^(-n / 8192))^2`: 0.014 % for 100 pairs, 1.3 % for 1,000. It matters only where the
/// others' requests make up a light client's part of the cap, and only in the cap's last part.
///
/// Memory does not grow with clients or upstreams. Each call touches two cache lines.
///
/// # Orderings
/// The counts publish nothing: `Relaxed`.
#[derive(Debug)]
pub struct ClientsHeld {
    cells: Box<[AtomicU32]>,
}

impl ClientsHeld {
    /// Nothing is held. 64 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { cells: (0..ROWS * CELLS).map(|_| AtomicU32::new(0)).collect() }
    }

    #[inline]
    fn cells(&self, hash: u64) -> [&AtomicU32; ROWS] {
        const SHIFT: u32 = u64::BITS - CELLS.trailing_zeros();
        std::array::from_fn(|row| {
            // A product's highest bits depend on all bits of the hash.
            let cell = (hash.wrapping_mul(MIXES[row]) >> SHIFT) as usize;
            &self.cells[row * CELLS + cell]
        })
    }

    /// Counts one request in; pair with [`leave`](Self::leave). O(1).
    ///
    /// `hash` names the pair: the client's key, as [`client_key`](super::client_key()) makes it,
    /// xor a hash of the upstream's name under the same secret seed.
    #[inline]
    pub fn enter(&self, hash: u64) {
        for cell in self.cells(hash) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one request out: once for each [`enter`](Self::enter). O(1).
    #[inline]
    pub fn leave(&self, hash: u64) {
        for cell in self.cells(hash) {
            let before = cell.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "left more often than entered");
        }
    }

    /// How many requests the pair holds: never too few, see the type for the odds of too many.
    #[must_use]
    #[inline]
    pub fn held(&self, hash: u64) -> u32 {
        let [one, other] = self.cells(hash);
        one.load(Ordering::Relaxed).min(other.load(Ordering::Relaxed))
    }
}

impl Default for ClientsHeld {
    fn default() -> Self {
        Self::new()
    }
}

/// The rule that keeps the last part of a cap for light clients.
///
/// `percent` of the cap are open to all. The rest only to who holds under 5 % of the cap in
/// this process, or nothing. So one client cannot shut out all others, whatever it sends, and
/// it need not be known which client is a bad one.
///
/// Parts of a request are rounded down: of a cap of 2 one is kept.
///
/// The cap is counted over all workers, what a client holds only in its own: a count of each
/// client that workers share could not be given back for a worker that died. So a client has 5 %
/// of the cap in each worker in which it holds little; one whose connections happen to lie with
/// one worker first and then with four others can still fill the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientShare {
    percent: u8,
}

impl ClientShare {
    /// `percent` of the cap are open to all; 100 and more switches the rule off.
    #[must_use]
    pub const fn new(percent: u8) -> Self {
        Self { percent }
    }

    /// Counts one in at the cap, and for its client, unless the part of the cap that is open to
    /// that client is taken. O(workers).
    ///
    /// `hash` names client and upstream, see [`ClientsHeld::enter`]. Who entered leaves by
    /// [`leave`](Self::leave) of the same rule, even if a reload has made another. Threads of one
    /// process that enter for one client at the same instant may pass its 5 % by their number
    /// less one; the cap is as exact as that of [`InFlight`].
    #[must_use = "who entered must leave"]
    #[inline]
    pub fn try_enter(self, cap: &InFlight, held: &ClientsHeld, hash: u64) -> bool {
        if self.is_off() {
            return cap.try_enter();
        }
        let light = part(cap.cap(), LIGHT_PERCENT).max(1);
        let is_light = u64::from(held.held(hash)) < light;
        let limit = if is_light { cap.cap() } else { part(cap.cap(), self.percent) };
        let entered = cap.try_enter_below(limit);
        if entered {
            held.enter(hash);
        }
        entered
    }

    /// Counts one out: once for each [`try_enter`](Self::try_enter) that said yes. O(1).
    #[inline]
    pub fn leave(self, cap: &InFlight, held: &ClientsHeld, hash: u64) {
        cap.leave();
        if !self.is_off() {
            held.leave(hash);
        }
    }

    #[inline]
    const fn is_off(self) -> bool {
        self.percent >= ALL_PERCENT
    }
}

/// This many percent of a cap, rounded down, without an overflow.
#[inline]
const fn part(cap: u64, percent: u8) -> u64 {
    let percent = percent as u64;
    cap / 100 * percent + cap % 100 * percent / 100
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::segment::{Block, BlockKind, Segment, SegmentConfig};
    use proptest::prelude::*;

    const HEAVY: u64 = 1;
    const OTHER: u64 = 2;

    fn cap(cap: u64) -> InFlight {
        InFlight::new(Block::private(InFlight::WORDS), 0, cap)
    }

    /// Enters as often as it is let in.
    fn hammer(share: ClientShare, cap: &InFlight, held: &ClientsHeld, hash: u64) -> u64 {
        let mut entered = 0;
        while share.try_enter(cap, held, hash) {
            entered += 1;
        }
        entered
    }

    fn is_zero(held: &ClientsHeld) -> bool {
        held.cells.iter().all(|cell| cell.load(Ordering::Relaxed) == 0)
    }

    #[test]
    fn one_client_takes_four_fifths_and_others_the_rest() {
        let (share, cap, held) = (ClientShare::new(80), cap(100), ClientsHeld::new());
        assert_eq!(hammer(share, &cap, &held, HEAVY), 80);
        let others: Vec<_> = (10..20).map(|client| hammer(share, &cap, &held, client)).collect();
        // Each holds 5 % and is light no more, until the cap is reached.
        assert_eq!(others, [5, 5, 5, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cap.current(), 100);
        share.leave(&cap, &held, HEAVY);
        assert!(!share.try_enter(&cap, &held, HEAVY), "the last part is not for it");
        assert!(share.try_enter(&cap, &held, OTHER));
    }

    #[test]
    fn who_has_left_is_light_again() {
        let (share, cap, held) = (ClientShare::new(50), cap(10), ClientsHeld::new());
        assert_eq!(hammer(share, &cap, &held, HEAVY), 5);
        assert!(share.try_enter(&cap, &held, OTHER) && !share.try_enter(&cap, &held, OTHER));
        share.leave(&cap, &held, OTHER);
        assert!(share.try_enter(&cap, &held, OTHER));
        (0..5).for_each(|_| share.leave(&cap, &held, HEAVY));
        share.leave(&cap, &held, OTHER);
        assert!(is_zero(&held) && cap.current() == 0);
    }

    #[test]
    fn a_small_cap_keeps_one() {
        for (size, taken) in [(1, 1), (2, 1), (4, 3), (5, 4)] {
            let (cap, held) = (cap(size), ClientsHeld::new());
            assert_eq!(hammer(ClientShare::new(80), &cap, &held, HEAVY), taken, "{size}");
        }
        assert!(!ClientShare::new(80).try_enter(&cap(0), &ClientsHeld::new(), HEAVY));
    }

    #[test]
    fn all_for_everybody_counts_nothing() {
        let (share, cap, held) = (ClientShare::new(100), cap(10), ClientsHeld::new());
        assert_eq!(hammer(share, &cap, &held, HEAVY), 10);
        assert!(is_zero(&held));
        (0..10).for_each(|_| share.leave(&cap, &held, HEAVY));
        assert_eq!(cap.current(), 0);
    }

    #[test]
    fn the_cap_counts_over_workers_and_the_client_in_its_own() {
        let config = SegmentConfig { max_bytes: 1 << 20, worker_slots: 2 };
        let segment = Segment::anonymous(config).expect("a few slots");
        let block = segment.block(BlockKind::Upstream, "cap", InFlight::WORDS).expect("room");
        let (a, b) = (InFlight::new(block.clone(), 0, 100), InFlight::new(block, 1, 100));
        let (share, held_a, held_b) =
            (ClientShare::new(80), ClientsHeld::new(), ClientsHeld::new());
        assert_eq!(hammer(share, &a, &held_a, HEAVY), 80);
        assert_eq!(hammer(share, &b, &held_b, HEAVY), 5);
        assert_eq!(hammer(share, &b, &held_b, OTHER), 5);
    }

    #[test]
    fn parts_do_not_overflow() {
        assert_eq!(part(u64::MAX, 100), u64::MAX);
        assert_eq!((part(99, 80), part(1_000, 5), part(19, 5), part(0, 80)), (79, 50, 0, 0));
    }

    #[test]
    fn a_count_is_rarely_too_high() {
        let held = ClientsHeld::new();
        // Clients whose keys differ in few bits are the worst that a multiplication can be given.
        (0..1_000).for_each(|client| held.enter(client));
        let wrong = (1_000..101_000).filter(|&client| held.held(client) > 0).count();
        // 1.3 % of 100,000 by the odds.
        assert!(wrong < 2_000, "{wrong}");
    }

    proptest! {
        #[test]
        fn a_count_is_never_too_low(clients in prop::collection::vec(0_u64..50, 0..200)) {
            let held = ClientsHeld::new();
            clients.iter().for_each(|&client| held.enter(client));
            for client in 0..50 {
                let exact = clients.iter().filter(|&&c| c == client).count();
                prop_assert!(held.held(client) as usize >= exact);
            }
            clients.iter().for_each(|&client| held.leave(client));
            prop_assert!(is_zero(&held));
        }

        /// Whatever enters and leaves: never above the cap, and nothing stays.
        #[test]
        fn the_cap_holds_and_all_comes_back(
            size in 0_u64..60,
            percent in 0_u8..=110,
            steps in prop::collection::vec((0_u64..6, any::<bool>()), 0..300),
        ) {
            let (share, cap, held) = (ClientShare::new(percent), cap(size), ClientsHeld::new());
            let mut inside = Vec::new();
            for (client, enters) in steps {
                if enters && share.try_enter(&cap, &held, client) {
                    inside.push(client);
                } else if !enters && let Some(place) = inside.iter().position(|&c| c == client) {
                    share.leave(&cap, &held, inside.swap_remove(place));
                }
                prop_assert_eq!(cap.current(), inside.len() as u64);
                prop_assert!(cap.current() <= size);
            }
            inside.into_iter().for_each(|client| share.leave(&cap, &held, client));
            prop_assert!(is_zero(&held) && cap.current() == 0);
        }

        /// Alone a client gets its share, and while it takes all it can another gets in.
        #[test]
        fn a_second_client_always_gets_in(
            size in 2_u64..5_000,
            percent in 1_u8..=99,
            heavy in any::<u64>(),
            other in any::<u64>(),
        ) {
            let (share, cap, held) = (ClientShare::new(percent), cap(size), ClientsHeld::new());
            let taken = hammer(share, &cap, &held, heavy);
            let light = part(size, LIGHT_PERCENT).max(1);
            prop_assert_eq!(taken, part(size, percent).max(light));
            prop_assume!(held.held(other) == 0 && taken < size);
            for _ in 0..3 {
                prop_assert!(share.try_enter(&cap, &held, other));
                hammer(share, &cap, &held, heavy);
                share.leave(&cap, &held, other);
            }
            (0..taken).for_each(|_| share.leave(&cap, &held, heavy));
            prop_assert!(is_zero(&held) && cap.current() == 0);
        }
    }
}
