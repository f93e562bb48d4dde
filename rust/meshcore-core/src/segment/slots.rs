//! The worker slots: whose columns are whose, and which configurations are still held.

use std::ops::RangeInclusive;

use super::block::WORDS_PER_LINE;
use super::error::SegmentError;
use super::layout::{OLDER_VERSIONS, SLOT_LINES, SLOTS_AT, slot};
use super::view::View;
use crate::sync::{AtomicU64, Ordering, fence};

/// What is known of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// Its process; zero if the slot is free.
    pub pid: u64,
    /// When it was started.
    pub started_ns: u64,
    /// When it last said that it lives.
    pub heartbeat_ns: u64,
    /// The configuration it has in force.
    pub acked_version: u64,
    /// The oldest configuration that a request of it still holds.
    pub oldest_version: u64,
}

/// Which versions a worker holds, as far as is known: never too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Every version from this one on: what is in force there may be another by now.
    from: u64,
    /// Older ones.
    older: [u64; OLDER_VERSIONS],
}

impl Holder {
    /// One that holds everything from a version on.
    const fn of_all_from(from: u64) -> Self {
        Self { from, older: [from; OLDER_VERSIONS] }
    }

    /// One that has a version in force and requests of others; of more than there are words for,
    /// everything from the first without one.
    fn new(in_force: u64, older: &[u64]) -> Self {
        let mut older: Vec<u64> = older.iter().copied().filter(|v| *v < in_force).collect();
        older.sort_unstable();
        older.dedup();
        let mut held = Self::of_all_from(older.get(OLDER_VERSIONS).copied().unwrap_or(in_force));
        for (word, version) in held.older.iter_mut().zip(older) {
            *word = version;
        }
        held
    }

    fn oldest(&self) -> u64 {
        self.older.iter().copied().fold(self.from, u64::min)
    }

    /// Whether it may hold one of these.
    pub(super) fn holds_any(&self, versions: &RangeInclusive<u64>) -> bool {
        *versions.end() >= self.from || self.older.iter().any(|held| versions.contains(held))
    }
}

impl View {
    /// Word `i` of a slot.
    fn slot_word(&self, number: usize, i: usize) -> &AtomicU64 {
        &self.memory.lines()[SLOTS_AT + number * SLOT_LINES + i / WORDS_PER_LINE].0
            [i % WORDS_PER_LINE]
    }

    fn check_slot(&self, number: usize) -> Result<(), SegmentError> {
        if number < self.workers { Ok(()) } else { Err(SegmentError::NoSlot(number)) }
    }

    /// # Orderings
    /// `Acquire`, see [`report`](Self::report).
    pub(super) fn worker(&self, number: usize) -> Result<Worker, SegmentError> {
        self.check_slot(number)?;
        let read = |i: usize| self.slot_word(number, i).load(Ordering::Acquire);
        Ok(Worker {
            pid: read(slot::PID),
            started_ns: read(slot::STARTED),
            heartbeat_ns: read(slot::HEARTBEAT),
            acked_version: read(slot::ACKED),
            oldest_version: read(slot::OLDEST),
        })
    }

    /// Control gives a slot to a process. Until it reports, it holds every version.
    ///
    /// # Orderings
    /// `Release` for the process, last: who sees it sees the rest. The sequence goes on where the
    /// last process left it, so that no reader takes two processes' words for one's.
    pub(super) fn occupy(&self, number: usize, pid: u64, now_ns: u64) -> Result<(), SegmentError> {
        self.check_slot(number)?;
        let word = |i: usize| self.slot_word(number, i);
        let taken = word(slot::PID).load(Ordering::Acquire);
        if taken != 0 {
            return Err(SegmentError::SlotTaken { slot: number, pid: taken });
        }
        self.doubt(number);
        word(slot::ACKED).store(0, Ordering::Relaxed);
        word(slot::OLDEST).store(0, Ordering::Relaxed);
        word(slot::HEARTBEAT).store(now_ns, Ordering::Relaxed);
        word(slot::STARTED).store(now_ns, Ordering::Relaxed);
        word(slot::PID).store(pid, Ordering::Release);
        Ok(())
    }

