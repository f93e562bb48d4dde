//! The client side of one HTTP/2 connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::Response;

use super::config::H2Config;
use super::engine::{Desk, Engine, Side};
use super::inbox::Inbox;
use super::memory::{Memory, Socket, waker};
use super::meter::Meter;
use super::signal::Signal;
use super::streams::{Stream, broken_signal, reset_signal};
use super::{request, response};
use crate::codec::encode_request::RequestRules;
use crate::codec::error::CodecError;
use crate::codec::event::{BodyPart, ClientEvent};
use crate::codec::limits::Limits;
use crate::head::{BodyLength, Headers, RequestHead, Scheme};
use crate::time::Nanos;

/// What a client tells.
pub type ClientSignal = Signal<ClientEvent>;

/// Sends the requests of one connection, and reads the responses.
pub type H2Client = Engine<Client>;

/// Streams that are opened before the endpoint's SETTINGS say what it takes: 100, what RFC 9113
/// §6.5.2 recommends as the least.
const STREAMS_BEFORE_SETTINGS: usize = 100;

/// What is left to do about a response's head.
#[derive(Debug)]
pub struct Awaited {
    response: Option<ResponseFuture>,
    head_request: bool,
    informational: u8,
}

/// The client's own part of an [`Engine`].
pub struct Client {
    /// `None`: the connection is over.
    open: Option<Box<Open>>,
    desk: Desk<Awaited, ClientEvent>,
    going_away: bool,
    scheme: Scheme,
    max_streams: usize,
}

struct Open {
    connection: Connection<Socket, Bytes>,
    requests: SendRequest<Bytes>,
}

impl H2Client {
    /// A connection to an endpoint at time `now`; the preface waits to be sent.
    #[must_use]
    pub fn new(limits: Limits, scheme: Scheme, config: &H2Config, now: Nanos) -> Self {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_local_error_reset_streams(Some(config.error_resets))
            .max_send_buffer_size(config.send_buffer);
        let mut memory = Memory::default();
        let greeted = memory.enter(|| {
            let greeting = pin!(builder.handshake::<_, Bytes>(Socket));
            greeting.poll(&mut Context::from_waker(&waker(0)))
        });
        let mut desk = Desk::new(limits);
        let open = match greeted {
            Poll::Ready(Ok((requests, mut connection))) => {
                desk.liveness.open(connection.ping_pong());
                Some(Box::new(Open { connection, requests }))
            }
            _ => None,
        };
        let max_streams = config.streams as usize;
        let client = Client { open, desk, going_away: false, scheme, max_streams };
        let meter = Meter::new(false, config.resets, config.control_frames, now);
        Self::of(memory, meter, client)
    }

    /// How many more streams may be opened now.
    pub fn can_open(&mut self) -> usize {
        self.side.can_open()
    }

    /// Whether the endpoint takes an extended CONNECT (RFC 8441 §3).
    #[must_use]
    pub fn can_upgrade(&self) -> bool {
        let open = self.side.open.as_ref();
        open.is_some_and(|open| open.requests.is_extended_connect_protocol_enabled())
    }

    /// Opens a stream with a request; `body` and `end` (with trailers) are what is there of it.
    /// Its number; `None`: no stream can be opened, and nothing was sent.
    ///
    /// # Errors
    /// What cannot be said in HTTP/2.
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        rules: &RequestRules<'_>,
        body: Bytes,
        end: Option<Option<&Headers>>,
    ) -> Result<Option<u32>, CodecError> {
        if self.can_open() == 0 {
            return Ok(None);
        }
        let request = request::outgoing(head, rules, self.side.scheme)?;
        // A tunnel's own bytes follow; its request has none.
        let end = end.filter(|_| rules.upgrade.is_none());
        let ends = body.is_empty() && matches!(end, Some(None));
        let head_request = head.slice(head.method) == b"HEAD";
        let Some(id) = self.run(|client| client.open_stream(request, ends, head_request)) else {
            return Ok(None);
        };
        if !ends {
            self.send_data(id, body);
            if let Some(trailers) = end {
                self.send_end(id, trailers);
            }
        }
        Ok(Some(id))
    }

    /// Nobody wants to hear of the stream any more: it ends, with CANCEL unless it is over.
    pub fn leave(&mut self, id: u32) {
        self.run(|client| client.reset(id, Reason::CANCEL));
    }

    /// Opens no more streams; those that are open go on.
    pub fn retire(&mut self) {
        self.side.going_away = true;
    }
}

impl Side for Client {
    type Head = Awaited;
    type Message = ClientEvent;

    fn desk(&mut self) -> &mut Desk<Awaited, ClientEvent> {
        &mut self.desk
    }

    fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    fn poll_connection(&mut self) {
        let Some(open) = &mut self.open else { return };
        let waker = waker(0);
        let mut cx = Context::from_waker(&waker);
        if Pin::new(&mut open.connection).poll(&mut cx).is_ready() {
            // Streams have more to tell than that the connection is over: each is asked first.
            for id in self.desk.streams.ids() {
                self.poll_stream(id);
            }
            return self.closed();
        }
        let refused = matches!(open.requests.poll_ready(&mut cx), Poll::Ready(Err(_)));
        if refused && !self.going_away {
            self.going_away = true;
            self.desk.tell(0, Signal::GoAway);
        }
        if self.desk.liveness.answered(&mut cx) {
            self.desk.tell(0, Signal::Pong);
        }
    }

