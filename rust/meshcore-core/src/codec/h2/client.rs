//! The client side of one HTTP/2 connection.

use bytes::Bytes;

use super::block::Block;
use super::config::H2Config;
use super::engine::Over;
use super::frame::code;
use super::frames::{Checked, SHORT_BODY};
use super::inbox::Inbox;
use super::signal::Signal;
use super::stream::Stream;
use super::writer::{BlockWriter, ListSize};
use super::{Engine, HIGH_WATER, HeadError, Side, heads, request, response};
use crate::codec::asked::Asked;
use crate::codec::encode_request::RequestRules;
use crate::codec::error::CodecError;
use crate::codec::event::{BodyPart, ClientEvent};
use crate::codec::limits::Limits;
use crate::error::Reason;
use crate::head::{Headers, RequestHead, ResponseHead, Scheme};
use crate::time::Nanos;

/// What a client tells.
pub type ClientSignal = Signal<ClientEvent>;

/// Sends the requests of one connection, and reads the responses.
pub type H2Client = Engine<Client>;

/// The last number that a stream may have (RFC 9113 §5.1.1).
const LAST_STREAM: u32 = 0x7FFF_FFFF;
/// Output that the endpoint has not taken, beyond which no stream is opened.
const MAX_OUT: usize = 8 * HIGH_WATER;

/// The client's own part of an [`Engine`].
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
    /// (see [`super::resets`]).
    #[must_use]
    pub fn can_open(&mut self, now: Nanos) -> usize {
        self.pass(now);
        self.room()
    }

    fn room(&self) -> usize {
        let over = self.side.going_away || self.side.next > LAST_STREAM;
        // Streams that were opened and given up are gone; their bytes wait all the same.
        if !self.greeted || self.is_closed() || over || self.out.len() > MAX_OUT {
            return 0;
        }
        let most = self.remote.max_streams.min(self.config.streams as usize);
        let open = self.streams.len();
        most.saturating_sub(open).min(self.resets.left(open).unwrap_or(usize::MAX))
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
        self.send_window <= 0
    }

    /// Whether the endpoint takes an extended CONNECT (RFC 8441 §3).
    #[must_use]
    pub fn can_upgrade(&self) -> bool {
        self.remote.connect_protocol
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
        if self.remote.list_bytes < usize::MAX {
            // Counted before the encoder sees it: its table must stay in step with the endpoint's.
            let mut size = ListSize::default();
            request::write(&mut size, head, rules, self.side.scheme);
            size.check(self.remote.list_bytes)?;
        }
        // A tunnel's own bytes follow; its request has none.
        let end = end.filter(|_| rules.tunnel.is_none());
        let ends = body.is_empty() && matches!(end, Some(None));
        let id = self.side.next;
        self.side.next += 2;
        self.out();
        let mut block = BlockWriter::begin(&mut self.encoder, &mut self.out);
        request::write(&mut block, head, rules, self.side.scheme);
        block.end(id, ends);
        let inbox = Inbox::new(self.first_window(), self.config.stream_window);
        let mut stream = Stream::new(inbox, self.remote.initial_window);
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
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.informational = stream.informational.saturating_add(1);
        if ends {
            let detail = "END_STREAM with an interim head";
            return self.fail_stream(id, code::PROTOCOL_ERROR, detail);
        }
        if stream.informational > most {
            self.refuse(id, CodecError::new(Reason::ResponseTooLarge, "too many interim heads"));
            return Ok(());
        }
        self.signals.push((id, Signal::Message(ClientEvent::Informational(head))));
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

    fn is_idle(engine: &Engine<Self>, id: u32) -> bool {
        id.is_multiple_of(2) || id >= engine.side.next
    }

    fn head(engine: &mut Engine<Self>, id: u32, ends: bool, block: Block) -> Checked {
        let Some(stream) = engine.streams.get_mut(&id) else {
            return engine.frame_of_no_stream(id);
        };
        match response::head(block, ends, stream.head_request, engine.limits.mesh) {
            Err(HeadError::Malformed(detail)) => {
                engine.fail_stream(id, code::PROTOCOL_ERROR, detail)
            }
            Err(HeadError::Refused(error)) => {
                stream.headed = true;
                stream.receiving = !ends;
                engine.refuse(id, error);
                Ok(())
            }
            Ok((head, _)) if head.status < 200 => engine.interim(id, ends, head),
            Ok((head, declared)) => {
                // RFC 9110 §9.3.6: a length says nothing about a tunnel.
                let tunnel = stream.tunnel && head.status < 300;
                stream.declared = declared.filter(|_| !tunnel);
                if ends && stream.is_torn() {
                    return engine.fail_stream(id, code::PROTOCOL_ERROR, SHORT_BODY);
                }
                stream.headed = true;
                stream.receiving = !ends;
                if ends {
                    stream.inbox.end(None);
                }
                stream.head = Some(Box::new(head));
                engine.touch(id);
                Ok(())
            }
        }
    }

    /// Streams above the last one were not processed, and never will be.
    fn goaway(engine: &mut Engine<Self>, last: u32) {
        if !engine.side.going_away {
            engine.side.going_away = true;
            engine.signals.push((0, Signal::GoAway));
        }
        for id in engine.stream_ids().into_iter().filter(|id| *id > last) {
            if engine.remove(id, Over::Ours).is_some() {
                let (code, detail) = (code::REFUSED_STREAM, "beyond the last stream of GOAWAY");
                let (refused, malformed) = (true, false);
                engine.signals.push((id, Signal::Reset { code, refused, malformed, detail }));
            }
        }
    }
}
