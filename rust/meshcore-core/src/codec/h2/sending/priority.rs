//! The order in which streams that have something to send are served (RFC 9218).

use std::collections::BTreeSet;

/// What a client wants of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// 0 (first) to 7 (last).
    pub urgency: u8,
    /// Whether a part of the response is of use by itself: it shares with its like.
    pub incremental: bool,
}

impl Default for Priority {
    /// RFC 9218 §4.1, §4.2.
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// Of a stream whose client said nothing: it takes turns with its like. In a mesh streams may
    /// never end, and one that did not ask to come first must not keep the others waiting.
    pub(super) const UNSAID: Self = Self { urgency: 3, incremental: true };

    /// Reads a `priority` field. What is not understood has its default: a bad priority is no
    /// reason to refuse a request (RFC 9218 §4).
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let mut found = Self::default();
        for member in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            match member {
                [b'u', b'=', digit @ b'0'..=b'7'] => found.urgency = digit - b'0',
                b"i" | b"i=?1" => found.incremental = true,
                b"i=?0" => found.incremental = false,
                _ => {}
            }
        }
        found
    }
}

/// One turn in this many is the last one's: however busy the urgent streams are, the others move.
const LAST_ONES_TURN: u32 = 8;

/// Streams with something to send that was not yet sent.
///
/// Among equals those that are not incremental come first, in the order of their numbers; the
/// incremental ones take turns. O(log streams).
#[derive(Debug, Default)]
pub struct Schedule {
    waiting: BTreeSet<(u8, u32, u32)>,
    turn: u32,
}

impl Schedule {
    /// The place of a stream that was served (or came) just now.
    pub fn insert(&mut self, stream: u32, priority: Priority) {
        let turn = if priority.incremental {
            self.turn = self.turn.wrapping_add(1).max(1);
            self.turn
        } else {
            0
        };
        self.waiting.insert((priority.urgency, turn, stream));
    }

    /// Takes the stream whose turn it is, when `served` turns were taken before.
    pub fn next(&mut self, served: u32) -> Option<u32> {
        let last = served % LAST_ONES_TURN == LAST_ONES_TURN - 1;
        let key = if last { self.waiting.pop_last() } else { self.waiting.pop_first() };
        key.map(|(_, _, stream)| stream)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let of = |u, i| Priority { urgency: u, incremental: i };
        for (text, priority) in [
            ("", of(3, false)),
            ("u=0", of(0, false)),
            ("u=7, i", of(7, true)),
            ("i=?1,u=5", of(5, true)),
            ("u=1, i, i=?0", of(1, false)),
            ("u=9", of(3, false)),
            ("u=-1", of(3, false)),
            ("nonsense, u=2;x=1, ,,", of(3, false)),
        ] {
            assert_eq!(Priority::parse(text.as_bytes()), priority, "{text}");
        }
    }

    #[test]
    fn urgent_first_and_like_with_like() {
        let mut schedule = Schedule::default();
        let of = |u, i| Priority { urgency: u, incremental: i };
        schedule.insert(9, of(3, true));
        schedule.insert(1, of(3, true));
        schedule.insert(7, of(3, false));
        schedule.insert(5, of(3, false));
        schedule.insert(3, of(0, true));
        let order: Vec<_> = std::iter::from_fn(|| schedule.next(0)).collect();
        assert_eq!(order, [3, 5, 7, 9, 1]);
    }

    #[test]
    fn the_last_one_moves_too() {
        let mut schedule = Schedule::default();
        let (urgent, idle) = (
            Priority { urgency: 0, incremental: true },
            Priority { urgency: 7, incremental: false },
        );
        schedule.insert(1, urgent);
        schedule.insert(3, idle);
        let mut served = [0; 4];
        for turn in 0..80 {
            let stream = schedule.next(turn).unwrap();
            served[stream as usize] += 1;
            schedule.insert(stream, if stream == 1 { urgent } else { idle });
        }
        assert_eq!((served[1], served[3]), (70, 10));
    }

    #[test]
    fn streams_that_said_nothing_take_turns() {
        let mut schedule = Schedule::default();
        let mut served = Vec::new();
        for stream in [1, 3, 5] {
            schedule.insert(stream, Priority::UNSAID);
        }
        for turn in 1..=6 {
            let stream = schedule.next(turn).expect("a stream");
            served.push(stream);
            schedule.insert(stream, Priority::UNSAID);
        }
        assert_eq!(served, [1, 3, 5, 1, 3, 5]);
    }
}
