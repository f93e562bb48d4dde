//! The server side of one HTTP/1.1 connection.

use super::asked::Asked;
use super::body::{BodyReader, Progress};
use super::error::CodecError;
use super::event::{BodyPart, ServerEvent};
use super::field::is_token_byte;
use super::input::{BlockRules, Input, Located};
use super::limits::Limits;
use super::misdirected::misdirected;
use super::request_head;
use crate::error::Reason;
use crate::head::{RequestHead, Scheme};
use crate::path::PathRules;

/// What the listener decides about every request.
#[derive(Clone, Copy, Debug)]
pub struct ServerRules {
    /// The scheme of its connections.
    pub scheme: Scheme,
    /// What paths may contain.
    pub paths: PathRules,
    /// Lets CONNECT through (405 otherwise).
    pub connect: bool,
    /// Lets TRACE through (405 otherwise).
    pub trace: bool,
}

impl Default for ServerRules {
    fn default() -> Self {
        Self { scheme: Scheme::Http, paths: PathRules::default(), connect: false, trace: false }
    }
}

/// Where the connection is.
///
/// ```text
///          head complete            body complete
///   Head ─────────────────▶ Body ─────────────────▶ Done ──┐
///    ▲  └──────────── head without body ────────────▶      │ start_next, persistent
///    └─────────────────────────────────────────────────────┘
///   any ── error, or start_next on a connection that may not persist ──▶ Closed
/// ```
/// Pipelined bytes behind which no more are read.
const READ_AHEAD: usize = 16 << 10;

#[derive(Debug)]
enum State {
    Head,
    Body(BodyReader),
    Done,
    Tunnel,
    Closed(Option<CodecError>),
}

/// Reads the requests of one connection, one at a time.
///
/// A read goes in with [`H1Server::receive`] and gives at most one event. When the response is
/// out, [`H1Server::start_next`] and [`H1Server::next_event`] read what was pipelined meanwhile.
#[derive(Debug)]
pub struct H1Server {
    limits: Limits,
    rules: ServerRules,
    input: Input,
    state: State,
    keep_alive: bool,
    /// The request asks for a tunnel: what comes behind it may be the tunnel's.
    asks_tunnel: bool,
    /// Of the request that was refused before it was told.
    asked: Option<Box<Asked>>,
}

