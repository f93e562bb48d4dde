//! Messages as Python sees them: heads stay in Rust until a field is asked for.

use meshcore_core::codec::{
    BodyPart, Bytes, encode_last_chunk, is_codecs_own, take_out, valid_field_name,
    valid_field_value,
};
use meshcore_core::error::Reason;
use meshcore_core::exchange::{Changed, Client, RequestTicket, status_in};
use meshcore_core::head::{BodyLength, Headers, RequestHead, ResponseHead, Scheme, Version};
use std::borrow::Cow;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::bodies;
use crate::engine::Peer;
use crate::trace::Trace;

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

    /// Whether the message has some here, or behind this.
    fn may_have_trailers(&self) -> bool {
        !self.body.end || self.body.trailers.is_some()
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

    /// Those that came with the end.
    #[getter]
    fn trailers<'py>(&self, py: Python<'py>) -> PyResult<Vec<FieldText<'py>>> {
        self.0.body.trailers.as_deref().map_or_else(|| Ok(Vec::new()), |found| all(py, found))
    }

    /// The end of one, with these trailers.
    #[staticmethod]
    fn ending(py: Python<'_>, trailers: Vec<(String, Bound<'_, PyString>)>) -> PyResult<Self> {
        bodies::ending(py, &trailers)
    }
}

/// The last chunk of a body, and the trailers that are sent on.
pub(crate) fn last_chunk(
    py: Python<'_>,
    trailers: Option<Cow<'_, Headers>>,
    as_written: bool,
) -> Py<PyBytes> {
    let mut out = Vec::with_capacity(64);
    encode_last_chunk(&mut out, trailers.as_deref(), as_written);
    PyBytes::new(py, &out).unbind()
}

/// Not frozen: a layer may change its fields before it is sent on.
#[pyclass(module = "meshcore._core")]
pub struct Request {
    pub(crate) head: RequestHead,
    pub(crate) part: Part,
    /// Once a layer is to see it. In a box: few are shown, and Python allocates what is larger
    /// than 512 bytes less quickly.
    shown: Option<Box<Shown>>,
    /// What its layers share; made when it is asked for.
    state: Option<Py<PyDict>>,
}

/// What layers may ask of a request beside its message, and what they did to that. Nothing of the
/// configuration: a request that is kept keeps none of it.
struct Shown {
    peer: Py<Peer>,
    /// As limits and the log know it: its ticket found it before any layer.
    client: Client,
    route: Option<Arc<str>>,
    trace: Option<Trace>,
    changed: Changed,
}

impl Request {
    pub(crate) fn new(head: RequestHead, part: Part) -> Self {
        Self { head, part, shown: None, state: None }
    }

    pub(crate) fn head(&self) -> &RequestHead {
        &self.head
    }

    pub(crate) fn is_head(&self) -> bool {
        self.head.slice(self.head.method) == b"HEAD"
    }

    fn authority<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        let authority = self.head.slice(self.head.authority);
        (!authority.is_empty()).then(|| text(py, authority)).transpose()
    }

    fn text(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// A layer is to see it: what its ticket knows of it.
    pub(crate) fn show(&mut self, peer: &Bound<'_, Peer>, ticket: &RequestTicket) {
        let route = ticket.route().map(|route| Arc::clone(&route.name));
        let (peer, client) = (peer.clone().unbind(), ticket.client().clone());
        let (trace, changed) = (ticket.trace().map(Trace::new), Changed::default());
        self.shown = Some(Box::new(Shown { peer, client, route, trace, changed }));
    }

    /// The same of one that goes on, if it was shown: its layers see it again beside the response.
    pub(crate) fn show_again(&mut self, ticket: &RequestTicket) {
        if let Some(shown) = &mut self.shown {
            shown.route = ticket.route().map(|route| Arc::clone(&route.name));
            shown.trace = ticket.trace().map(Trace::new);
        }
    }

    /// The fields that layers set or took out.
    pub(crate) fn changed(&self) -> Option<&Changed> {
        self.shown.as_ref().map(|shown| &shown.changed)
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

    #[getter]
    fn idempotent(&self) -> bool {
        self.head.is_idempotent()
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
    fn raw_path(&self) -> String {
        self.text(self.head.slice(self.head.raw_path))
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
    fn scheme(&self) -> &'static str {
        match self.head.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.state)
    }

    fn __clear__(&mut self) {
        self.state = None;
    }

    #[getter]
    fn client(&self) -> Option<String> {
        let shown = self.shown.as_ref()?;
        Some(shown.client.text(&shown.peer.get().0).into_owned())
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> Option<Py<Peer>> {
        self.shown.as_ref().map(|shown| shown.peer.clone_ref(py))
    }

    #[getter]
    fn route(&self) -> Option<String> {
        self.shown.as_ref()?.route.as_deref().map(str::to_owned)
    }

    #[getter]
    fn trace(&self) -> Option<Trace> {
        self.shown.as_ref()?.trace.clone()
    }

    #[getter]
    fn state(&mut self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        Ok(self.state.get_or_insert_with(|| PyDict::new(py).unbind()).clone_ref(py))
    }

    #[getter]
    fn http_version(&self) -> &'static str {
        match self.head.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        }
    }

    /// `host` is the one authority of the request, whichever way it was said.
    fn header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        if name.eq_ignore_ascii_case("host") {
            return self.authority(py);
        }
        get(py, &self.head.headers, name)
    }

    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Vec<FieldText<'py>>> {
        let host = self.authority(py)?.map(|value| (PyString::new(py, "host"), value));
        let others = self.head.headers.iter().filter(|(name, _)| *name != b"host");
        host.map(Ok).into_iter().chain(others.map(|field| pair(py, field))).collect()
    }

    fn set_header(&mut self, name: &str, value: &Bound<'_, PyString>) -> PyResult<()> {
        let (name, text) = field(name, value)?;
        self.drop_field(&name);
        self.head.headers.push_folded(&name, &text);
        Ok(())
    }

    fn add_header(&mut self, name: &str, value: &Bound<'_, PyString>) -> PyResult<()> {
        let (name, value) = field(name, value)?;
        self.head.headers.push(&name, &value);
        Ok(())
    }

    fn remove_header(&mut self, name: &str) -> PyResult<bool> {
        Ok(self.drop_field(writable(name)?.as_bytes()))
    }
}

