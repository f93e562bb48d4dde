//! What a connection told of each stream, joined, and the rules that every such story keeps to.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use bytes::Bytes;
use meshcore_core::codec::h2::{Connection, Side, Signal};
use meshcore_core::codec::{BodyPart, ClientEvent, ServerEvent};
use meshcore_core::head::Headers;

/// Calls that empty a connection, at the most: more is output that feeds itself.
const CALLS: usize = 2000;

/// The messages of either side.
pub(crate) trait Message: Debug {
    /// The head, as far as it does not depend on how the bytes were cut, and the part of a body.
    fn parts(&self) -> (Option<String>, Option<&BodyPart>);
}

fn add_fields(line: &mut String, headers: &Headers) {
    for (name, value) in headers.iter() {
        let _ = write!(line, "\n{}: {}", name.escape_ascii(), value.escape_ascii());
    }
}

impl Message for ServerEvent {
    fn parts(&self) -> (Option<String>, Option<&BodyPart>) {
        match self {
            Self::Data(body) => (None, Some(body)),
            Self::Head { head, body } => {
                let at = |span| head.slice(span).escape_ascii().to_string();
                let query = head.query.map(at);
                let mut line = format!("{} {} {query:?}", at(head.method), at(head.path));
                let _ = write!(line, " {} {:?}", at(head.authority), head.tunnel().is_some());
                add_fields(&mut line, &head.headers);
                (Some(line), Some(body))
            }
        }
    }
}

impl Message for ClientEvent {
    fn parts(&self) -> (Option<String>, Option<&BodyPart>) {
        let (head, body) = match self {
            Self::Data(body) => return (None, Some(body)),
            Self::Informational(head) => (head, None),
            Self::Head { head, body } => (head, Some(body)),
        };
        let mut line = head.status.to_string();
        add_fields(&mut line, &head.headers);
        (Some(line), body)
    }
}

/// One stream's story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) heads: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
    /// The message came whole.
    pub(crate) ended: bool,
    pub(crate) refused: Option<u16>,
    /// The code, whether it may be sent again, and whether the peer made no sense.
    pub(crate) reset: Option<(u32, bool, bool)>,
    /// The owner left, and heard that all is sent.
    pub(crate) left: bool,
    pub(crate) sent: bool,
    pub(crate) writable: usize,
}

impl Told {
    fn see<M: Message>(&mut self, signal: &Signal<M>) {
        assert!(self.reset.is_none(), "{signal:?} behind the reset of {self:?}");
        assert!(!self.left || matches!(signal, Signal::Sent), "{signal:?} to who left {self:?}");
        match signal {
            Signal::Message(message) => self.take(message),
            Signal::Refused(error, _) => {
                let before = self.refused.replace(error.reason.status());
                assert!(before.is_none(), "refused again: {self:?}");
            }
            &Signal::Reset { code, refused, malformed, .. } => {
                self.reset = Some((code, refused, malformed));
            }
            Signal::Sent => {
                assert!(self.left && !self.sent, "sent, but {self:?}");
                self.sent = true;
            }
            Signal::Writable => self.writable += 1,
            other => panic!("{other:?} of a stream"),
        }
    }

    fn take<M: Message>(&mut self, message: &M) {
        assert!(!self.ended && self.refused.is_none(), "{message:?} behind the end of {self:?}");
        let (head, body) = message.parts();
        self.heads.extend(head);
        assert!(!self.heads.is_empty(), "a body without a head: {message:?}");
        let Some(part) = body else { return };
        part.bytes.append_to(&[], &mut self.body);
        self.ended = part.end;
        if let Some(trailers) = &part.trailers {
            assert!(part.end, "trailers before the end");
            add_fields(&mut self.trailers, trailers);
        }
    }

    /// Whether the owner knows that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.ended || self.refused.is_some() || self.reset.is_some() || self.left
    }

    fn begins(&self, other: &Self) -> bool {
        other.heads.starts_with(&self.heads) && other.body.starts_with(&self.body)
    }

    /// Whether `cut`, of the same bytes in several reads, is what this one of a single read is. A
    /// fault voids what came with it in one read; in several its beginning may be out already.
    fn agrees_with(&self, cut: &Self) -> bool {
        let void = self.refused.is_some() || self.reset.is_some_and(|(_, r, bad)| r || bad);
        match void {
            true => self.begins(cut) && cut.is_over(),
            false => Self { writable: cut.writable, ..self.clone() } == *cut,
        }
    }
}

/// All that one connection told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    pub(crate) streams: BTreeMap<u32, Told>,
    pub(crate) closed: bool,
    pub(crate) flooded: bool,
}

impl Witness {
    /// Takes what was told since the last time; the numbers of the streams that it was about, with
    /// whether a head is among it.
    pub(crate) fn hear<S: Side>(&mut self, connection: &mut Connection<S>) -> Vec<(u32, bool)>
    where
        S::Message: Message,
    {
        let mut about = Vec::new();
        for (id, signal) in connection.signals() {
            if id == 0 {
                assert!(!self.closed, "{signal:?} behind the end");
                self.closed = matches!(signal, Signal::Closed);
                continue;
            }
            let told = self.streams.entry(id).or_default();
            let new = told.heads.is_empty() && told.refused.is_none();
            told.see(&signal);
            let told = matches!(signal, Signal::Message(_) | Signal::Refused(..));
            about.push((id, new && told));
        }
        self.flooded = connection.flood().is_some();
        about
    }

    /// The owner leaves a stream; what was told until now is heard before.
    pub(crate) fn leave(&mut self, id: u32) {
        self.streams.entry(id).or_default().left = true;
    }

    /// Of a client: once a response is whole, what becomes of the rest of its request is nobody's
    /// matter, and when it went out depends on the reads.
    pub(crate) fn of_responses(mut self) -> Self {
        for told in self.streams.values_mut().filter(|told| told.ended) {
            told.reset = None;
        }
        self
    }

    /// Whether `cut` is the same story of the same bytes in several reads. A flood voids the whole
    /// read that it is in, so then only the beginnings are the same.
    pub(crate) fn agrees_with(&self, cut: &Self) -> bool {
        if self.flooded || cut.flooded {
            let both = |(id, told): (&u32, &Told)| {
                cut.streams.get(id).is_none_or(|cut| told.begins(cut) || cut.begins(told))
            };
            return self.streams.iter().all(both);
        }
        self.closed == cut.closed
            && self.streams.keys().eq(cut.streams.keys())
            && self.streams.iter().all(|(id, told)| told.agrees_with(&cut.streams[id]))
    }

    /// Nothing is left behind the end of a connection, and each owner knows.
    pub(crate) fn check_end<S: Side>(&self, connection: &Connection<S>) {
        assert!(self.closed && connection.is_closed(), "{connection:?}");
        assert_eq!((connection.open_streams(), connection.queued()), (0, 0));
        for (id, told) in &self.streams {
            assert!(told.is_over(), "{id} has no end: {told:?}");
        }
    }
}

/// Takes all output.
pub(crate) fn drain<S: Side>(connection: &mut Connection<S>) {
    for _ in 0..CALLS {
        let len = connection.take_output(<[u8]>::len);
        assert!(len < 1 << 20, "{len} bytes at one time");
        if len == 0 && connection.wants_read() {
            return;
        }
    }
    panic!("output without an end: {connection:?}");
}

/// A read of its own buffer.
pub(crate) fn read<S: Side>(connection: &mut Connection<S>, bytes: &[u8]) {
    connection.receive(Bytes::copy_from_slice(bytes), crate::pair::NOW);
}
