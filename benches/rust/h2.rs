//! What one request costs the HTTP/2 engines, without sockets: a client asks, a server answers.

#![allow(missing_docs)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use meshcore_core::codec::h2::{H2Client, H2Config, H2Server, Signal};
use meshcore_core::codec::{
    H1Server, HeaderOps, Limits, RequestRules, ResponseRules, ServerEvent, ServerRules,
};
use meshcore_core::head::{BodyLength, Headers, RequestHead, ResponseHead, Scheme, Version};
use meshcore_core::time::Nanos;

const NOW: Nanos = Nanos(1);
/// As a browser or a service sends it.
const ASKED: &[u8] = b"GET /api/v1/orders?page=2 HTTP/1.1\r\nhost: shop.example.com\r\n\
    accept: application/json\r\nuser-agent: bench/1.0\r\naccept-encoding: gzip\r\n\r\n";
const STREAMS: usize = 16;

struct Pair {
    client: H2Client,
    server: H2Server,
    asked: RequestHead,
    answer: ResponseHead,
    ops: HeaderOps,
}

impl Pair {
    fn new() -> Self {
        let config = H2Config::default();
        let asked = match H1Server::new(Limits::default()).receive(ASKED) {
            Ok(Some(ServerEvent::Head { head, .. })) => head,
            other => panic!("{other:?}"),
        };
        let mut headers = Headers::default();
        for (name, value) in [
            ("content-type", "application/json"),
            ("content-length", "66"),
            ("date", "Tue, 24 Nov 2026 20:59:54 GMT"),
            ("server", "bench"),
        ] {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let answer = ResponseHead {
            version: Version::Http11,
            status: 200,
            body: BodyLength::Known(66),
            keep_alive: true,
            authenticates: false,
            headers,
        };
        let mut pair = Self {
            client: H2Client::new(Limits::default(), Scheme::Http, &config, NOW),
            server: H2Server::new(Limits::default(), ServerRules::default(), &config, NOW),
            asked,
            answer,
            ops: HeaderOps::default(),
        };
        pair.carry_there();
        pair.carry_back();
        pair
    }

    fn ask(&mut self) {
        let rules = RequestRules {
            via: b"1.1 meshcore",
            peer: b"10.0.0.9",
            request_id: b"0190163d8694739b9ea2acd60ad8d7e1",
            ops: &self.ops,
            path: None,
            authority: None,
            framing: self.asked.body,
            tunnel: None,
            left: None,
            max_forwards: None,
            as_written: false,
            trace: None,
        };
        let sent = self.client.send_request(&self.asked, &rules, Bytes::new(), Some(None));
        assert!(matches!(sent, Ok(Some(_))));
    }

    fn carry_there(&mut self) -> Vec<u32> {
        let bytes = self.client.take_output(Bytes::copy_from_slice);
        self.server.receive(bytes, NOW);
        let signals = self.server.signals();
        signals.iter().filter(|(id, _)| *id != 0).map(|(id, _)| *id).collect()
    }

    fn answer(&mut self, id: u32) {
        let rules = ResponseRules {
            version: Version::Http2,
            head_request: false,
            keep_alive: true,
            framing: self.answer.body,
            ops: &self.ops,
            tunnel: None,
            date: None,
        };
        let body = Bytes::from_static(&[b'x'; 66]);
        self.server.send_response(id, &self.answer, &rules, body, Some(None));
        self.server.leave(id);
    }

    fn carry_back(&mut self) -> usize {
        let bytes = self.server.take_output(Bytes::copy_from_slice);
        self.client.receive(bytes, NOW);
        let ended = |s: &Signal<_>| matches!(s, Signal::Message(_));
        self.client.signals().iter().filter(|(_, s)| ended(s)).count()
    }
}

fn engines(c: &mut Criterion) {
    let mut pair = Pair::new();
    c.bench_function(&format!("h2/client and server/{STREAMS} streams"), |b| {
        b.iter(|| {
            for _ in 0..STREAMS {
                pair.ask();
            }
            let ids = pair.carry_there();
            assert_eq!(ids.len(), STREAMS);
            for id in ids {
                pair.answer(id);
            }
            assert_eq!(black_box(pair.carry_back()), STREAMS);
        });
    });
}

criterion_group!(benches, engines);
criterion_main!(benches);
