//! HTTP/2 connections, either side: what both have in common, and the numbers Python knows.

use std::borrow::Cow;

use bytes::Bytes;
use meshcore_core::codec::h2::{self, FrameRate, Signal};
use meshcore_core::codec::{self, Asked, BodyPart, CodecError};
use meshcore_core::head::Headers;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::answer::Answer;
use crate::chunk::Chunk;
use crate::message::{Body, Part};
use crate::numbers;

/// A stream that is over without its message.
#[pyclass(frozen, get_all, module = "meshcore._core")]
pub struct Reset {
    /// `RESET`, `REFUSED` or `MALFORMED`.
    kind: u8,
    /// RFC 9113 §7.
    code: u32,
    /// Why, in few words; for logs.
    detail: Cow<'static, str>,
}

#[pymethods]
impl Reset {
    #[new]
    fn new(kind: u8, code: u32, detail: String) -> Self {
        Self { kind, code, detail: detail.into() }
    }

    fn __repr__(&self) -> String {
        format!("Reset(kind={}, code={}, detail={:?})", self.kind, self.code, self.detail)
    }
}

/// What an HTTP/2 connection allows and asks for.
#[pyclass(frozen, module = "meshcore._core")]
#[derive(Clone, Copy)]
pub struct H2Config(pub(crate) h2::H2Config);

#[pymethods]
impl H2Config {
    #[new]
    #[pyo3(signature = (*, streams=None, stream_window=None, connection_window=None, resets=None, control_frames=None))]
    fn new(
        streams: Option<u32>,
        stream_window: Option<u32>,
        connection_window: Option<u32>,
        resets: Option<(u32, u32)>,
        control_frames: Option<(u32, u32)>,
    ) -> Self {
        let mut config = h2::H2Config::default();
        let rate = |(per_second, burst)| FrameRate { per_second, burst };
        config.streams = streams.unwrap_or(config.streams);
        config.stream_window = stream_window.unwrap_or(config.stream_window);
        config.connection_window = connection_window.unwrap_or(config.connection_window);
        config.resets = resets.map_or(config.resets, rate);
        config.control_frames = control_frames.map_or(config.control_frames, rate);
        Self(config)
    }
}

/// Bytes of Python's, without a copy.
pub(crate) fn shared(data: &Bound<'_, PyBytes>) -> Bytes {
    if data.as_bytes().is_empty() {
        return Bytes::new();
    }
    Bytes::from_owner(PyBackedBytes::from(data.clone()))
}

/// The end of a body that goes out with its head, if it does.
pub(crate) struct End<'a>(Option<Option<Cow<'a, Headers>>>);

impl End<'_> {
    /// As the engine takes it.
    pub(crate) fn get(&self) -> Option<Option<&Headers>> {
        self.0.as_ref().map(Option::as_deref)
    }
}

/// What of a message's body goes out with its head: the bytes, and the end with its trailers.
pub(crate) fn outgoing<'a>(
    py: Python<'_>,
    part: &'a Part,
    trailers: Option<Cow<'a, Headers>>,
) -> (Bytes, End<'a>) {
    (part.shared(py), End(part.body.end.then_some(trailers)))
}

/// The signals of a connection as pairs of stream and object: a message, an answer to what may
/// not pass, a reset, or a number. `None` when there is none.
pub(crate) fn emitted<'py, M>(
    py: Python<'py>,
    signals: Vec<(u32, Signal<M>)>,
    mut message: impl FnMut(M) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    if signals.is_empty() {
        return Ok(None);
    }
    let list = PyList::empty(py);
    for (id, signal) in signals {
        list.append((id, event_of(py, signal, &mut message)?))?;
    }
    Ok(Some(list))
}

/// One of them.
pub(crate) fn event_of<'py, M>(
    py: Python<'py>,
    signal: Signal<M>,
    message: impl FnOnce(M) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match signal {
        Signal::Message(found) => message(found),
        Signal::Refused(error, asked) => refused(py, &error, asked),
        Signal::Reset { code, refused, malformed, detail } => {
            let kind = match (malformed, refused) {
                (true, _) => numbers::Signal::Malformed,
                (_, true) => numbers::Signal::Refused,
                _ => numbers::Signal::Reset,
            };
            let kind = kind as u8;
            Ok(Bound::new(py, Reset { kind, code, detail: detail.into() })?.into_any())
        }
        other => Ok(number(&other).into_pyobject(py)?.into_any()),
    }
}

fn refused<'py>(
    py: Python<'py>,
    error: &CodecError,
    asked: Option<Box<Asked>>,
) -> PyResult<Bound<'py, PyAny>> {
    let answer = Answer::to_codec_error(error.reason, error.message, error.rule);
    Ok(Bound::new(py, answer.about(asked))?.into_any())
}

/// What a signal without a message is to Python.
fn number<M>(signal: &Signal<M>) -> u8 {
    match signal {
        Signal::Writable => numbers::Signal::Writable as u8,
        Signal::Sent => numbers::Signal::Sent as u8,
        Signal::GoAway => numbers::Signal::GoingAway as u8,
        Signal::Pong => numbers::Signal::Pong as u8,
        Signal::Heard => numbers::Signal::Heard as u8,
        Signal::Closed | Signal::Message(_) | Signal::Refused(..) | Signal::Reset { .. } => {
            numbers::Signal::Closed as u8
        }
    }
}

/// More of a body: a chunk unless it ends here.
pub(crate) fn body_event<'py>(py: Python<'py>, body: BodyPart) -> PyResult<Bound<'py, PyAny>> {
    match body.bytes {
        codec::Bytes::Shared(pieces) if !body.end => Ok(Bound::new(py, Chunk(pieces))?.into_any()),
        _ => Ok(Bound::new(py, Body(Part::new(&PyBytes::new(py, b""), body)))?.into_any()),
    }
}

/// What a body is sent from.
#[derive(FromPyObject)]
pub(crate) enum Data<'py> {
    /// Of another HTTP/2 stream.
    Chunk(PyRef<'py, Chunk>),
    /// Of HTTP/1.1.
    Bytes(Bound<'py, PyBytes>),
}

impl Data<'_> {
    /// Hands each piece to `send`, without a copy; what the last one gave.
    pub(crate) fn send(&self, mut send: impl FnMut(Bytes) -> usize) -> usize {
        match self {
            Self::Bytes(data) => send(shared(data)),
            Self::Chunk(chunk) => chunk.0.iter().fold(0, |_, piece| send(piece.clone())),
        }
    }
}
