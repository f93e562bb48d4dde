//! Answers given here, as Python hands them around.

use std::borrow::Cow;

use meshcore_core::codec::{
    Asked, BodyPart, Bytes, OutgoingReply, valid_field_name, valid_field_value,
};
use meshcore_core::error::Reason;
use meshcore_core::exchange::{Answer as CoreAnswer, LocalReply, status_of_reset};
use meshcore_core::head::{Headers, Version};
use meshcore_core::path::PathError;
use pyo3::exceptions::{PyBaseException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyType};

use crate::clock::http_date;
use crate::message::{Body, Part, Request, Response};
use crate::numbers;
use crate::whole::whole;

/// A response made here instead of by an endpoint.
#[pyclass(frozen, module = "meshcore._core")]
#[derive(Clone)]
pub struct Answer {
    reason: Reason,
    /// What in particular, for the log.
    detail: Cow<'static, str>,
    pub(crate) reply: LocalReply,
    /// It goes out as it is, in whatever way the request's protocol says such things.
    is_final: bool,
    /// What was asked for by whom it refuses before there is a request: for the log.
    pub(crate) asked: Option<Box<Asked>>,
}

/// Characters of what was given that are shown.
const SHOWN: usize = 60;

/// A program gives something else by this name.
#[cold]
fn not_given(name: &str, wanted: &str, given: &Bound<'_, PyAny>) -> PyErr {
    match given.repr() {
        Err(error) => error,
        Ok(shown) => {
            let shown: String = shown.to_string_lossy().chars().take(SHOWN).collect();
            PyTypeError::new_err(format!("{name}: expected {wanted}, got {shown}"))
        }
    }
}

fn pairs(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    given.extract().map_err(|_| match given.is_instance_of::<PyDict>() {
        true => {
            not_given("headers", "a list of pairs of texts, as list(headers.items()) is", given)
        }
        false => not_given("headers", "a list of pairs of texts", given),
    })
}

fn octets(given: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    given.extract().map_err(|_| match given.is_instance_of::<PyString>() {
        true => not_given("body", "bytes, as text.encode() gives them", given),
        false => not_given("body", "bytes", given),
    })
}

impl Answer {
    pub(crate) fn local(
        reason: Reason,
        detail: impl Into<Cow<'static, str>>,
        reply: LocalReply,
    ) -> Self {
        Self { reason, reply, detail: detail.into(), is_final: false, asked: None }
    }

    /// The answer to a fault.
    fn to_fault(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..Self::of(reason) }
    }

    /// The answer to what a codec refuses; the rule for targets that was broken is told.
    pub(crate) fn to_codec_error(
        reason: Reason,
        detail: impl Into<Cow<'static, str>>,
        rule: Option<PathError>,
    ) -> Self {
        let answer = CoreAnswer { rule, ..reason.into() };
        let reply = LocalReply::new(&answer, None, None);
        Self { detail: detail.into(), ..Self::local(reason, "", reply) }
    }

    /// It, as the answer to what is known of a request.
    pub(crate) fn about(self, asked: Option<Box<Asked>>) -> Self {
        Self { asked, ..self }
    }

    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }

    /// Runs `send` with the answer as codecs take it: made of trailers for a gRPC call.
    pub(crate) fn with_reply<T>(
        &self,
        request: Option<&Request>,
        keep_alive: bool,
        send: impl FnOnce(&OutgoingReply<'_>) -> T,
    ) -> T {
        let reply = self.reply_to(request);
        let fields: Vec<(&[u8], &[u8])> =
            reply.fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        send(&OutgoingReply {
            status: reply.status,
            headers: &fields,
            body: &reply.body,
            version: request.map_or(Version::Http11, |r| r.head.version),
            head_request: request.is_some_and(Request::is_head),
            keep_alive,
            date: Some(http_date()),
        })
    }

    /// What is said to a request: trailers to a gRPC call.
    fn reply_to(&self, request: Option<&Request>) -> Cow<'_, LocalReply> {
        match request.filter(|request| !self.is_final && request.head.is_grpc()) {
            Some(_) => Cow::Owned(self.reply.for_grpc(self.reason)),
            None => Cow::Borrowed(&self.reply),
        }
    }

    pub(crate) fn of(reason: Reason) -> Self {
        Self::local(reason, "", LocalReply::new(&CoreAnswer::from(reason), None, None))
    }
}