    fn poll_stream(&mut self, id: u32) {
        match self.poll_head(id) {
            Poll::Pending => {}
            Poll::Ready(Err(signal)) => return self.gone(id, signal),
            Poll::Ready(Ok(None)) => self.poll_body(id),
            Poll::Ready(Ok(Some(response))) => self.begin(id, response),
        }
        self.desk.start(id);
        self.desk.streams.remove_if_over(id);
    }

    fn reset(&mut self, id: u32, reason: Reason) {
        if let Some(Stream { send: Some(mut send), .. }) = self.desk.streams.remove(id) {
            send.send_reset(reason);
        }
    }

    fn abandon(&mut self, _: Reason) {
        // The crate's client says no GOAWAY of its own; the end of the socket says it.
        self.closed();
    }

    fn forget(&mut self) {
        std::mem::forget(self.open.take());
    }
}

impl Client {
    fn can_open(&self) -> usize {
        match &self.open {
            Some(open) if !self.going_away => {
                let most = open.requests.current_max_send_streams().min(self.max_streams);
                most.saturating_sub(self.desk.streams.len())
            }
            _ => 0,
        }
    }

    fn closed(&mut self) {
        if self.open.take().is_some() {
            self.desk.close();
        }
    }

    fn open_stream(
        &mut self,
        request: http::Request<()>,
        ends: bool,
        head_request: bool,
    ) -> Option<u32> {
        let open = self.open.as_mut()?;
        let (response, send) = open.requests.send_request(request, ends).ok()?;
        let id = send.stream_id().as_u32();
        let awaited = Awaited { response: Some(response), head_request, informational: 0 };
        let mut stream = Stream::new(awaited, None, Some(send));
        stream.awaited = true;
        if ends {
            stream.outbox.close();
        }
        self.desk.streams.insert(id, stream);
        // Leaves its waker behind.
        self.poll_stream(id);
        Some(id)
    }

    /// `Ok(None)`: the head came before.
    fn poll_head(&mut self, id: u32) -> Poll<Result<Option<Response<RecvStream>>, ClientSignal>> {
        let Some(stream) = self.desk.streams.get(id) else { return Poll::Pending };
        let Awaited { response, informational, .. } = &mut stream.head;
        let Some(future) = response else { return Poll::Ready(Ok(None)) };
        let waker = waker(id);
        let mut cx = Context::from_waker(&waker);
        let mut interim = Vec::new();
        while let Poll::Ready(Some(Ok(found))) = future.poll_informational(&mut cx) {
            *informational = informational.saturating_add(1);
            interim.push(found);
        }
        let (too_many, head) = (*informational, Pin::new(future).poll(&mut cx));
        if too_many > self.desk.limits.informational {
            let error = CodecError::bad("too many interim responses").of_upstream();
            return Poll::Ready(Err(Signal::Refused(error)));
        }
        for found in interim {
            match response::head(&found, false, false, &self.desk.limits) {
                Ok(head) => {
                    let event = ClientEvent::Informational(head);
                    self.desk.tell(id, Signal::Message(event));
                }
                Err(error) => return Poll::Ready(Err(Signal::Refused(error))),
            }
        }
        match head {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(Some(response))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(reset_signal(&error))),
        }
    }

    /// The final head, and what came with it.
    fn begin(&mut self, id: u32, response: Response<RecvStream>) {
        let ended = response.body().is_end_stream();
        let Some(stream) = self.desk.streams.get(id) else { return };
        stream.head.response = None;
        stream.awaited = false;
        let head_request = stream.head.head_request;
        let head = response::head(&response, ended, head_request, &self.desk.limits);
        if !ended {
            let mut inbox =
                Inbox::new(response.into_body(), self.desk.limits.body, self.desk.limits.trailers);
            inbox.response = true;
            stream.inbox = Some(inbox);
        }
        let mut head = match head {
            Ok(head) => head,
            Err(error) => return self.gone(id, Signal::Refused(error)),
        };
        match self.desk.read(id) {
            Err(broken) => self.gone(id, broken_signal(broken)),
            Ok(body) => {
                let body = body.unwrap_or(BodyPart { end: true, ..BodyPart::default() });
                if body.end && body.trailers.is_none() && head.body == BodyLength::Streamed {
                    head.body = match body.bytes.len() {
                        0 => BodyLength::Empty,
                        n => BodyLength::Known(n as u64),
                    };
                }
                self.desk.tell(id, Signal::Message(ClientEvent::Head { head, body }));
            }
        }
    }

    fn poll_body(&mut self, id: u32) {
        match self.desk.read(id) {
            Err(broken) => self.gone(id, broken_signal(broken)),
            Ok(Some(part)) if part.end || !part.bytes.is_empty() => {
                self.desk.tell(id, Signal::Message(ClientEvent::Data(part)));
            }
            Ok(_) => {}
        }
    }

    fn gone(&mut self, id: u32, signal: ClientSignal) {
        if let Some(mut stream) = self.desk.streams.remove(id) {
            // It may live on at the endpoint: what we refuse is ours to end.
            if let (Signal::Refused(_), Some(send)) = (&signal, &mut stream.send) {
                send.send_reset(Reason::PROTOCOL_ERROR);
            }
            self.desk.tell(id, signal);
        }
    }
}
