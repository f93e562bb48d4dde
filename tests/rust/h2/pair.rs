//! A client and a server engine with a wire between them.

use bytes::Bytes;
use meshcore_core::codec::h2::{ClientSignal, H2Client, H2Config, H2Server, ServerSignal, Signal};
use meshcore_core::codec::{
    ClientEvent, CodecError, H1Server, HeaderOps, Limits, RequestRules, ResponseRules, ServerEvent,
    ServerRules,
};
use meshcore_core::head::{
    BodyLength, Headers, RequestHead, ResponseHead, Scheme, TunnelKind, Version,
};
use meshcore_core::time::Nanos;

pub(crate) const NOW: Nanos = Nanos(1);

/// Two engines; what one writes the other reads when told.
pub(crate) struct Pair {
    pub(crate) client: H2Client,
    pub(crate) server: H2Server,
    /// Bytes of a read; the whole of what was written unless set.
    pub(crate) cut: Option<usize>,
}

impl Pair {
    pub(crate) fn new(config: &H2Config) -> Self {
        let limits = Limits::default();
        let rules = ServerRules { connect: true, ..ServerRules::default() };
        let mut pair = Self {
            client: H2Client::new(limits, Scheme::Http, config, NOW),
            server: H2Server::new(limits, rules, config, NOW),
            cut: None,
        };
        // No stream is opened before the other side's SETTINGS came.
        pair.settle();
        pair
    }

    /// Carries bytes until neither side has any.
    pub(crate) fn settle(&mut self) {
        loop {
            let there = self.client.take_output(<[u8]>::to_vec);
            for piece in pieces(&there, self.cut) {
                self.server.receive(piece, NOW);
            }
            let back = self.server.take_output(<[u8]>::to_vec);
            for piece in pieces(&back, self.cut) {
                self.client.receive(piece, NOW);
            }
            if there.is_empty() && back.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn ask(&mut self, text: &str, body: &[u8], end: bool) -> u32 {
        self.try_ask(text, body, end).unwrap().unwrap()
    }

    /// The stream, `None` where no more may be opened, or why it cannot be asked.
    pub(crate) fn try_ask(
        &mut self,
        text: &str,
        body: &[u8],
        end: bool,
    ) -> Result<Option<u32>, CodecError> {
        let head = request(text);
        self.try_ask_with(&head, None, body, end)
    }

    /// A CONNECT that a route allows.
    pub(crate) fn connect(&mut self) -> u32 {
        let head = request("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
        self.try_ask_with(&head, Some(TunnelKind::Connect), b"", true).unwrap().unwrap()
    }

    fn try_ask_with(
        &mut self,
        head: &RequestHead,
        tunnel: Option<TunnelKind<'_>>,
        body: &[u8],
        end: bool,
    ) -> Result<Option<u32>, CodecError> {
        let ops = HeaderOps::default();
        let rules = RequestRules {
            via: b"1.1 meshcore",
            peer: b"10.0.0.9",
            request_id: b"0190163d8694739b9ea2acd60ad8d7e1",
            ops: &ops,
            path: None,
            authority: None,
            framing: head.body,
            tunnel,
            left: None,
            max_forwards: None,
            as_written: false,
            trace: None,
        };
        let body = Bytes::copy_from_slice(body);
        self.client.send_request(head, &rules, body, end.then_some(None))
    }

    pub(crate) fn answer(&mut self, id: u32, status: u16, body: &[u8], end: bool) -> usize {
        let head = response(status, &[("x-from", "server")], BodyLength::Streamed);
        self.answer_with(id, &head, body, end.then_some(None))
    }

    pub(crate) fn answer_with(
        &mut self,
        id: u32,
        head: &ResponseHead,
        body: &[u8],
        end: Option<Option<&Headers>>,
    ) -> usize {
        let ops = HeaderOps::default();
        let rules = ResponseRules {
            version: Version::Http2,
            head_request: false,
            keep_alive: true,
            framing: head.body,
            ops: &ops,
            tunnel: None,
            date: None,
        };
        self.server.send_response(id, head, &rules, Bytes::copy_from_slice(body), end)
    }
}

fn pieces(bytes: &[u8], cut: Option<usize>) -> Vec<Bytes> {
    bytes.chunks(cut.unwrap_or(bytes.len()).max(1)).map(Bytes::copy_from_slice).collect()
}

/// A head read from HTTP/1.1 text.
pub(crate) fn request(text: &str) -> RequestHead {
    let rules = ServerRules { connect: true, ..ServerRules::default() };
    match H1Server::with_rules(Limits::default(), rules).receive(text.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn response(status: u16, fields: &[(&str, &str)], body: BodyLength) -> ResponseHead {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.push(name.as_bytes(), value.as_bytes());
    }
    let (version, keep_alive, authenticates) = (Version::Http11, true, false);
    ResponseHead { version, status, body, keep_alive, authenticates, headers }
}

/// What one stream told, joined: status or target, body, trailers, how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    pub(crate) first: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) ended: bool,
    pub(crate) reset: Option<(u32, bool)>,
    pub(crate) refused: Option<u16>,
    pub(crate) writable: usize,
}

fn list(headers: &Headers) -> Vec<(String, String)> {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    headers.iter().map(|(n, v)| (text(n), text(v))).collect()
}

impl Story {
    fn body(&mut self, part: meshcore_core::codec::BodyPart) {
        part.bytes.append_to(&[], &mut self.body);
        self.ended |= part.end;
        self.trailers.extend(part.trailers.iter().flat_map(|t| list(t)));
    }

    pub(crate) fn of_server(&mut self, signal: ServerSignal) {
        match signal {
            Signal::Message(ServerEvent::Head { head, body }) => {
                let at = |s| String::from_utf8_lossy(head.slice(s)).into_owned();
                self.first =
                    format!("{} {} {}", at(head.method), at(head.authority), at(head.path));
                self.body(body);
            }
            Signal::Message(ServerEvent::Data(body)) => self.body(body),
            other => self.other(other),
        }
    }

    pub(crate) fn of_client(&mut self, signal: ClientSignal) {
        match signal {
            Signal::Message(ClientEvent::Informational(head)) => {
                self.first += &format!("{} ", head.status);
            }
            Signal::Message(ClientEvent::Head { head, body }) => {
                self.first += &head.status.to_string();
                self.body(body);
            }
            Signal::Message(ClientEvent::Data(body)) => self.body(body),
            other => self.other(other),
        }
    }

    fn other<M: std::fmt::Debug>(&mut self, signal: Signal<M>) {
        match signal {
            Signal::Reset { code, refused, .. } => self.reset = Some((code, refused)),
            Signal::Refused(error, _) => self.refused = Some(error.reason.status()),
            Signal::Writable => self.writable += 1,
            Signal::Sent | Signal::GoAway | Signal::Pong | Signal::Heard | Signal::Closed => {}
            Signal::Message(message) => panic!("{message:?}"),
        }
    }
}

pub(crate) type Stories = std::collections::BTreeMap<u32, Story>;

pub(crate) fn of_server(pair: &mut Pair, stories: &mut Stories) {
    for (id, signal) in pair.server.signals() {
        stories.entry(id).or_default().of_server(signal);
    }
}

pub(crate) fn of_client(pair: &mut Pair, stories: &mut Stories) {
    for (id, signal) in pair.client.signals() {
        stories.entry(id).or_default().of_client(signal);
    }
}