    /// A slot is free again; its columns were zeroed before.
    ///
    /// # Orderings
    /// `Release` for the process, first: a reader that sees the other words gone sees it gone.
    pub(super) fn vacate(&self, number: usize) -> Result<(), SegmentError> {
        self.check_slot(number)?;
        for i in [slot::PID, slot::STARTED, slot::HEARTBEAT, slot::ACKED, slot::OLDEST] {
            self.slot_word(number, i).store(0, Ordering::Release);
        }
        Ok(())
    }

    /// The list of versions in a slot is not to be believed from now on. The sequence, which is
    /// odd then.
    ///
    /// # Orderings
    /// The fence (`Release`) comes before the words that change: a reader that sees one of them new
    /// and fences (`Acquire`) sees the sequence odd or later.
    fn doubt(&self, number: usize) -> u64 {
        let sequence = self.slot_word(number, slot::SEQUENCE);
        let odd = sequence.load(Ordering::Relaxed) | 1;
        sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        odd
    }

    /// A worker says how it stands. It may die between any two of these stores: while the list is
    /// in doubt the oldest version counts, and that is true before and after.
    ///
    /// # Orderings
    /// `Release`: all that the worker did to the blocks of configurations that it does not hold
    /// any more is done before control, which loads the sequence or the oldest version with
    /// `Acquire`, frees them.
    pub(super) fn report(
        &self,
        number: usize,
        now_ns: u64,
        in_force: u64,
        older: &[u64],
    ) -> Result<(), SegmentError> {
        self.check_slot(number)?;
        let word = |i: usize| self.slot_word(number, i);
        let held = Holder::new(in_force, older);
        let odd = self.doubt(number);
        word(slot::FROM).store(held.from, Ordering::Relaxed);
        for (i, version) in (slot::OLDER..).zip(held.older) {
            word(i).store(version, Ordering::Relaxed);
        }
        word(slot::ACKED).store(in_force, Ordering::Release);
        word(slot::OLDEST).store(held.oldest(), Ordering::Release);
        word(slot::SEQUENCE).store(odd.wrapping_add(1), Ordering::Release);
        word(slot::HEARTBEAT).store(now_ns, Ordering::Release);
        Ok(())
    }

    /// What the living workers hold.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let alive =
            |number: &usize| self.slot_word(*number, slot::PID).load(Ordering::Acquire) != 0;
        (0..self.workers).filter(alive).map(|number| self.holder(number)).collect()
    }

    /// # Orderings
    /// The first load of the sequence (`Acquire`) pairs with the end of [`report`](Self::report).
    /// If a load after it saw a word of a later report, the fence (`Acquire`) makes the second load
    /// see that report's odd sequence, and the list is not believed.
    fn holder(&self, number: usize) -> Holder {
        let word = |i: usize| self.slot_word(number, i);
        let before = word(slot::SEQUENCE).load(Ordering::Acquire);
        if before.is_multiple_of(2) {
            let read = |i: usize| word(i).load(Ordering::Relaxed);
            let older = std::array::from_fn(|i| read(slot::OLDER + i));
            let held = Holder { from: read(slot::FROM), older };
            fence(Ordering::Acquire);
            if read(slot::SEQUENCE) == before {
                return held;
            }
        }
        Holder::of_all_from(word(slot::OLDEST).load(Ordering::Acquire))
    }

    /// The oldest version that a living worker holds; `None` without any worker.
    pub(super) fn oldest_version(&self) -> Option<u64> {
        let workers = (0..self.workers).filter_map(|number| self.worker(number).ok());
        workers.filter(|worker| worker.pid != 0).map(|worker| worker.oldest_version).min()
    }
}
