//! Lines of the access log that wait to be written: put together here, so that a line is no object
//! of Python, neither for who makes it nor for who writes it.

#![expect(
    clippy::disallowed_types,
    reason = "the loop's thread and the one that writes share it, for the length of a copy"
)]

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::answer::Answer;
use crate::engine::{ListenerStack, Peer};
use crate::message::Request;
use crate::ticket::Ticket;

/// The most that is written at once without being mixed up with what other processes write to the
/// same pipe (PIPE_BUF).
const ATOMIC_BYTES: usize = 4096;

/// Whole lines that are written together.
struct Piece {
    text: Vec<u8>,
    lines: usize,
}

#[derive(Default)]
struct Waiting {
    pieces: Vec<Piece>,
    lines: usize,
    dropped: u64,
}

/// For any thread. One who adds never waits for the one who writes but to take what there is.
#[pyclass(frozen, module = "meshcore._core")]
pub struct LogLines {
    json: bool,
    most: usize,
    waiting: Mutex<Waiting>,
}

impl LogLines {
    /// Whether it is the first that waits, so that the writer is to be woken.
    fn put(&self, line: &[u8]) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines >= self.most {
            waiting.dropped += 1;
            return false;
        }
        waiting.lines += 1;
        match waiting.pieces.last_mut() {
            Some(piece) if piece.text.len() + line.len() <= ATOMIC_BYTES => {
                piece.text.extend_from_slice(line);
                piece.lines += 1;
            }
            _ => {
                let mut text = Vec::with_capacity(ATOMIC_BYTES.max(line.len()));
                text.extend_from_slice(line);
                waiting.pieces.push(Piece { text, lines: 1 });
            }
        }
        waiting.lines == 1
    }
}

#[pymethods]
impl LogLines {
    #[new]
    fn new(json: bool, most: usize) -> Self {
        Self { json, most, waiting: Mutex::default() }
    }

    fn add(&self, ticket: &Ticket, request: &Request, peer: &Peer) -> bool {
        let mut first = false;
        ticket.with_line(request, peer, |line| {
            first = self.put(&line.to_bytes(self.json));
        });
        first
    }

    fn add_refused(&self, stack: &ListenerStack, answer: &Answer, sent: bool, peer: &Peer) -> bool {
        self.put(stack.refused_line(answer, sent, peer, self.json).as_bytes())
    }

    fn add_text(&self, line: &str) -> bool {
        self.put(line.as_bytes())
    }

    fn take<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, usize)> {
        let pieces = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.lines = 0;
            std::mem::take(&mut waiting.pieces)
        };
        pieces.iter().map(|piece| (PyBytes::new(py, &piece.text), piece.lines)).collect()
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}
