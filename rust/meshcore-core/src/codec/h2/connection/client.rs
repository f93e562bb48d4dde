//! The client side of one HTTP/2 connection.

use bytes::Bytes;

use super::Connection;
use crate::codec::asked::Asked;
use crate::codec::encode_request::RequestRules;
use crate::codec::error::CodecError;
use crate::codec::event::{BodyPart, ClientEvent};
use crate::codec::h2::block::Block;
use crate::codec::h2::config::H2Config;
use crate::codec::h2::errors::Checked;
use crate::codec::h2::frame::code;
use crate::codec::h2::signal::Signal;
use crate::codec::h2::streams::{Over, Stream};
use crate::codec::h2::{HeadError, Side, heads, request, response};
use crate::codec::limits::Limits;
use crate::error::Reason;
use crate::head::{Headers, RequestHead, ResponseHead, Scheme};
use crate::time::Nanos;

/// What a client tells.
pub type ClientSignal = Signal<ClientEvent>;

/// Sends the requests of one connection, and reads the responses.
pub type H2Client = Connection<Client>;

/// The last number that a stream may have (RFC 9113 §5.1.1).
const LAST_STREAM: u32 = 0x7FFF_FFFF;

/// The client's own part of a [`Connection`].
#[derive(Debug)]
pub struct Client {
    scheme: Scheme,
    /// The number of the next stream.
    next: u32,
    going_away: bool,
}

impl H2Client {
    /// A connection to an endpoint at time `now`; the preface waits to be sent.
    #[must_use]
    pub fn new(limits: Limits, scheme: Scheme, config: &H2Config, now: Nanos) -> Self {
        Self::of(Client { scheme, next: 1, going_away: false }, limits, config, now)
    }

    /// How many more streams may be opened at time `now`: none before the endpoint's SETTINGS have
    /// said it, for what is beyond them it may refuse; and none that could become a reset too many
    /// (see `sending::resets`).
    #[must_use]
    pub fn can_open(&mut self, now: Nanos) -> usize {
        self.pass(now);
        self.room()
    }

    fn room(&self) -> usize {
        let over = self.side.going_away || self.side.next > LAST_STREAM;
        if !self.receiving.is_greeted() || self.is_closed() || over {
            return 0;
        }
        self.sending.room(self.streams.len(), self.config.streams as usize)
    }

    /// The same of streams whose bodies would pass at once: none while the window is used up.
    #[must_use]
    pub fn can_carry(&mut self, now: Nanos) -> usize {
        if self.is_clogged() { 0 } else { self.can_open(now) }
    }

    /// Whether others' bodies have used up the connection's window: a request with one would wait
    /// behind them.
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.sending.is_clogged()
    }

    /// Whether the endpoint takes an extended CONNECT (RFC 8441 §3).
    #[must_use]
    pub fn can_upgrade(&self) -> bool {
        self.sending.can_upgrade()
    }

    /// Opens a stream with a request; `body` and `end` (with trailers) are what is there of it.
    /// Its number; `None`: no stream can be opened, and nothing was sent.
    ///
    /// # Errors
    /// What cannot be said in HTTP/2, or to this endpoint (RFC 8441 §3): `headers_too_large` for
    /// more than it takes in a head. Nothing was sent then, and no stream is used.
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        rules: &RequestRules<'_>,
        body: Bytes,
        end: Option<Option<&Headers>>,
    ) -> Result<Option<u32>, CodecError> {
        if self.room() == 0 {
            return Ok(None);
        }
        request::check_sayable(head, rules, self.can_upgrade())?;
        let scheme = self.side.scheme;
        self.sending.check_list(|size| request::write(size, head, rules, scheme))?;
        // A tunnel's own bytes follow; its request has none.
        let end = end.filter(|_| rules.tunnel.is_none());
        let ends = body.is_empty() && matches!(end, Some(None));
        let id = self.side.next;
        self.side.next += 2;
        self.sending.block(id, |block| {
            request::write(block, head, rules, scheme);
            ends
        });
        let mut stream = Stream::new(&self.config, self.sending.initial_window());
        stream.answered = true;
        stream.head_request = head.slice(head.method) == b"HEAD";
        stream.tunnel = rules.tunnel.is_some();
        if ends {
            stream.outbox.close();
        }
        self.streams.insert(id, stream);
        if !ends {
            self.send(id, body, end);
        }
        Ok(Some(id))
    }

    /// The owner is done with the stream: it ends, with CANCEL unless it is over.
    pub fn leave(&mut self, id: u32) {
        self.reset(id, code::CANCEL);
    }

    fn interim(&mut self, id: u32, ends: bool, head: ResponseHead) -> Checked {
        let most = self.limits.informational;
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        let is_one_more = stream.take_interim(most);
        if ends {
            let detail = "END_STREAM with an interim head";
            return self.fail_stream(id, code::PROTOCOL_ERROR, detail);
        }
        if is_one_more {
            self.streams.tell(id, Signal::Message(ClientEvent::Informational(head)));
        } else {
            let error = CodecError::new(Reason::ResponseTooLarge, "too many interim heads");
            self.streams.refuse(id, error);
        }
        Ok(())
    }
}

