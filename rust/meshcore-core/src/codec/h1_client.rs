//! The client side of one HTTP/1.1 connection.

use super::body::{BodyReader, Progress};
use super::error::CodecError;
use super::event::{BodyPart, ClientEvent};
use super::framing::{Facts, Role, facts};
use super::header_rules::{Received, clean_response};
use super::input::{BlockRules, Input};
use super::limits::Limits;
use super::parse::{self, ResponseBlock};
use crate::error::Reason;
use crate::head::{BodyLength, Headers, ResponseHead};

/// Where the connection is.
///
/// ```text
///   Idle ── sent ──▶ Head ── final head ──▶ Body ── body complete ──▶ Idle
///                     └─ interim head ─▶ Head
///   any ── error, or end of a close-delimited body ──▶ Closed
/// ```
#[derive(Debug)]
enum State {
    Idle,
    Head,
    Body(BodyReader),
    Closed(Option<CodecError>),
}

/// What the request was, as far as its response depends on it.
#[derive(Clone, Debug, Default)]
struct Sent {
    head: bool,
    connect: bool,
    upgrade: Option<Box<[u8]>>,
    informational: u8,
}

/// Reads the responses of one connection; one request is outstanding at a time.
#[derive(Debug)]
pub struct H1Client {
    limits: Limits,
    input: Input,
    state: State,
    sent: Sent,
    reusable: bool,
    tunnel: bool,
}

