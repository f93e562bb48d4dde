//! What holds whatever is sent, in whatever order, and however the reads cut it.

use bytes::Bytes;
use meshcore_core::codec::h2::{H2Client, H2Config, H2Server};
use meshcore_core::codec::{Limits, ServerRules};
use meshcore_core::head::Scheme;
use proptest::prelude::*;

use crate::pair::{NOW, Pair};
use crate::witness::{Told, Witness, drain, read};

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const POST: &str = "POST /a HTTP/1.1\r\nhost: ex.com\r\ntransfer-encoding: chunked\r\n\r\n";
/// Requests of a pair.
const STREAMS: usize = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Frames that either side may send, on few streams, so that they meet.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let blocks: Vec<&'static [u8]> = vec![
        b"\x82\x84\x86\x41\x01a",          // GET
        b"\x83\x84\x86\x41\x01a",          // POST
        b"\x83\x84\x86\x41\x01a\x5c\x015", // POST with five bytes
        b"\x88",
        b"\x88\x5c\x015",
        b"\x48\x03103",
        b"\x40\x01t\x01v", // trailers
        b"\xbe",           // what was put into the table
        b"\x40\x01T\x01v", // malformed
    ];
    let stream = prop_oneof![9 => (0..6u32).prop_map(|n| 2 * n + 1), 1 => 0..4u32];
    let block = proptest::sample::select(blocks);
    let headers = (block, any::<bool>(), 0..9u8, stream.clone()).prop_map(|(b, end, whole, id)| {
        frame(1, u8::from(end) | if whole == 0 { 0 } else { 4 }, id, b)
    });
    let lens = proptest::sample::select(vec![0, 1, 5, 300]);
    let data = (lens, any::<bool>(), stream.clone())
        .prop_map(|(len, end, id)| frame(0, u8::from(end), id, &vec![b'd'; len]));
    let number = proptest::sample::select(vec![0, 1, 7, 8, 70_000, u32::MAX >> 1]);
    let numbered = proptest::sample::select(vec![3u8, 8]);
    let steering = (numbered, stream.clone(), number.clone())
        .prop_map(|(kind, id, n)| frame(kind, 0, id, &n.to_be_bytes()));
    let settings = (1..7u8, number.clone())
        .prop_map(|(id, n)| frame(4, 0, 0, &[&[0, id][..], &n.to_be_bytes()].concat()));
    let others = (proptest::sample::select(vec![2u8, 6, 7, 9, 16, 99]), 0..2u8, stream, number)
        .prop_map(|(kind, flags, id, n)| frame(kind, flags, id, &[n.to_be_bytes(); 2].concat()));
    prop_oneof![9 => headers, 6 => data, 4 => steering, 1 => settings, 1 => others]
}

fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = at.iter().map(|i| i % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

fn serve<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Witness {
    let (limits, rules) = (Limits::default(), ServerRules::default());
    let mut server = H2Server::new(limits, rules, &H2Config::default(), NOW);
    let mut seen = Witness::default();
    read(&mut server, GREETING);
    for data in reads {
        read(&mut server, data);
        drain(&mut server);
        seen.hear(&mut server);
    }
    let closed = seen.closed;
    server.receive_eof();
    seen.hear(&mut server);
    seen.check_end(&server);
    Witness { closed, ..seen }
}

fn fetch<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Witness {
    let mut pair = Pair::new(&H2Config::default());
    let ids: Vec<u32> = (0..STREAMS).map(|i| pair.ask(POST, b"some", i > 0)).collect();
    let mut seen = Witness::default();
    for data in reads {
        read(&mut pair.client, data);
        drain(&mut pair.client);
        seen.hear(&mut pair.client);
    }
    let closed = seen.closed;
    pair.client.receive_eof();
    seen.hear(&mut pair.client);
    seen.check_end(&pair.client);
    assert!(ids.iter().all(|id| seen.streams.get(id).is_some_and(Told::is_over)), "{seen:#?}");
    Witness { closed, ..seen }.of_responses()
}

/// One thing that happens to one of the streams of a pair.
#[derive(Clone, Copy, Debug)]
enum Deed {
    ClientSends(usize),
    ServerSends(usize),
    ClientPauses(bool),
    ServerPauses(bool),
    ClientEnds,
    ServerEnds,
    Settle,
    Cancel(Who),
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Client,
    Server,
    /// The server has said all, and wants no more of the request.
    Answered,
}

fn deed(cancels: u32) -> impl Strategy<Value = (usize, Deed)> {
    let len = prop_oneof![0..10usize, 0..70_000usize];
    let who = proptest::sample::select(vec![Who::Client, Who::Server, Who::Answered]);
    let deed = prop_oneof![
        4 => len.clone().prop_map(Deed::ClientSends),
        4 => len.prop_map(Deed::ServerSends),
        2 => any::<bool>().prop_map(Deed::ClientPauses),
        2 => any::<bool>().prop_map(Deed::ServerPauses),
        1 => Just(Deed::ClientEnds),
        1 => Just(Deed::ServerEnds),
        4 => Just(Deed::Settle),
        cancels => who.prop_map(Deed::Cancel),
    ];
    (0..STREAMS, deed)
}

fn config() -> impl Strategy<Value = H2Config> {
    (1_000..200_000u32, 65_535..300_000u32).prop_map(|(stream_window, connection_window)| {
        H2Config { stream_window, connection_window, ..H2Config::default() }
    })
}

/// What one side of a stream sent.
#[derive(Clone, Debug, Default)]
struct Said {
    len: usize,
    ended: bool,
}

/// A pair whose streams do as they are told.
struct Play {
    pair: Pair,
    ids: Vec<u32>,
    asked: Vec<Said>,
    answered: Vec<Said>,
    client: Witness,
    server: Witness,
}

/// Bytes that show where in a body they are.
fn bytes(from: usize, len: usize) -> Bytes {
    (from..from + len).map(|i| (i % 251) as u8).collect()
}

impl Play {
    fn new(config: &H2Config, cut: Option<usize>) -> Self {
        let mut pair = Pair::new(config);
        pair.cut = cut;
        let ids: Vec<u32> = (0..STREAMS).map(|_| pair.ask(POST, b"", false)).collect();
        pair.settle();
        ids.iter().for_each(|id| _ = pair.answer(*id, 200, b"", false));
        let said = vec![Said::default(); STREAMS];
        let (client, server) = (Witness::default(), Witness::default());
        Self { pair, ids, asked: said.clone(), answered: said, client, server }
    }

    fn hear(&mut self) {
        self.client.hear(&mut self.pair.client);
        self.server.hear(&mut self.pair.server);
    }

    fn act(&mut self, stream: usize, deed: Deed) {
        let (id, pair) = (self.ids[stream], &mut self.pair);
        let (asked, answered) = (&mut self.asked[stream], &mut self.answered[stream]);
        match deed {
            Deed::ClientSends(len) if !asked.ended => {
                pair.client.send_data(id, bytes(asked.len, len));
                asked.len += len;
            }
            Deed::ServerSends(len) if !answered.ended => {
                pair.server.send_data(id, bytes(answered.len, len));
                answered.len += len;
            }
            Deed::ClientSends(_) | Deed::ServerSends(_) => {}
            Deed::ClientPauses(true) => pair.client.pause(id),
            Deed::ClientPauses(false) => pair.client.resume(id),
            Deed::ServerPauses(true) => pair.server.pause(id),
            Deed::ServerPauses(false) => pair.server.resume(id),
            Deed::ClientEnds => {
                pair.client.send_end(id, None);
                asked.ended = true;
            }
            Deed::ServerEnds => {
                pair.server.send_end(id, None);
                answered.ended = true;
            }
            Deed::Settle => pair.settle(),
            Deed::Cancel(who) => self.cancel(id, who),
        }
        self.hear();
    }

    /// What was told before is heard before.
    fn cancel(&mut self, id: u32, who: Who) {
        self.hear();
        let (client, server) = (&mut self.pair.client, &mut self.pair.server);
        match who {
            Who::Client => {
                client.leave(id);
                self.client.leave(id);
            }
            Who::Server => {
                server.reset(id, 2);
                self.server.leave(id);
            }
            Who::Answered => {
                server.send_end(id, None);
                self.server.hear(server);
                server.leave(id);
                self.server.leave(id);
            }
        }
    }

    /// Everybody says the rest, and takes all.
    fn finish(&mut self) {
        for stream in 0..STREAMS {
            for deed in [
                Deed::ClientEnds,
                Deed::ServerEnds,
                Deed::ClientPauses(false),
                Deed::ServerPauses(false),
            ] {
                self.act(stream, deed);
            }
        }
        self.act(0, Deed::Settle);
        for count in [self.pair.client.open_streams(), self.pair.server.open_streams()] {
            assert_eq!(count, 0, "{:#?}\n{:#?}", self.pair.client, self.pair.server);
        }
        assert_eq!((self.pair.client.queued(), self.pair.server.queued()), (0, 0));
        assert!(!self.client.closed && !self.server.closed, "{:?}", self.pair.client);
        for seen in [&self.client, &self.server] {
            assert!(seen.streams.values().all(Told::is_over), "{seen:#?}");
        }
    }

    fn check_all_arrived(&self) {
        for (stream, id) in self.ids.iter().enumerate() {
            for (seen, said) in [(&self.server, &self.asked), (&self.client, &self.answered)] {
                let told = &seen.streams[id];
                assert!(told.ended && told.reset.is_none(), "{id} {told:?}");
                assert!(told.body == bytes(0, said[stream].len), "{id} of {:?}", said[stream]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_split_tells_the_same(
        frames in proptest::collection::vec(any_frame(), 1..16),
        at in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let bytes = frames.concat();
        let (whole, cuts) = (serve([&bytes[..]]), serve(cut(&bytes, &at)));
        prop_assert!(whole.agrees_with(&cuts), "{whole:#?}\n{cuts:#?}");
        let bytewise = serve(bytes.chunks(1));
        prop_assert!(whole.agrees_with(&bytewise), "{whole:#?}\n{bytewise:#?}");
        let bytes = [frame(4, 0, 0, &[]), bytes].concat();
        let (whole, cuts) = (fetch([&bytes[..]]), fetch(cut(&bytes, &at)));
        prop_assert!(whole.agrees_with(&cuts), "{whole:#?}\n{cuts:#?}");
        let bytewise = fetch(bytes.chunks(1));
        prop_assert!(whole.agrees_with(&bytewise), "{whole:#?}\n{bytewise:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn all_arrives_whoever_pauses(
        config in config(),
        cut in proptest::option::of(100..20_000usize),
        deeds in proptest::collection::vec(deed(0), 0..40),
    ) {
        let mut play = Play::new(&config, cut);
        deeds.into_iter().for_each(|(stream, deed)| play.act(stream, deed));
        play.finish();
        play.check_all_arrived();
    }

    #[test]
    fn whoever_cancels_nothing_is_left(
        config in config(),
        cut in proptest::option::of(100..20_000usize),
        deeds in proptest::collection::vec(deed(3), 0..40),
    ) {
        let mut play = Play::new(&config, cut);
        deeds.into_iter().for_each(|(stream, deed)| play.act(stream, deed));
        play.finish();
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        serve([&noise[..]]);
        fetch([&noise[..]]);
        let mut client =
            H2Client::new(Limits::default(), Scheme::Https, &H2Config::default(), NOW);
        read(&mut client, &noise);
        drain(&mut client);
    }
}
