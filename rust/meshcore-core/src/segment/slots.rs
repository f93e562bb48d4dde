//! The worker slots: whose columns are whose, and which configurations are still held.

use super::error::SegmentError;
use super::layout::{SLOTS_AT, slot};
use super::view::View;
use crate::sync::{AtomicU64, Ordering};

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

impl View {
    fn slot(&self, number: usize) -> Result<&[AtomicU64], SegmentError> {
        if number < self.workers {
            Ok(&self.memory.lines()[SLOTS_AT + number].0)
        } else {
            Err(SegmentError::NoSlot(number))
        }
    }

    /// # Orderings
    /// `Acquire`, see [`report`](Self::report).
    pub(super) fn worker(&self, number: usize) -> Result<Worker, SegmentError> {
        let words = self.slot(number)?;
        let read = |i: usize| words[i].load(Ordering::Acquire);
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
    /// `Release` for the process, last: who sees it sees the rest.
    pub(super) fn occupy(&self, number: usize, pid: u64, now_ns: u64) -> Result<(), SegmentError> {
        let words = self.slot(number)?;
        let taken = words[slot::PID].load(Ordering::Acquire);
        if taken != 0 {
            return Err(SegmentError::SlotTaken { slot: number, pid: taken });
        }
        words[slot::ACKED].store(0, Ordering::Relaxed);
        words[slot::OLDEST].store(0, Ordering::Relaxed);
        words[slot::HEARTBEAT].store(now_ns, Ordering::Relaxed);
        words[slot::STARTED].store(now_ns, Ordering::Relaxed);
        words[slot::PID].store(pid, Ordering::Release);
        Ok(())
    }

    /// A slot is free again; its columns were zeroed before.
    ///
    /// # Orderings
    /// `Release` for the process, first: a reader that sees the other words gone sees it gone.
    pub(super) fn vacate(&self, number: usize) -> Result<(), SegmentError> {
        let words = self.slot(number)?;
        for i in [slot::PID, slot::STARTED, slot::HEARTBEAT, slot::ACKED, slot::OLDEST] {
            words[i].store(0, Ordering::Release);
        }
        Ok(())
    }

    /// A worker says how it stands.
    ///
    /// # Orderings
    /// `Release`: all that the worker did to the blocks of configurations older than `oldest` is
    /// done before control, which loads with `Acquire`, frees them.
    pub(super) fn report(&self, number: usize, says: &Worker) -> Result<(), SegmentError> {
        let words = self.slot(number)?;
        words[slot::ACKED].store(says.acked_version, Ordering::Release);
        words[slot::OLDEST].store(says.oldest_version, Ordering::Release);
        words[slot::HEARTBEAT].store(says.heartbeat_ns, Ordering::Release);
        Ok(())
    }

    /// The oldest version that a living worker holds; `None` without any worker.
    pub(super) fn oldest_version(&self) -> Option<u64> {
        let workers = (0..self.workers).filter_map(|number| self.worker(number).ok());
        workers.filter(|worker| worker.pid != 0).map(|worker| worker.oldest_version).min()
    }
}