impl H1Server {
    /// A connection without a byte read, with the default rules.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_rules(limits, ServerRules::default())
    }

    /// A connection of a listener with these rules.
    #[must_use]
    pub fn with_rules(limits: Limits, rules: ServerRules) -> Self {
        let (input, state) = (Input::default(), State::Head);
        Self { limits, rules, input, state, keep_alive: true, asks_tunnel: false, asked: None }
    }

    /// Takes what a read brought. `None`: nothing is complete yet, or what came belongs to a
    /// request after the current one and is kept.
    ///
    /// Body ranges of the event refer to `data`. O(bytes), no copy of a body that lies in `data`.
    ///
    /// # Errors
    /// A request that may not pass; it is given again on every later call. The caller answers with
    /// the reason's status and closes.
    pub fn receive(&mut self, data: &[u8]) -> Result<Option<ServerEvent>, CodecError> {
        let result = match &mut self.state {
            State::Head => self.head(data),
            State::Body(reader) => {
                let progress = reader.read(data, 0);
                progress
                    .and_then(|p| self.advance(p, data))
                    .map(|part| Some(ServerEvent::Data(part)))
            }
            State::Done => self.keep(data).map(|()| None),
            State::Tunnel => {
                let mut part = BodyPart::default();
                part.bytes.push(0..data.len(), data);
                Ok(Some(ServerEvent::Data(part)))
            }
            State::Closed(None) => Ok(None),
            State::Closed(Some(error)) => return Err(*error),
        };
        result.map_err(|error| self.fail(error, data))
    }

    /// Nothing more is read. Of what is no request yet what was read is kept for the log.
    #[cold]
    fn fail(&mut self, mut error: CodecError, data: &[u8]) -> CodecError {
        if matches!(self.state, State::Head) && self.asked.is_none() {
            let src = self.read_so_far(data);
            let asked = Asked::of_bytes(src);
            if error.reason == Reason::BadRequest {
                error.message = misdirected(src).unwrap_or(error.message);
            }
            self.asked = Some(Box::new(asked));
        }
        self.state = State::Closed(Some(error));
        self.input = Input::default();
        error
    }

    /// The event of what is kept already: call it after [`Self::start_next`].
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn next_event(&mut self) -> Result<Option<ServerEvent>, CodecError> {
        self.receive(&[])
    }

    /// What is known of the request that was refused, or of whose head the rest has not come.
    pub fn asked(&mut self) -> Option<Box<Asked>> {
        let unfinished = matches!(self.state, State::Head) && self.input.len() > 0;
        let refused = self.asked.take();
        refused.or_else(|| unfinished.then(|| Box::new(Asked::of_bytes(self.read_so_far(&[])))))
    }

    fn read_so_far<'a>(&'a self, data: &'a [u8]) -> &'a [u8] {
        let src = if self.input.len() > 0 { self.input.bytes() } else { data };
        &src[..src.len().min(self.limits.header_bytes)]
    }

    /// The response is out: makes ready for the next request. `false`: the connection must be
    /// closed, because the request asked for it, its body was not read to the end, or it failed.
    pub fn start_next(&mut self) -> bool {
        let persists = matches!(self.state, State::Done) && self.keep_alive;
        if persists {
            self.state = State::Head;
        } else if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(None);
        }
        persists
    }

    /// The response began a tunnel: what comes is data, and what came behind the request already
    /// is given here. Until then it could have been another request (CVE-2026-2833).
    pub fn begin_tunnel(&mut self) -> Vec<u8> {
        self.state = State::Tunnel;
        self.keep_alive = false;
        let early = self.input.bytes().to_vec();
        self.input = Input::default();
        early
    }

    /// The client sends no more; ends its side of a tunnel.
    ///
    /// # Errors
    /// `client_gone` if that cuts a request.
    pub fn receive_eof(&mut self) -> Result<Option<ServerEvent>, CodecError> {
        let message = match &self.state {
            State::Head if self.input.len() > 0 => "closed inside a head",
            State::Body(_) => "closed inside a body",
            State::Tunnel => {
                self.state = State::Closed(None);
                let part = BodyPart { end: true, ..BodyPart::default() };
                return Ok(Some(ServerEvent::Data(part)));
            }
            _ => return Ok(None),
        };
        let error = CodecError::new(Reason::ClientGone, message);
        self.state = State::Closed(Some(error));
        Err(error)
    }

    /// Whether more may be read. While pipelined requests wait for their turn only a little: a
    /// client that leaves is seen by reading.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        match self.state {
            State::Head | State::Body(_) | State::Tunnel => true,
            State::Done => self.input.len() < READ_AHEAD,
            State::Closed(_) => false,
        }
    }

    /// Whether the request was read to its end.
    #[must_use]
    pub fn request_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether something of a request behind the current one has come.
    #[must_use]
    pub fn has_pipelined(&self) -> bool {
        matches!(self.state, State::Done) && self.input.len() > 0
    }

    /// Whether nothing of a request has come: the connection waits for one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.input.len() == 0
    }

    fn head(&mut self, data: &[u8]) -> Result<Option<ServerEvent>, CodecError> {
        let block_rules = BlockRules {
            max_bytes: self.limits.header_bytes,
            max_lines: self.limits.headers + 1,
            leading: 1,
            may_be_empty: false,
            bare_lf: false,
        };
        let not_http = |b| (!is_token_byte(b)).then_some(CodecError::bad("invalid method"));
        let Some(at) = self.input.locate(data, &block_rules, not_http)? else { return Ok(None) };
        let block = self.input.block(&at, data);
        let head = request_head::read(block, &self.limits, &self.rules)?;
        self.keep_alive = head.keep_alive;
        self.asks_tunnel = head.tunnel().is_some();
        match self.first_part(&head, &at, data) {
            Ok(body) => Ok(Some(ServerEvent::Head { head, body })),
            Err(error) => {
                self.asked = Some(Box::new(Asked::of_head(&head)));
                Err(error)
            }
        }
    }

    /// What of the body came with its head.
    fn first_part(
        &mut self,
        head: &RequestHead,
        at: &Located,
        data: &[u8],
    ) -> Result<BodyPart, CodecError> {
        let mut reader = BodyReader::new(head.body, &self.limits);
        if let Some(from) = self.input.leave(at, data) {
            let progress = reader.read(data, from)?;
            self.state = State::Body(reader);
            return self.advance(progress, data);
        }
        let kept = self.input.bytes();
        let Progress { mut part, used } = reader.read(kept, 0)?;
        part.bytes = part.bytes.into_owned(kept);
        self.input.consume(used);
        self.state = if part.end { State::Done } else { State::Body(reader) };
        Ok(part)
    }

    /// Moves on behind a part of a body that lies in `data`.
    fn advance(&mut self, progress: Progress, data: &[u8]) -> Result<BodyPart, CodecError> {
        if progress.part.end {
            self.state = State::Done;
            self.keep(&data[progress.used..])?;
        }
        Ok(progress.part)
    }

    /// Keeps pipelined bytes; those behind the last request of a connection mean nothing.
    fn keep(&mut self, data: &[u8]) -> Result<(), CodecError> {
        if !self.keep_alive && !self.asks_tunnel {
            return Ok(());
        }
        if self.input.len() + data.len() > self.limits.pipelined {
            return Err(CodecError::bad("too much pipelined"));
        }
        self.input.keep(data);
        Ok(())
    }
}
