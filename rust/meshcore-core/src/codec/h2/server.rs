//! The server side of one HTTP/2 connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use super::config::H2Config;
use super::engine::{Desk, Engine, Side};
use super::inbox::{Broken, Inbox};
use super::memory::{Memory, Socket, waker};
use super::meter::Meter;
use super::priority::Priority;
use super::signal::Signal;
use super::streams::{Stream, broken_signal, reset_signal};
use super::{request, response};
use crate::codec::encode_response::{LocalAnswer, ResponseRules};
use crate::codec::event::{BodyPart, ServerEvent};
use crate::codec::h1_server::ServerRules;
use crate::codec::limits::Limits;
use crate::head::{BodyLength, Headers, ResponseHead};
use crate::time::Nanos;

/// What a server tells.
pub type ServerSignal = Signal<ServerEvent>;

/// Reads the requests of one connection, and writes the responses.
pub type H2Server = Engine<Server>;

type Respond = Option<SendResponse<Bytes>>;

enum State {
    Greeting(Box<Handshake<Socket, Bytes>>),
    Open(Box<Connection<Socket, Bytes>>),
    Closed,
}

/// The server's own part of an [`Engine`].
pub struct Server {
    state: State,
    desk: Desk<Respond, ServerEvent>,
    rules: ServerRules,
}

impl H2Server {
    /// A connection of a listener, at time `now`; nothing was read.
    #[must_use]
    pub fn new(limits: Limits, rules: ServerRules, config: &H2Config, now: Nanos) -> Self {
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(config.streams)
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_local_error_reset_streams(Some(config.error_resets))
            .max_send_buffer_size(config.send_buffer)
            .enable_connect_protocol();
        let state = State::Greeting(Box::new(builder.handshake(Socket)));
        let meter = Meter::new(true, config.resets, config.control_frames, now);
        let server = Server { state, desk: Desk::new(limits), rules };
        Self::of(Memory::default(), meter, server)
    }

    /// A relayed head; `body` is what came with it, `end` its end and the trailers. Gives the bytes
    /// that wait, as [`send_data`](Self::send_data) does.
    pub fn send_response(
        &mut self,
        id: u32,
        head: &ResponseHead,
        rules: &ResponseRules<'_>,
        body: Bytes,
        end: Option<Option<&Headers>>,
    ) -> usize {
        let (response, bodiless) = response::outgoing(head, rules);
        let ends = bodiless || (body.is_empty() && matches!(end, Some(None)));
        self.run(|server| server.send_head(id, response, ends));
        if ends {
            return 0;
        }
        let queued = self.send_data(id, body);
        if let Some(trailers) = end {
            self.send_end(id, trailers);
        }
        queued
    }

    /// An interim (1xx) head.
    pub fn send_informational(&mut self, id: u32, head: &ResponseHead) {
        let response = response::informational(head);
        self.run(|server| {
            if let Some(respond) = server.desk.streams.get(id).and_then(|s| s.head.as_mut()) {
                // Refused only after the final head, when there is nobody to tell.
                let _ = respond.send_informational(response);
            }
        });
    }

    /// A whole local answer.
    pub fn send_answer(&mut self, id: u32, answer: &LocalAnswer<'_>) {
        let (response, ends) = response::local(answer);
        self.run(|server| server.send_head(id, response, ends));
        if !ends {
            self.send_data(id, Bytes::copy_from_slice(answer.body));
            self.send_end(id, None);
        }
    }

    /// Nobody wants to hear of the stream any more. What is queued on it goes out first; a request
    /// that is not read to its end is stopped with NO_ERROR behind it (RFC 9113 §8.1). False: the
    /// stream is still there, and [`Signal::Sent`] follows.
    pub fn leave(&mut self, id: u32) -> bool {
        self.run(|server| server.desk.streams.leave(id));
        self.side.desk.streams.get(id).is_none()
    }

    /// Takes no more streams: GOAWAY in two steps (RFC 9113 §6.8). [`Signal::Closed`] follows when
    /// the last stream is over.
    pub fn drain(&mut self) {
        self.run(|server| match &mut server.state {
            State::Open(connection) => connection.graceful_shutdown(),
            State::Greeting(_) => server.closed(),
            State::Closed => {}
        });
    }
}

impl Side for Server {
    type Head = Respond;
    type Message = ServerEvent;