#[pymethods]
impl Answer {
    #[new]
    #[pyo3(signature = (status, headers=Vec::new(), body=Vec::new()))]
    fn new(
        status: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = pairs)] headers: Vec<(String, String)>,
        #[pyo3(from_py_with = octets)] body: Vec<u8>,
    ) -> PyResult<Self> {
        let status = whole("status", status, u64::from(u16::MAX))? as u16;
        if !(200..=599).contains(&status) {
            return Err(PyValueError::new_err(format!("status {status} is not 200 to 599")));
        }
        for (name, value) in &headers {
            if !valid_field_name(name.as_bytes()) || !valid_field_value(value.as_bytes()) {
                return Err(PyValueError::new_err(format!("invalid field {name:?}")));
            }
        }
        let fields = headers.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
        // RFC 9110 §15.3.6: no content, and a length of zero that says so.
        let body = if status == 205 { Vec::new() } else { body };
        Ok(Self::local(Reason::LayerResponse, "", LocalReply { status, fields, body }))
    }

    #[getter]
    fn status(&self) -> u16 {
        self.reply.status
    }

    #[getter(reason)]
    fn code(&self) -> &'static str {
        self.reason.code()
    }

    #[getter]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// It as layers see the response to a request.
    fn as_response(&self, py: Python<'_>, request: &Request) -> Response {
        let reply = self.reply_to(Some(request));
        let mut headers = Headers::default();
        for (name, value) in &reply.fields {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let body =
            BodyPart { bytes: Bytes::Range(0..reply.body.len()), end: true, ..BodyPart::default() };
        let part = Part::new(&PyBytes::new(py, &reply.body), body);
        Response::of_answer(self.reason, reply.status, headers, part)
    }

    /// It with the head that layers left of what `as_response` gave.
    fn with_head_of(&self, request: &Request, response: &Response) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = response.head.headers.iter();
        let reply = LocalReply {
            status: response.head.status,
            fields: headers.map(|(name, value)| (text(name), text(value))).collect(),
            body: self.reply_to(Some(request)).body.clone(),
        };
        Self {
            reason: self.reason,
            detail: self.detail.clone(),
            reply,
            is_final: true,
            asked: None,
        }
    }

    /// The end of a gRPC response under way.
    fn trailers(&self, py: Python<'_>) -> Body {
        let mut trailers = Headers::default();
        for (name, value) in self.reply.for_grpc(self.reason).fields {
            if name != "content-type" {
                trailers.push(name.as_bytes(), value.as_bytes());
            }
        }
        let body =
            BodyPart { end: true, trailers: Some(Box::new(trailers)), ..BodyPart::default() };
        Body(Part::new(&PyBytes::new(py, b""), body))
    }

    /// The number of its reason.
    #[getter]
    fn number(&self) -> u8 {
        self.reason as u8
    }

    #[pyo3(name = "about")]
    fn about_request(&self, request: &Request) -> Self {
        self.clone().about(Some(Box::new(Asked::of_head(&request.head))))
    }

    #[classmethod]
    fn for_codec_error(
        _: &Bound<'_, PyType>,
        error: &Bound<'_, PyBaseException>,
    ) -> PyResult<Self> {
        let args = error.getattr("args")?;
        let number: usize = args.get_item(1)?.extract()?;
        let detail: String = args.get_item(2)?.extract()?;
        let rule: Option<usize> = args.get_item(3).and_then(|rule| rule.extract()).unwrap_or(None);
        let rule = rule.and_then(|rule| PathError::ALL.get(rule).copied());
        Ok(Self::to_codec_error(numbers::reason(number), detail, rule))
    }

    #[classmethod]
    fn with_detail(_: &Bound<'_, PyType>, reason: usize, detail: &str) -> PyResult<Self> {
        let Some(known) = Reason::ALL.get(reason) else {
            return Err(PyValueError::new_err(format!("no reason {reason}")));
        };
        if detail.contains(['"', '\\']) || detail.contains(char::is_control) {
            return Err(PyValueError::new_err(format!("{detail:?} needs escaping")));
        }
        let reply = LocalReply::with_detail(&CoreAnswer::from(*known), detail);
        Ok(Self::local(*known, detail.to_owned(), reply))
    }

    #[classmethod]
    #[pyo3(signature = (reason, detail="", code=None))]
    fn for_reason(
        _: &Bound<'_, PyType>,
        reason: usize,
        detail: &str,
        code: Option<u32>,
    ) -> PyResult<Self> {
        let Some(known) = Reason::ALL.get(reason) else {
            return Err(PyValueError::new_err(format!("no reason {reason}")));
        };
        let mut answer = Self::to_fault(*known, detail.to_owned());
        if let Some(status) = code.map(status_of_reset) {
            answer.reply.fields.push(("grpc-status".to_owned(), status.to_string()));
        }
        Ok(answer)
    }
}
