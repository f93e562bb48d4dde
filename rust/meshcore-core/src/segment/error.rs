//! What can go wrong with a segment.

use std::fmt;

use super::kind::BlockKind;

/// Why a segment or a block cannot be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// It does not fit below the limit.
    Full {
        /// The limit, in bytes.
        max_bytes: usize,
        /// The least limit under which it would fit now.
        needed_bytes: usize,
    },
    /// The system has no memory for us, or refuses to map it.
    Memory(std::io::Error),
    /// Worker slots outside 1 to [`MAX_WORKERS`](super::MAX_WORKERS).
    Workers(usize),
    /// There is no such worker slot.
    NoSlot(usize),
    /// Another process has the slot.
    SlotTaken {
        /// The slot.
        slot: usize,
        /// The process.
        pid: u64,
    },
    /// What was opened is not a segment; why.
    NotASegment(&'static str),
    /// A segment of a program that lays its words out differently.
    OtherLayout {
        /// The hash in the segment.
        found: u64,
        /// The hash of this program.
        ours: u64,
    },
    /// An entry that cannot be; the line it is in.
    Corrupt(usize),
    /// Only control adds to a segment, and this name is not in it.
    NotFound {
        /// The kind.
        kind: BlockKind,
        /// The name.
        name: String,
    },
    /// The registry changes faster than it can be read.
    Busy,
    /// This process does not write the registry.
    NotTheWriter,
    /// This process wrote the registry, and another does now.
    HandedOver,
    /// What was to be imported is no export; why.
    BadExport(&'static str),
    /// A name of more than 4,096 bytes.
    LongName(usize),
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { max_bytes, needed_bytes } => write!(
                f,
                "shared memory is full: segment_max is {max_bytes} bytes, set it to at least \
                 {needed_bytes}"
            ),
            Self::Memory(e) => write!(f, "no shared memory: {e}"),
            Self::Workers(n) => write!(f, "{n} worker slots, must be 1 to {}", super::MAX_WORKERS),
            Self::NoSlot(slot) => write!(f, "no worker slot {slot}"),
            Self::SlotTaken { slot, pid } => write!(f, "worker slot {slot} is process {pid}'s"),
            Self::NotASegment(why) => write!(f, "not a shared segment: {why}"),
            Self::OtherLayout { found, ours } => write!(
                f,
                "the shared segment has another layout ({found:016x}, this program's is \
                 {ours:016x})"
            ),
            Self::Corrupt(line) => write!(f, "the shared segment is damaged at line {line}"),
            Self::NotFound { kind, name } => {
                write!(f, "{} {name} is not in the shared segment", kind.code())
            }
            Self::Busy => f.write_str("the shared segment changes all the time"),
            Self::NotTheWriter => f.write_str("this process does not write the shared segment"),
            Self::HandedOver => f.write_str("the registry was handed over"),
            Self::BadExport(why) => write!(f, "not an export of a segment: {why}"),
            Self::LongName(bytes) => write!(f, "a name of {bytes} bytes, at most 4096"),
        }
    }
}

impl std::error::Error for SegmentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Memory(e) => Some(e),
            _ => None,
        }
    }
}
