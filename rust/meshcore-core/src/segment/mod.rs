//! Where every shared word lives.
//!
//! Rooms hold a [`Block`]: some cache lines of words and a few words in each worker's column,
//! alive as long as the block is. They never learn what memory it is. A [`Segment`] hands blocks
//! out by kind and name; asked again it gives the same words, so a reload forgets nothing.
//!
//! # Layout
//! The memory is a list of chunks, each a run of cache lines that never moves:
//! ```text
//! chunk of lines     │ block │ block     │ block │ free …                 what all workers share
//! chunk of columns   │ worker 0: 16 B, 16 B, … │ worker 1: 16 B, 16 B, … │ …
//! ```
//! A block is a place: chunk, first line, first word of the columns; no address is stored, so a
//! process that maps the same chunks elsewhere finds the same words. Columns are worker-major:
//! 16 bytes of an object cost a worker no line of its own, and still no two workers write one.
//!
//! Only control changes the registry (`&mut Segment`), and a word that is half way between two
//! states does not exist (law 3), so a process may die between any two instructions.
#![allow(unsafe_code)] // the one place where memory is mapped and lent out (law 11)

mod arena;
mod block;
mod memory;
mod registry;
mod runs;

pub use arena::SegmentError;
pub use block::{Block, COLUMN_WORDS, Line, Shape, WORDS_PER_LINE};
pub use registry::{Kind, MAX_WORKERS, Segment, SegmentConfig};
