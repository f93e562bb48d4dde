//! Words that parts in several processes share: a segment in a file that any of them may add to.

use std::os::fd::RawFd;

use meshcore_core::admission::{Breaker, ClientLimiter, LeasedBudget, TokenBucket};
use meshcore_core::exchange::{Engine, LAYOUT};
use meshcore_core::segment::{
    Block, BlockKind, Line, Origin, Segment, SegmentConfig, SegmentError, WORDS_PER_LINE,
};
use meshcore_core::sync::Ordering;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::tally::Totals;
use crate::clock::now_ns;
use crate::errors::segment_error;

/// The words of one part.
#[pyclass(frozen, module = "meshcore._core")]
pub(crate) struct Words {
    pub(super) block: Block,
    pub(super) seed: [u64; 2],
    pub(super) totals: Totals,
}

/// A part is so many words longer than what it decides by. They tell the rules that it was made with:
/// the bytes of a text plus one, written last, then the text. The last of them are its [`Totals`],
/// which no rule was ever long enough to reach: a file that was made before there were any has zeros.
const RULES: usize = 64;
const TOTALS_AT: usize = RULES - Totals::WORDS;
const MAX_RULES: usize = (TOTALS_AT - 1) * size_of::<u64>();

fn words_of(kind: &str, clients: u64) -> PyResult<(BlockKind, usize)> {
    let (kind, words) = match kind {
        "token_bucket" => (BlockKind::Bucket, TokenBucket::WORDS),
        "client_limiter" => (BlockKind::ClientTable, ClientLimiter::words(clients)),
        "circuit_breaker" => (BlockKind::Breaker, Breaker::WORDS),
        "retry_budget" => (BlockKind::Upstream, LeasedBudget::WORDS),
        _ => return Err(PyValueError::new_err(format!("no shared words for a {kind}"))),
    };
    Ok((kind, words.next_multiple_of(WORDS_PER_LINE)))
}

/// The text of the rules that begins with a word; `None` as long as it is not all there.
///
/// # Orderings
/// `Acquire` pairs with the `Release` of [`write_rules`].
fn rules_at(block: &Block, first: usize) -> Option<String> {
    let bytes = (block.word(first).load(Ordering::Acquire) as usize).checked_sub(1)?;
    let word = |i: usize| block.word(first + 1 + i).load(Ordering::Relaxed).to_le_bytes();
    let mut text: Vec<u8> = (0..bytes.min(MAX_RULES).div_ceil(8)).flat_map(word).collect();
    text.truncate(bytes);
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// # Orderings
/// `Release`: a reader of the length reads the text.
fn write_rules(block: &Block, first: usize, text: &str) {
    for (i, part) in text.as_bytes().chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        block.word(first + 1 + i).store(u64::from_le_bytes(word), Ordering::Relaxed);
    }
    block.word(first).store(text.len() as u64 + 1, Ordering::Release);
}

/// A segment in a file.
#[pyclass(frozen, module = "meshcore._core")]
pub struct SharedWords(Segment);

#[pymethods]
impl SharedWords {
    #[staticmethod]
    fn create(fd: RawFd, size: usize, seed: u64) -> PyResult<Self> {
        let random = Engine::new(seed);
        let seed = [random.random(), random.random()];
        let origin = Origin { seed, layout: LAYOUT, created_ns: now_ns() };
        let config = SegmentConfig { max_bytes: size, worker_slots: 1 };
        Segment::format(fd, config, origin).map(Self).map_err(segment_error)
    }

    #[staticmethod]
    fn open(fd: RawFd) -> PyResult<Self> {
        Segment::map(fd, LAYOUT).map(Self).map_err(segment_error)
    }

    #[getter]
    fn reserved_bytes(&self) -> usize {
        self.0.reserved_bytes()
    }

    #[staticmethod]
    fn clients(clients: u64) -> u64 {
        ClientLimiter::clients(ClientLimiter::words(clients))
    }

    fn bytes_of(&self, kind: &str, name: &str, clients: u64) -> PyResult<usize> {
        let words = words_of(kind, clients)?.1 + RULES + WORDS_PER_LINE;
        Ok(words * size_of::<u64>() + name.len().next_multiple_of(size_of::<Line>()))
    }

    fn names(&self, kind: &str) -> PyResult<Vec<String>> {
        self.0.names_found(words_of(kind, 0)?.0).map_err(segment_error)
    }

    fn find(&self, kind: &str, name: &str) -> PyResult<Option<(Words, String)>> {
        let (number, least) = words_of(kind, 0)?;
        let found = self.0.find_any(number, name).map_err(segment_error)?;
        let Some(block) = found else { return Ok(None) };
        let words = (block.lines().len() * WORDS_PER_LINE).checked_sub(RULES);
        let Some(words) = words.filter(|&words| words >= least) else {
            let why = "a part of it is too short";
            return Err(segment_error(SegmentError::NotASegment(why)));
        };
        let Some(rules) = rules_at(&block, words) else { return Ok(None) };
        let totals = Totals::new(block.clone(), words + TOTALS_AT);
        let block = block.first_words(words);
        Ok(Some((Words { block, seed: self.0.origin().seed, totals }, rules)))
    }

    fn make(
        &self,
        py: Python<'_>,
        kind: &str,
        name: &str,
        clients: u64,
        rules: &str,
    ) -> PyResult<()> {
        if rules.len() > MAX_RULES {
            return Err(PyValueError::new_err(format!("rules of more than {MAX_RULES} bytes")));
        }
        let (kind, words) = words_of(kind, clients)?;
        let made = py.detach(|| self.0.block_once(kind, name, words + RULES));
        write_rules(&made.map_err(segment_error)?, words, rules);
        Ok(())
    }

    fn retire(&self, kind: &str, name: &str) -> PyResult<bool> {
        self.0.retire_once(words_of(kind, 0)?.0, name).map_err(segment_error)
    }
}
