//! Where every shared word lives.
//!
//! Rooms hold a [`Block`]: some cache lines of words and a few words in each worker's column,
//! alive as long as the block is. They never learn what memory it is. A [`Segment`] hands blocks
//! out by kind and name; asked again it gives the same words, so a reload forgets nothing, and
//! asked in another process it gives the same words there.
//!
//! # Layout
//! One mapping of as many bytes as the segment may ever take, cut into lines of 64 bytes. Pages
//! cost nothing until they are written.
//! ```text
//! line 0          magic, version, hash of the layout, lines, worker slots, seed (2), made at (ns)
//! line 1          lines ever used, removals counted
//! lines 2–129     a worker slot each pair: process, start, heartbeat, version in force, oldest held,
//!                 sequence, every version from this one on is held, nine older ones that are held
//! lines 130–2,177 the heads of 16,384 chains of entries
//! lines 2,178–    the pool: entries
//! ```
//! An entry is a run of lines: one that describes it, its name, its shared words.
//! ```text
//! hash, next, kind | name bytes << 8 | made for << 24, words, column words, region,
//! stride << 32 | start, retired
//! ```
//! Its columns are elsewhere, side by side with those of other objects, in a region: an entry of
//! its own, which has a column for each worker slot.
//! ```text
//! region │ worker 0: 16 B, 16 B, … │ worker 1: 16 B, 16 B, … │ …
//! ```
//! So 16 bytes of an object cost a worker no line of its own, and still no two workers write one.
//! Whatever is stored is the number of a line or a word, never an address; whatever is read is
//! checked against the mapping before it is followed.
//!
//! # Who writes what
//! One process, control, writes the registry. It publishes an entry by one store of a head, takes
//! it out by one store of its predecessor's link, and may die between any two instructions (rule
//! 4). A retired entry is marked, and stays in its chain until it is not held, so that the next
//! control knows of it ([`Segment::adopt`]). What is free is stored nowhere: it is what no entry
//! takes.
//!
//! A block is freed when it is retired, control's process does not hold it, and no worker holds
//! a version that may have used it: from the one it was made for to the last before it was retired.
//! So a request that never ends keeps what its version uses, and nothing that came later. Workers
//! write their own column, their slot,
//! and the shared words of blocks, all of them single atomic words.
#![allow(unsafe_code)] // the one place where memory is mapped and lent out (rule 11)

mod adopt;
mod block;
mod error;
mod export;
mod import;
mod kind;
mod layout;
mod memory;
mod regions;
mod registry;
mod runs;
mod slots;
mod view;
mod writer;

pub use block::{Block, COLUMN_WORDS, Line, Shape, WORDS_PER_LINE};
pub use error::SegmentError;
pub use import::{Carried, Exported};
pub use kind::BlockKind;
pub use layout::{MAX_WORKERS, layout_hash};
pub use registry::{Segment, SegmentConfig};
pub use slots::Worker;
pub use view::Origin;