    fn desk(&mut self) -> &mut Desk<Respond, ServerEvent> {
        &mut self.desk
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn poll_connection(&mut self) {
        let waker = waker(0);
        let mut cx = Context::from_waker(&waker);
        if let State::Greeting(handshake) = &mut self.state {
            match Pin::new(handshake.as_mut()).poll(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => return self.closed(),
                Poll::Ready(Ok(mut connection)) => {
                    self.desk.liveness.open(connection.ping_pong());
                    self.state = State::Open(Box::new(connection));
                }
            }
        }
        while let State::Open(connection) = &mut self.state {
            match connection.poll_accept(&mut cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok((request, respond)))) => self.accept(request, respond),
                Poll::Ready(Some(Err(_)) | None) => return self.closed(),
            }
        }
        if self.desk.liveness.answered(&mut cx) {
            self.desk.tell(0, Signal::Pong);
        }
    }

    fn poll_stream(&mut self, id: u32) {
        match self.desk.read(id) {
            Err(broken) => return self.broken(id, broken),
            Ok(Some(part)) if part.end || !part.bytes.is_empty() => {
                self.desk.tell(id, Signal::Message(ServerEvent::Data(part)));
            }
            Ok(_) => {}
        }
        if self.poll_reset(id) {
            self.desk.start(id);
        }
    }

    fn reset(&mut self, id: u32, reason: Reason) {
        let Some(mut stream) = self.desk.streams.remove(id) else { return };
        match (&mut stream.head, &mut stream.send) {
            (_, Some(send)) => send.send_reset(reason),
            (Some(respond), None) => respond.send_reset(reason),
            (None, None) => {}
        }
    }

    fn abandon(&mut self, reason: Reason) {
        if let State::Open(connection) = &mut self.state {
            connection.abrupt_shutdown(reason);
            self.advance();
        }
        if !self.is_closed() {
            self.closed();
        }
    }

    fn forget(&mut self) {
        std::mem::forget(std::mem::replace(&mut self.state, State::Closed));
    }
}

impl Server {
    fn closed(&mut self) {
        self.state = State::Closed;
        self.desk.close();
    }

    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let id: u32 = respond.stream_id().as_u32();
        let ended = request.body().is_end_stream();
        let head = request::head(&request, ended, &self.desk.limits, &self.rules);
        let priority = request.headers().get("priority").map(|p| Priority::parse(p.as_bytes()));
        let recv = request.into_body();
        let mut inbox = (!ended && head.is_ok())
            .then(|| Inbox::new(recv, self.desk.limits.body, self.desk.limits.trailers));
        if let (Some(inbox), Ok(head)) = (&mut inbox, &head) {
            // Nothing of a tunnel passes before there is one (CVE-2026-2833).
            inbox.paused = head.tunnel().is_some();
        }
        self.desk.streams.insert(id, Stream::new(Some(respond), inbox, None));
        if let Some(priority) = priority {
            self.desk.streams.prioritise(id, priority);
        }
        let mut head = match head {
            Ok(head) => head,
            Err(error) => return self.desk.tell(id, Signal::Refused(error)),
        };
        match self.desk.read(id) {
            Err(broken) => self.broken(id, broken),
            Ok(body) => {
                let body = body.unwrap_or(BodyPart { end: ended, ..BodyPart::default() });
                if body.end && body.trailers.is_none() && head.body == BodyLength::Streamed {
                    // All of it is here: whoever wants to know its length can be told.
                    head.body = match body.bytes.len() {
                        0 => BodyLength::Empty,
                        n => BodyLength::Known(n as u64),
                    };
                }
                self.desk.tell(id, Signal::Message(ServerEvent::Head { head, body }));
                self.poll_reset(id);
            }
        }
    }

    /// Asks whether the client reset a stream; false: it did, and the stream is gone.
    fn poll_reset(&mut self, id: u32) -> bool {
        let Some(stream) = self.desk.streams.get(id) else { return false };
        let waker = waker(id);
        let mut cx = Context::from_waker(&waker);
        let reset = match (&mut stream.head, &mut stream.send) {
            (Some(respond), _) => respond.poll_reset(&mut cx),
            (None, Some(send)) => send.poll_reset(&mut cx),
            (None, None) => Poll::Pending,
        };
        match reset {
            Poll::Pending => true,
            Poll::Ready(Ok(reason)) => {
                let (code, refused, malformed) = (reason.into(), false, false);
                self.gone(id, Signal::Reset { code, refused, malformed });
                false
            }
            Poll::Ready(Err(error)) => {
                self.gone(id, reset_signal(&error));
                false
            }
        }
    }

    fn broken(&mut self, id: u32, broken: Broken) {
        match broken {
            Broken::Stream(_) => self.gone(id, broken_signal(broken)),
            Broken::Refused(_) => {
                if let Some(stream) = self.desk.streams.get(id) {
                    stream.inbox = None;
                }
                self.desk.tell(id, broken_signal(broken));
            }
        }
    }

    fn gone(&mut self, id: u32, signal: ServerSignal) {
        if self.desk.streams.remove(id).is_some_and(|stream| !stream.left) {
            self.desk.tell(id, signal);
        }
    }

    fn send_head(&mut self, id: u32, response: http::Response<()>, ends: bool) {
        let Some(stream) = self.desk.streams.get(id) else { return };
        let Some(mut respond) = stream.head.take() else { return };
        // An error means that the stream was reset: its signal is on the way.
        if let Ok(send) = respond.send_response(response, ends) {
            stream.send = Some(send);
        }
        if ends {
            stream.outbox.close();
            self.desk.streams.remove_if_over(id);
        } else {
            self.poll_reset(id);
        }
    }
}