impl Request {
    /// Of what the client said of a field nothing passes, its trailers included.
    fn drop_field(&mut self, name: &[u8]) -> bool {
        if let Some(shown) = &mut self.shown
            && self.part.may_have_trailers()
        {
            shown.changed.note(name);
        }
        take_out(&mut self.head.headers, name)
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
    /// Why it is made here instead of by an endpoint.
    local: Option<Reason>,
    /// The fields that layers set or took out.
    pub(crate) changed: Changed,
}

impl Response {
    pub(crate) fn new(head: ResponseHead, part: Part, informational: bool, tunnel: bool) -> Self {
        Self { head, part, informational, tunnel, local: None, changed: Changed::default() }
    }

    /// An answer of ours, as layers see it.
    pub(crate) fn of_answer(reason: Reason, status: u16, headers: Headers, part: Part) -> Self {
        let body = BodyLength::Known(part.len() as u64);
        let (version, keep_alive, authenticates) = (Version::Http11, true, false);
        let head = ResponseHead { version, status, body, keep_alive, authenticates, headers };
        Self { local: Some(reason), ..Self::new(head, part, false, false) }
    }

    /// The gRPC status, where it is here already.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        let body = &self.part.body;
        status_in(&self.head.headers, body.trailers.as_deref(), body.end)
    }
}

#[pymethods]
impl Response {
    #[getter]
    fn authenticates(&self) -> bool {
        self.head.authenticates
    }

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

    /// Why it was made here; `None` for an endpoint's.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.local.map(Reason::code)
    }

    #[getter]
    fn status(&self) -> u16 {
        self.head.status
    }

    fn header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        get(py, &self.head.headers, name)
    }

    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Vec<FieldText<'py>>> {
        all(py, &self.head.headers)
    }

    fn set_header(&mut self, name: &str, value: &Bound<'_, PyString>) -> PyResult<()> {
        let (name, text) = field(name, value)?;
        self.drop_field(&name);
        self.head.headers.push_folded(&name, &text);
        Ok(())
    }

    fn add_header(&mut self, name: &str, value: &Bound<'_, PyString>) -> PyResult<()> {
        let (name, value) = field(name, value)?;
        self.head.headers.push(&name, &value);
        Ok(())
    }

    fn remove_header(&mut self, name: &str) -> PyResult<bool> {
        Ok(self.drop_field(writable(name)?.as_bytes()))
    }
}

impl Response {
    /// Of what the endpoint said of a field nothing passes, its trailers included.
    fn drop_field(&mut self, name: &[u8]) -> bool {
        if self.part.may_have_trailers() {
            self.changed.note(name);
        }
        take_out(&mut self.head.headers, name)
    }
}

/// A field's name and value.
pub(crate) type FieldText<'py> = (Bound<'py, PyString>, Bound<'py, PyString>);

/// Octets that are not UTF-8 become lone surrogates, as of `os.fsdecode`: set again, they are what
/// they were.
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => {
            let decoded =
                PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogateescape"))?;
            Ok(decoded.cast_into()?)
        }
    }
}

pub(crate) fn octets<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(text) = text.to_str() {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let encoded = text.call_method1("encode", ("utf-8", "surrogateescape"))?;
    Ok(Cow::Owned(encoded.extract::<Vec<u8>>()?))
}

fn get<'py>(
    py: Python<'py>,
    headers: &Headers,
    name: &str,
) -> PyResult<Option<Bound<'py, PyString>>> {
    headers.get(name.to_ascii_lowercase().as_bytes()).map(|value| text(py, value)).transpose()
}

pub(crate) fn all<'py>(py: Python<'py>, headers: &Headers) -> PyResult<Vec<FieldText<'py>>> {
    headers.iter().map(|field| pair(py, field)).collect()
}

fn pair<'py>(py: Python<'py>, (name, value): (&[u8], &[u8])) -> PyResult<FieldText<'py>> {
    Ok((text(py, name)?, text(py, value)?))
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

/// A field that may be written.
pub(crate) fn field<'a>(
    name: &str,
    value: &'a Bound<'_, PyString>,
) -> PyResult<(Vec<u8>, Cow<'a, [u8]>)> {
    let lower = writable(name)?;
    let value = octets(value)?;
    if !valid_field_value(&value) {
        return Err(PyValueError::new_err(format!("invalid value for {lower}")));
    }
    Ok((lower.into_bytes(), value))
}