impl Side for Client {
    type Head = ResponseHead;
    type Message = ClientEvent;
    const SERVER: bool = false;
    const PREFACE: &'static [u8] = b"";
    const GREETING: &'static [u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn head_event(mut head: ResponseHead, body: BodyPart) -> ClientEvent {
        head.body = heads::body_length(head.body, &body);
        ClientEvent::Head { head, body }
    }

    fn body_event(body: BodyPart) -> ClientEvent {
        ClientEvent::Data(body)
    }

    fn asked(_: &ResponseHead) -> Option<Box<Asked>> {
        None
    }

    fn blame(error: CodecError) -> CodecError {
        error.of_upstream()
    }

    fn is_idle(&self, id: u32) -> bool {
        id.is_multiple_of(2) || id >= self.next
    }

    /// An endpoint begins none.
    fn last_processed(&self) -> u32 {
        0
    }

    fn head(connection: &mut H2Client, id: u32, ends: bool, block: Block) -> Checked {
        let Some(stream) = connection.streams.get_mut(id) else {
            return connection.frame_of_no_stream(id);
        };
        match response::head(block, ends, stream.head_request, connection.limits.mesh) {
            Err(HeadError::Malformed(detail)) => {
                connection.fail_stream(id, code::PROTOCOL_ERROR, detail)
            }
            Err(HeadError::Refused(error)) => {
                stream.take_refused(ends);
                connection.streams.refuse(id, error);
                Ok(())
            }
            Ok((head, _)) if head.status < 200 => connection.interim(id, ends, head),
            Ok((head, declared)) => {
                // RFC 9110 §9.3.6: a length says nothing about a tunnel.
                let tunnel = stream.tunnel && head.status < 300;
                match stream.take_head(head, declared.filter(|_| !tunnel), ends) {
                    Ok(()) => connection.streams.touch(id),
                    Err(error) => return connection.stream_error(id, error),
                }
                Ok(())
            }
        }
    }

    /// Streams above the last one were not processed, and never will be.
    fn goaway(connection: &mut H2Client, last: u32) {
        if !connection.side.going_away {
            connection.side.going_away = true;
            connection.streams.tell(0, Signal::GoAway);
        }
        for id in connection.streams.ids().into_iter().filter(|id| *id > last) {
            if connection.remove(id, Over::Ours).is_some() {
                let (code, detail) = (code::REFUSED_STREAM, "beyond the last stream of GOAWAY");
                let (refused, malformed) = (true, false);
                connection.streams.tell(id, Signal::Reset { code, refused, malformed, detail });
            }
        }
    }
}
