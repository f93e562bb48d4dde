//! Messages as Python sees them: heads stay in Rust until somebody asks for a field.

use meshcore_core::codec::{
    BodyPart, Bytes, HeaderOps, encode_last_chunk, is_codecs_own, valid_field_name,
    valid_field_value,
};
use meshcore_core::exchange::status_in;
use meshcore_core::head::{BodyLength, Headers, RequestHead, ResponseHead, Version};
use std::borrow::Cow;
use std::io::Write;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;

/// Part of a body, and the read that it lies in.
pub(crate) struct Part {
    data: Py<PyBytes>,
    pub(crate) body: BodyPart,
}

impl Part {
    pub(crate) fn new(data: &Bound<'_, PyBytes>, body: BodyPart) -> Self {
        Self { data: data.clone().unbind(), body }
    }

    pub(crate) fn len(&self) -> usize {
        self.body.bytes.len()
    }

    /// The bytes for an HTTP/2 stream: shared where they can be.
    pub(crate) fn shared(&self, py: Python<'_>) -> bytes::Bytes {
        match &self.body.bytes {
            Bytes::None => bytes::Bytes::new(),
            Bytes::Shared(pieces) if pieces.len() == 1 => pieces[0].clone(),
            _ => {
                let mut out = Vec::with_capacity(self.len());
                self.append_to(py, &mut out);
                out.into()
            }
        }
    }

    pub(crate) fn append_to(&self, py: Python<'_>, out: &mut Vec<u8>) {
        self.body.bytes.append_to(self.data.as_bytes(py), out);
    }

    /// The bytes: the read itself when they are all of it, else a copy.
    pub(crate) fn bytes(&self, py: Python<'_>) -> Py<PyBytes> {
        let data = self.data.as_bytes(py);
        match &self.body.bytes {
            Bytes::Range(r) if r.len() == data.len() => self.data.clone_ref(py),
            Bytes::Range(r) => PyBytes::new(py, &data[r.clone()]).unbind(),
            Bytes::Owned(bytes) => PyBytes::new(py, bytes).unbind(),
            Bytes::Shared(pieces) if pieces.len() == 1 => PyBytes::new(py, &pieces[0]).unbind(),
            _ => {
                let mut out = Vec::with_capacity(self.len());
                self.append_to(py, &mut out);
                PyBytes::new(py, &out).unbind()
            }
        }
    }
}

/// Pieces of a body as HTTP/2 frames brought them: they go on to another stream as they are.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Chunk(pub(crate) SmallVec<[bytes::Bytes; 1]>);

#[pymethods]
impl Chunk {
    fn __len__(&self) -> usize {
        self.0.iter().map(bytes::Bytes::len).sum()
    }

    /// Joined, in one copy.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match &self.0[..] {
            [only] => Ok(PyBytes::new(py, only)),
            pieces => PyBytes::new_with_writer(py, self.__len__(), |writer| {
                pieces.iter().try_for_each(|piece| writer.write_all(piece))?;
                Ok(())
            }),
        }
    }
}

/// More of a body.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Body(pub(crate) Part);

#[pymethods]
impl Body {
    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyBytes> {
        self.0.bytes(py)
    }

    #[getter]
    fn end(&self) -> bool {
        self.0.body.end
    }
}

impl Body {
    /// The last chunk and the trailer fields, as they are sent on.
    pub(crate) fn chunked_end(&self, py: Python<'_>, ops: &HeaderOps) -> Py<PyBytes> {
        let mut out = Vec::with_capacity(64);
        encode_last_chunk(&mut out, self.0.body.trailers.as_deref(), ops);
        PyBytes::new(py, &out).unbind()
    }

    /// The trailer fields.
    pub(crate) fn trailers<'a>(&'a self, ops: &HeaderOps) -> Option<Cow<'a, Headers>> {
        self.0.body.trailers.as_deref().map(|trailers| ops.trimmed(trailers))
    }
}

/// Not frozen: a layer may change its fields before it is sent on.
#[pyclass(module = "meshcore._core")]
pub struct Request {
    pub(crate) head: RequestHead,
    pub(crate) part: Part,
}

impl Request {
    pub(crate) fn head(&self) -> &RequestHead {
        &self.head
    }