impl H1Client {
    /// A connection on which nothing was sent.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            state: State::Idle,
            sent: Sent::default(),
            reusable: true,
            tunnel: false,
        }
    }

    /// A request goes out; its response is awaited. `head`: the method was HEAD, so the response
    /// has no body; `connect`: it was CONNECT, so a 2xx begins a tunnel.
    ///
    /// Only a connection that [`Self::can_reuse`] takes another request; on any other this changes
    /// nothing.
    pub fn sent(&mut self, head: bool, connect: bool) {
        if self.can_reuse() {
            self.sent = Sent { head, connect, ..Sent::default() };
            self.state = State::Head;
            self.reusable = !connect;
        }
    }

    /// The request just [`Self::sent`] offered to go on with `protocol` (in lower case): a 101 that
    /// names it is an answer to that, and what follows is a tunnel.
    ///
    /// As with CONNECT, the connection carries no other request, whatever the answer: the endpoint
    /// may take what comes next for the tunnel's.
    pub fn allow_upgrade(&mut self, protocol: &[u8]) {
        self.sent.upgrade = Some(protocol.into());
        self.reusable = false;
    }

    /// Whether the response began a tunnel: 101, or 2xx to CONNECT.
    #[must_use]
    pub fn in_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Takes what a read brought; `None`: nothing is complete yet.
    ///
    /// Body ranges of the event refer to `data`. After an interim response ask
    /// [`Self::next_event`], for the final one may have come with it.
    ///
    /// # Errors
    /// `upstream_protocol` for a response that may not pass, or bytes where none were asked for;
    /// it is given again on every later call. The connection must be closed.
    pub fn receive(&mut self, data: &[u8]) -> Result<Option<ClientEvent>, CodecError> {
        let result = match &mut self.state {
            // Inside a body nothing is ever kept, so no bytes bring no event.
            State::Idle | State::Body(_) if data.is_empty() => Ok(None),
            State::Idle => Err(CodecError::bad("unexpected data")),
            State::Head => self.head(data),
            State::Body(reader) => {
                let progress = reader.read(data, 0);
                progress.map(|p| Some(ClientEvent::Data(self.advance(p, data.len()))))
            }
            State::Closed(None) => Ok(None),
            State::Closed(Some(error)) => return Err(*error),
        };
        result.map_err(|error| self.fail(error.of_upstream()))
    }

    /// The next event of what is kept already.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn next_event(&mut self) -> Result<Option<ClientEvent>, CodecError> {
        self.receive(&[])
    }

    /// The peer sends no more; ends a close-delimited body.
    ///
    /// # Errors
    /// `upstream_reset` before the first byte of a response, when another attempt is safe as far
    /// as the response goes; `upstream_protocol` inside one.
    pub fn receive_eof(&mut self) -> Result<Option<ClientEvent>, CodecError> {
        self.reusable = false;
        let untouched = self.input.len() == 0 && self.sent.informational == 0;
        let error = match &self.state {
            State::Idle | State::Closed(None) => None,
            State::Closed(Some(error)) => return Err(*error),
            State::Body(BodyReader::UntilClose) => {
                self.state = State::Closed(None);
                let part = BodyPart { end: true, ..BodyPart::default() };
                return Ok(Some(ClientEvent::Data(part)));
            }
            State::Head if untouched => {
                Some(CodecError::new(Reason::UpstreamReset, "closed before a response"))
            }
            State::Head => Some(CodecError::bad("closed inside a head").of_upstream()),
            State::Body(_) => Some(CodecError::bad("closed inside a body").of_upstream()),
        };
        match error {
            Some(error) => Err(self.fail(error)),
            None => {
                self.state = State::Closed(None);
                Ok(None)
            }
        }
    }

    /// Whether the connection may carry another request: the last response is complete, nothing
    /// followed it, and neither side asked to close. The caller also knows whether the request
    /// itself went out whole.
    #[must_use]
    pub fn can_reuse(&self) -> bool {
        self.reusable && matches!(self.state, State::Idle)
    }

    /// Whether a response is awaited or being read.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Head | State::Body(_))
    }

    /// Whether any byte of the response to the current request has come.
    #[must_use]
    pub fn response_began(&self) -> bool {
        let head = matches!(self.state, State::Head);
        !head || self.input.len() > 0 || self.sent.informational > 0
    }

    fn fail(&mut self, error: CodecError) -> CodecError {
        self.state = State::Closed(Some(error));
        self.input = Input::default();
        self.reusable = false;
        error
    }

    fn head(&mut self, data: &[u8]) -> Result<Option<ClientEvent>, CodecError> {
        let block_rules = BlockRules {
            max_bytes: self.limits.header_bytes,
            max_lines: self.limits.headers + 1,
            leading: 0,
            may_be_empty: false,
            bare_lf: self.limits.lenient.takes_bare_lf(),
        };
        let not_http = |b| (b != b'H').then_some(CodecError::bad("not a status line"));
        let Some(at) = self.input.locate(data, &block_rules, not_http)? else { return Ok(None) };
        let block = self.input.block(&at, data);
        let mended = self.limits.lenient.mend(block)?;
        let parsed = parse::response(mended.as_deref().unwrap_or(block), self.limits.headers)?;
        // The endpoint may see another end of its body than we do.
        self.reusable &= mended.is_none();
        let from = self.input.leave(&at, data);
        let head = self.response_head(parsed)?;
        if head.status < 200 && head.status != 101 {
            if let Some(from) = from {
                self.input.keep(&data[from..]);
            }
            return self.informational(head).map(Some);
        }
        self.reusable &= head.keep_alive;
        let mut reader = BodyReader::new(head.body, &self.limits);
        let body = match from {
            Some(from) => {
                let progress = reader.read(data, from)?;
                self.state = State::Body(reader);
                self.advance(progress, data.len())
            }
            None => {
                let kept = self.input.bytes();
                let mut progress = reader.read(kept, 0)?;
                progress.part.bytes = progress.part.bytes.into_owned(kept);
                let len = kept.len();
                self.input = Input::default();
                self.state = State::Body(reader);
                self.advance(progress, len)
            }
        };
        Ok(Some(ClientEvent::Head { head, body }))
    }

    fn informational(&mut self, head: ResponseHead) -> Result<ClientEvent, CodecError> {
        if self.sent.informational == self.limits.informational {
            // Our rule, and not the endpoint's fault.
            return Err(CodecError::new(Reason::ResponseTooLarge, "too many interim responses"));
        }
        self.sent.informational += 1;
        Ok(ClientEvent::Informational(head))
    }

    fn response_head(&mut self, parsed: ResponseBlock) -> Result<ResponseHead, CodecError> {
        let ResponseBlock { version, status, mut headers } = parsed;
        let facts = facts(&headers, version, Role::Response)?;
        if status == 101 && !self.may_switch(&headers) {
            return Err(CodecError::bad("upgrade that was not offered"));
        }
        self.tunnel = status == 101 || (self.sent.connect && (200..300).contains(&status));
        let body = self.body_length(status, &facts)?;
        // A body that must not be there would be read as the next response (RFC 9112 §6.3, 1).
        let misplaced_body = matches!(status, 100..=199 | 204)
            && (facts.chunked || facts.content_length.is_some_and(|n| n > 0));
        let keep_alive =
            facts.persists(version) && body != BodyLength::UntilClose && !misplaced_body;
        let received = Received { nominates: facts.nominates, upgrade: status == 426 };
        let authenticates = clean_response(&mut headers, received, self.limits.mesh);
        Ok(ResponseHead { version, status, body, keep_alive, authenticates, headers })
    }

    /// RFC 9110 §7.8: to a protocol that was asked for, and to none other.
    fn may_switch(&self, headers: &Headers) -> bool {
        let Some(asked) = &self.sent.upgrade else { return false };
        headers.get(b"upgrade").is_some_and(|to| to.trim_ascii().eq_ignore_ascii_case(asked))
    }

    /// RFC 9112 §6.3, in its order.
    fn body_length(&self, status: u16, facts: &Facts) -> Result<BodyLength, CodecError> {
        if self.tunnel {
            return Ok(BodyLength::UntilClose);
        }
        if self.sent.head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(BodyLength::Empty);
        }
        match facts.content_length {
            Some(n) if self.limits.body.is_some_and(|max| n > max) => {
                Err(CodecError::bad("body too large"))
            }
            Some(0) => Ok(BodyLength::Empty),
            Some(n) => Ok(BodyLength::Known(n)),
            None if facts.chunked => Ok(BodyLength::Streamed),
            None => Ok(BodyLength::UntilClose),
        }
    }

    /// Moves on behind a part of a body in a source of `len` bytes. Bytes behind the end of the
    /// response answer nothing that was asked: they are dropped, and the connection with them.
    fn advance(&mut self, progress: Progress, len: usize) -> BodyPart {
        if progress.part.end {
            self.reusable &= progress.used == len;
            self.state = State::Idle;
        }
        progress.part
    }
}
