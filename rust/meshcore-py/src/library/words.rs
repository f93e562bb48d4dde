//! Words that parts in several processes share: a segment in a file that any of them may add to.

use std::os::fd::RawFd;

use meshcore_core::admission::{Breaker, ClientLimiter, TokenBucket};
use meshcore_core::exchange::{Engine, LAYOUT};
use meshcore_core::segment::{Block, Kind, Origin, Segment, SegmentConfig, SegmentError};
use meshcore_core::sync::Ordering;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::clock::now_ns;
use crate::errors::segment_error;

/// The words of one part.
#[pyclass(frozen, module = "meshcore._core")]
pub(crate) struct Words {
    pub(super) block: Block,
    pub(super) seed: [u64; 2],
}

/// A part is one line longer than its words: the last line tells which rules it was made with.
const RULES: usize = 8;

fn words_of(kind: &str, clients: u64) -> PyResult<(Kind, usize)> {
    let (kind, words) = match kind {
        "token_bucket" => (Kind::Bucket, TokenBucket::WORDS),
        "client_limiter" => (Kind::ClientTable, ClientLimiter::words(clients)),
        "circuit_breaker" => (Kind::Breaker, Breaker::WORDS),
        _ => return Err(PyValueError::new_err(format!("no shared words for a {kind}"))),
    };
    Ok((kind, words.next_multiple_of(RULES) + RULES))
}

/// A segment in a file.
#[pyclass(frozen, module = "meshcore._core")]
pub struct SharedWords(Segment);

#[pymethods]
impl SharedWords {
    #[staticmethod]
    fn create(fd: RawFd, size: usize, seed: u64) -> PyResult<Self> {
        let no = |e| segment_error(SegmentError::Memory(e));
        let fd = Segment::duplicate(fd).map_err(no)?;
        let random = Engine::new(seed);
        let seed = [random.random(), random.random()];
        let origin = Origin { seed, layout: LAYOUT, created_ns: now_ns() };
        let config = SegmentConfig { max_bytes: size, worker_slots: 1 };
        let made = Segment::format(fd, config, origin).map_err(segment_error)?;
        Ok(Self(made.reader()))
    }

    #[staticmethod]
    fn open(fd: RawFd) -> PyResult<Self> {
        let no = |e| segment_error(SegmentError::Memory(e));
        let fd = Segment::duplicate(fd).map_err(no)?;
        Segment::open(fd, LAYOUT).map(|found| Self(found.reader())).map_err(segment_error)
    }

    #[getter]
    fn reserved_bytes(&self) -> usize {
        self.0.reserved_bytes()
    }

    fn bytes_of(&self, kind: &str, clients: u64) -> PyResult<usize> {
        Ok(words_of(kind, clients)?.1 * size_of::<u64>())
    }

    fn find(&self, kind: &str, name: &str, clients: u64, rules: u64) -> PyResult<Option<Words>> {
        let (number, words) = words_of(kind, clients)?;
        let found = self.0.find_any(number, name).map_err(segment_error)?;
        let Some(block) = found else { return Ok(None) };
        let has = block.lines().len() * RULES;
        if has != words {
            let theirs = ClientLimiter::clients(has - RULES);
            let text = format!("{kind} {name} is shared for {theirs} clients, not for {clients}");
            return Err(PyValueError::new_err(text));
        }
        // Zero is what nobody has written yet, or that any rules will do.
        let word = block.word(words - RULES);
        let told = word.compare_exchange(0, rules, Ordering::AcqRel, Ordering::Acquire);
        if rules != 0 && told.is_err_and(|theirs| theirs != rules) {
            let text = format!("{kind} {name} is shared with another rate or burst than these");
            return Err(PyValueError::new_err(text));
        }
        Ok(Some(Words { block, seed: self.0.origin().seed }))
    }

    fn make(&self, py: Python<'_>, kind: &str, name: &str, clients: u64) -> PyResult<()> {
        let (kind, words) = words_of(kind, clients)?;
        let made = py.detach(|| self.0.block_once(kind, name, words));
        made.map(drop).map_err(segment_error)
    }
}
