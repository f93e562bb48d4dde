//! Deadlines of many connections, looked through in one sweep.
//!
//! A flat array rather than a wheel: arming is one store without any link to keep, which happens
//! for every request; a sweep reads eight bytes a connection in order (100,000 connections: some
//! tens of microseconds), and happens only some times a second.

use crate::time::Nanos;

/// One deadline for each slot.
#[derive(Debug, Default)]
pub struct DeadlineTable {
    at: Vec<Nanos>,
    free: Vec<u32>,
}

impl DeadlineTable {
    /// A slot with this deadline. O(1) amortised.
    pub fn add(&mut self, at: Nanos) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.at[slot as usize] = at;
            return slot;
        }
        self.at.push(at);
        (self.at.len() - 1) as u32
    }

    /// Replaces a slot's deadline; `Nanos::MAX` is never. An unknown slot is ignored.
    #[inline]
    pub fn arm(&mut self, slot: u32, at: Nanos) {
        if let Some(word) = self.at.get_mut(slot as usize) {
            *word = at;
        }
    }

    /// Gives a slot back. Must be called once for each `add`.
    pub fn remove(&mut self, slot: u32) {
        if let Some(word) = self.at.get_mut(slot as usize) {
            *word = Nanos::MAX;
            self.free.push(slot);
        }
    }

    /// The slots whose deadline has passed; each is disarmed. O(slots).
    pub fn expired(&mut self, now: Nanos) -> Vec<u32> {
        let mut passed = Vec::new();
        for (slot, at) in self.at.iter_mut().enumerate() {
            if *at <= now {
                *at = Nanos::MAX;
                passed.push(slot as u32);
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deadline_fires_once_and_slots_are_used_again() {
        let mut d = DeadlineTable::default();
        let (a, b) = (d.add(Nanos(10)), d.add(Nanos(20)));
        assert!(d.expired(Nanos(9)).is_empty());
        assert_eq!(d.expired(Nanos(10)), [a]);
        assert!(d.expired(Nanos(10)).is_empty());
        d.arm(a, Nanos(30));
        assert_eq!(d.expired(Nanos(40)), [a, b]);
        d.remove(a);
        assert_eq!(d.add(Nanos(1)), a);
        d.arm(99, Nanos(1));
    }
}
