//! Frames of any client, good and bad: however the reads cut them a server that only listens hears
//! the same; one that answers, in every way there is, is left with nothing when the client is gone.
//!
//! The first byte says how long each read is, the second holds the switches; frames follow.

#![no_main]

use std::collections::VecDeque;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meshcore_core::codec::h2::{H2Config, H2Server};
use meshcore_core::codec::{HeaderOps, Limits, OutgoingReply, ResponseRules, ServerRules};
use meshcore_core::head::{BodyLength, Headers, Version};
use witness::Witness;

#[expect(dead_code, reason = "the tests use more of it")]
#[expect(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/h2/pair.rs"]
mod pair;
#[expect(dead_code, reason = "the client's target and the tests use more of it")]
#[path = "../../../tests/rust/h2/witness.rs"]
mod witness;

/// The client's first bytes and its empty SETTINGS.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Switches: the input brings its own greeting; windows are small; the server drains and asks for a
/// sign of life. Those above move the deeds on.
const BARE: u8 = 1;
const SMALL: u8 = 2;
const DRAINS: u8 = 4;
const DEEDS_FROM: u32 = 3;

fn server(switches: u8) -> H2Server {
    let mut config = H2Config::default();
    if switches & SMALL != 0 {
        (config.streams, config.stream_window, config.connection_window) = (3, 50, 65_535);
    }
    let limits =
        Limits { header_bytes: 1024, headers: 12, body: Some(20_000), ..Limits::default() };
    H2Server::new(limits, ServerRules::default(), &config, pair::NOW)
}

/// The client is gone.
fn end(server: &mut H2Server, seen: &mut Witness) {
    server.receive_eof();
    seen.hear(server);
    witness::drain(server);
    seen.hear(server);
    seen.check_end(server);
}

/// What somebody hears who only listens.
fn listen<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Witness {
    let (mut server, mut seen) = (server(0), Witness::default());
    for data in reads {
        witness::read(&mut server, data);
        witness::drain(&mut server);
        seen.hear(&mut server);
    }
    let closed = seen.closed;
    if !closed {
        end(&mut server, &mut seen);
    }
    seen.closed = closed;
    seen
}

/// Somebody who answers.
struct Owner {
    server: H2Server,
    seen: Witness,
    heard: VecDeque<(u32, bool)>,
    sending: Vec<u32>,
    paused: Vec<u32>,
    moved: u32,
}

impl Owner {
    fn hear(&mut self) {
        self.heard.extend(self.seen.hear(&mut self.server));
    }

    fn round(&mut self) {
        self.hear();
        while let Some((id, new)) = self.heard.pop_front() {
            if new {
                self.act(id);
            }
            self.hear();
        }
        witness::drain(&mut self.server);
        for id in std::mem::take(&mut self.sending) {
            self.server.send_data(id, Bytes::from_static(&[7; 999]));
            self.server.send_end(id, None);
        }
        for id in std::mem::take(&mut self.paused) {
            self.server.resume(id);
        }
        self.hear();
    }

    /// What is done when a request begins, chosen by its number.
    fn act(&mut self, id: u32) {
        match (id / 2 + self.moved) % 9 {
            0 => self.answer(id, 500, Some(None)),
            1 => self.answer(id, 100_000, Some(None)),
            2 => self.local(id),
            3 => self.leave(id, |server| server.reset(id, 7)),
            4 => {
                self.server.pause(id);
                self.paused.push(id);
                self.answer(id, 0, None);
                self.sending.push(id);
            }
            5 => {
                self.answer(id, 90_000, Some(None));
                self.leave(id, |server| _ = server.leave(id));
            }
            6 => {
                let hints = pair::response(103, &[("link", "a")], BodyLength::Empty);
                self.server.send_informational(id, &hints, &HeaderOps::default());
                let mut trailers = Headers::default();
                trailers.push(b"grpc-status", b"0");
                self.answer(id, 9, Some(Some(&trailers)));
            }
            7 => self.server.pause(id),
            _ => {}
        }
    }

    /// Nothing is told of the stream after this; what was told before is heard first.
    fn leave(&mut self, id: u32, how: impl FnOnce(&mut H2Server)) {
        self.hear();
        how(&mut self.server);
        self.seen.leave(id);
    }

    fn answer(&mut self, id: u32, len: usize, end: Option<Option<&Headers>>) {
        let head = pair::response(200, &[("x-from", "server")], BodyLength::Streamed);
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
        self.server.send_response(id, &head, &rules, Bytes::from(vec![b'a'; len]), end);
    }

    fn local(&mut self, id: u32) {
        let answer = OutgoingReply {
            status: 404,
            headers: &[(b"content-type", b"text/plain")],
            body: b"not found",
            version: Version::Http2,
            head_request: false,
            keep_alive: true,
            date: None,
        };
        self.server.send_answer(id, &answer);
    }
}

fn serve<'a>(reads: impl IntoIterator<Item = &'a [u8]>, switches: u8) {
    let (sending, paused, moved) = (Vec::new(), Vec::new(), u32::from(switches >> DEEDS_FROM));
    let (server, seen, heard) = (server(switches), Witness::default(), VecDeque::new());
    let mut owner = Owner { server, seen, heard, sending, paused, moved };
    for (i, data) in reads.into_iter().enumerate() {
        witness::read(&mut owner.server, data);
        owner.round();
        if i == 2 && switches & DRAINS != 0 {
            owner.server.drain();
            owner.server.ping();
        }
        if i == 4 && switches & DRAINS != 0 {
            owner.server.warn();
        }
        if i == 6 && switches & DRAINS != 0 {
            owner.server.send_goaway(b"");
        }
    }
    owner.round();
    if owner.server.is_closed() {
        witness::drain(&mut owner.server);
        owner.seen.check_end(&owner.server);
    } else {
        end(&mut owner.server, &mut owner.seen);
    }
}

fuzz_target!(|input: &[u8]| {
    let [size, switches, frames @ ..] = input else { return };
    let size = usize::from(*size) + 1;
    let greeting = if switches & BARE == 0 { GREETING } else { b"" };
    let bytes = [greeting, frames].concat();

    let whole = listen([&bytes[..]]);
    let cut = listen(bytes.chunks(size));
    assert!(whole.agrees_with(&cut), "{whole:#?}\n{cut:#?}");

    serve(bytes.chunks(size), *switches);
    serve([&bytes[..]], *switches);
});