    pub(crate) fn is_head(&self) -> bool {
        self.head.slice(self.head.method) == b"HEAD"
    }

    fn text(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn end(&self) -> bool {
        self.part.body.end
    }

    #[getter]
    fn chunked(&self) -> bool {
        self.head.body == BodyLength::Streamed
    }

    /// Whether it asks for a tunnel: an upgrade or CONNECT.
    #[getter]
    fn tunnel(&self) -> bool {
        self.head.tunnel().is_some()
    }

    /// RFC 9110 §9.2.2, without those that no proxy should repeat unasked.
    #[getter]
    fn idempotent(&self) -> bool {
        matches!(
            self.head.slice(self.head.method),
            b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"
        )
    }

    #[getter]
    fn expects_continue(&self) -> bool {
        self.head.expect_continue
    }

    #[getter]
    fn method(&self) -> String {
        self.text(self.head.slice(self.head.method))
    }

    #[getter]
    fn path(&self) -> String {
        self.text(self.head.slice(self.head.path))
    }

    #[getter]
    fn query(&self) -> Option<String> {
        self.head.query.map(|q| self.text(self.head.slice(q)))
    }

    #[getter]
    fn host(&self) -> String {
        self.text(self.head.slice(self.head.host))
    }

    #[getter]
    fn http_version(&self) -> &'static str {
        match self.head.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        get(&self.head.headers, name)
    }

    fn headers(&self) -> Vec<(String, String)> {
        all(&self.head.headers)
    }

    fn set_header(&mut self, name: &str, value: &str) -> PyResult<()> {
        set(&mut self.head.headers, name, value)
    }

    fn remove_header(&mut self, name: &str) -> PyResult<bool> {
        remove(&mut self.head.headers, name)
    }
}

/// Not frozen: a layer may change its fields before it is sent on.
#[pyclass(module = "meshcore._core")]
pub struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) part: Part,
    pub(crate) informational: bool,
    /// Whether bytes of another protocol follow, as far as the endpoint is concerned.
    pub(crate) tunnel: bool,
}

impl Response {
    /// The gRPC status, where it is here already.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        let body = &self.part.body;
        status_in(&self.head.headers, body.trailers.as_deref(), body.end)
    }
}

#[pymethods]
impl Response {
    #[getter]
    fn informational(&self) -> bool {
        self.informational
    }

    #[getter]
    pub(crate) fn begins_tunnel(&self) -> bool {
        self.tunnel
    }

    #[getter]
    fn end(&self) -> bool {
        self.part.body.end
    }

    #[getter]
    fn status(&self) -> u16 {
        self.head.status
    }

    fn header(&self, name: &str) -> Option<String> {
        get(&self.head.headers, name)
    }

    fn headers(&self) -> Vec<(String, String)> {
        all(&self.head.headers)
    }

    fn set_header(&mut self, name: &str, value: &str) -> PyResult<()> {
        set(&mut self.head.headers, name, value)
    }

    fn remove_header(&mut self, name: &str) -> PyResult<bool> {
        remove(&mut self.head.headers, name)
    }
}

fn get(headers: &Headers, name: &str) -> Option<String> {
    let value = headers.get(name.to_ascii_lowercase().as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn all(headers: &Headers) -> Vec<(String, String)> {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    headers.iter().map(|(n, v)| (text(n), text(v))).collect()
}

fn writable(name: &str) -> PyResult<String> {
    let lower = name.to_ascii_lowercase();
    if !valid_field_name(lower.as_bytes()) {
        return Err(PyValueError::new_err(format!("invalid field name {name:?}")));
    }
    if is_codecs_own(lower.as_bytes()) {
        return Err(PyValueError::new_err(format!("{lower} is set by the codec")));
    }
    Ok(lower)
}

fn set(headers: &mut Headers, name: &str, value: &str) -> PyResult<()> {
    let lower = writable(name)?;
    if !valid_field_value(value.as_bytes()) {
        return Err(PyValueError::new_err(format!("invalid value for {lower}")));
    }
    headers.set(lower.as_bytes(), value.as_bytes());
    Ok(())
}

fn remove(headers: &mut Headers, name: &str) -> PyResult<bool> {
    Ok(headers.remove(writable(name)?.as_bytes()))
}
