//! Where every shared word lives.
//!
//! Rooms hold a [`Block`]: some cache lines of words, alive as long as the block is. They never
//! learn what memory it is: today the heap, with workers in several processes a mapping.
#![allow(unsafe_code)] // the one place where memory is mapped and lent out (law 11)

mod block;

pub use block::{Block, COLUMN_WORDS, Line, Shape, WORDS_PER_LINE};
