//! Frames of any endpoint, good and bad: however the reads cut them a client that only listens
//! hears the same of its requests; one that changes its mind is left with nothing when the endpoint
//! is gone, and each request has one ending.
//!
//! The first byte says how long each read is, the second holds the switches; frames follow.

#![no_main]

use std::collections::VecDeque;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meshcore_core::codec::Limits;
use meshcore_core::codec::h2::{H2Client, H2Config};
use meshcore_core::head::Scheme;
use pair::Pair;
use witness::Witness;

#[expect(dead_code, reason = "the tests use more of it")]
#[expect(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/h2/pair.rs"]
mod pair;
#[path = "../../../tests/rust/h2/witness.rs"]
mod witness;

/// Switches: the input brings the endpoint's SETTINGS; windows are small. Those above move the
/// deeds on.
const BARE: u8 = 1;
const SMALL: u8 = 2;
const DEEDS_FROM: u32 = 2;

/// Request, bytes of its body, and whether that is all.
const REQUESTS: [(&str, usize, bool); 5] = [
    ("GET /a HTTP/1.1\r\nhost: a\r\n\r\n", 0, true),
    ("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", 0, true),
    ("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 70_000, true),
    ("POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 9, false),
    ("PUT /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 500, true),
];

/// Somebody with requests on their way.
struct Owner {
    pair: Pair,
    seen: Witness,
    heard: VecDeque<(u32, bool)>,
    opened: Vec<u32>,
    paused: Vec<u32>,
}

impl Owner {
    fn new(switches: u8) -> Self {
        let mut config = H2Config::default();
        if switches & SMALL != 0 {
            (config.stream_window, config.connection_window) = (50, 65_535);
        }
        let mut pair = Pair::new(&config);
        let limits = Limits { header_bytes: 1024, headers: 12, ..Limits::default() };
        pair.client = H2Client::new(limits, Scheme::Http, &config, pair::NOW);
        let (seen, heard) = (Witness::default(), VecDeque::new());
        let mut owner = Self { pair, seen, heard, opened: Vec::new(), paused: Vec::new() };
        if switches & BARE == 0 {
            witness::read(&mut owner.pair.client, b"\0\0\0\x04\0\0\0\0\0");
            (0..6).for_each(|i| owner.ask(i));
            witness::drain(&mut owner.pair.client);
        }
        owner
    }

    fn ask(&mut self, which: usize) {
        let (text, len, end) = REQUESTS[which % REQUESTS.len()];
        if self.pair.client.can_open(pair::NOW) > 0 {
            self.opened.push(self.pair.ask(text, &vec![b'a'; len], end));
        }
    }

    fn hear(&mut self) {
        self.heard.extend(self.seen.hear(&mut self.pair.client));
    }

    /// What is done when a response begins, chosen by the number of its stream.
    fn act(&mut self, id: u32, moved: u32) {
        match (id / 2 + moved) % 8 {
            0 => self.leave(id),
            1 => {
                self.pair.client.pause(id);
                self.paused.push(id);
            }
            2 => {
                self.pair.client.send_data(id, Bytes::from_static(&[7; 99]));
                self.pair.client.send_end(id, None);
            }
            3 => self.ask(id as usize),
            4 => _ = self.pair.client.ping(),
            _ => {}
        }
    }

    /// Nothing is told of the stream after this; what was told before is heard first.
    fn leave(&mut self, id: u32) {
        self.hear();
        self.pair.client.leave(id);
        self.seen.leave(id);
    }

    fn round(&mut self, deeds: Option<u32>) {
        self.hear();
        while let Some((id, new)) = self.heard.pop_front() {
            if let Some(moved) = deeds.filter(|_| new) {
                self.act(id, moved);
            }
            self.hear();
        }
        witness::drain(&mut self.pair.client);
        self.hear();
    }

    fn resume(&mut self) {
        for id in std::mem::take(&mut self.paused) {
            self.pair.client.resume(id);
        }
        self.hear();
    }

    fn end(&mut self) {
        let client = &mut self.pair.client;
        client.receive_eof();
        self.seen.hear(client);
        witness::drain(client);
        self.seen.check_end(client);
        for id in &self.opened {
            let told = self.seen.streams.get(id);
            assert!(told.is_some_and(witness::Told::is_over), "{id} has no end: {told:?}");
        }
    }
}

/// What is heard; `deeds`: with all that may be done meanwhile.
fn fetch<'a>(
    reads: impl IntoIterator<Item = &'a [u8]>,
    switches: u8,
    deeds: Option<u32>,
) -> Witness {
    let mut owner = Owner::new(switches);
    for data in reads {
        witness::read(&mut owner.pair.client, data);
        owner.resume();
        owner.round(deeds);
    }
    owner.resume();
    let closed = owner.seen.closed;
    owner.end();
    Witness { closed, ..owner.seen }.of_responses()
}

fuzz_target!(|input: &[u8]| {
    let [size, switches, bytes @ ..] = input else { return };
    let size = usize::from(*size) + 1;

    let whole = fetch([bytes], switches & BARE, None);
    let cut = fetch(bytes.chunks(size), switches & BARE, None);
    assert!(whole.agrees_with(&cut), "{whole:#?}\n{cut:#?}");

    let moved = u32::from(switches >> DEEDS_FROM);
    fetch(bytes.chunks(size), *switches, Some(moved));
    fetch([bytes], *switches, Some(moved));
});
