//! Responses from an endpoint's bytes to a client's, and what must be true of them.

use bytes::Bytes;
use meshcore_core::codec::h2::heads::{write_informational, write_response, write_trailers};
use meshcore_core::codec::h2::{H2Client, H2Config, Signal};
use meshcore_core::codec::{
    ClientEvent, H1Client, H1Server, Limits, Outgoing, ResponseRules, ServerEvent,
    encode_chunk_end, encode_chunk_header, encode_informational, encode_last_chunk,
    encode_response,
};
use meshcore_core::exchange::RequestTicket;
use meshcore_core::head::{
    BodyLength, Headers, RequestHead, ResponseHead, Scheme, TunnelKind, Version,
};

use super::mesh::{self, Mesh, NOW};
use super::strict::{self, Message};

/// What the client asked for.
pub(crate) const ASKED: [&str; 6] = [
    "GET /old HTTP/1.1\r\nhost: a\r\n\r\n",
    "HEAD /old HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /old HTTP/1.0\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
];

/// A request that was sent to an endpoint.
pub(crate) struct Sent {
    head: RequestHead,
    ticket: Box<RequestTicket>,
}

impl Sent {
    pub(crate) fn new(mesh: &Mesh, which: usize) -> Self {
        let text = ASKED[which % ASKED.len()].as_bytes();
        let mut server = H1Server::with_rules(Limits::default(), mesh.rules());
        let Ok(Some(ServerEvent::Head { mut head, .. })) = server.receive(text) else {
            panic!("{text:?}")
        };
        let ticket = mesh.pass(&mut head, true).expect("a request that goes on");
        Self { head, ticket }
    }

    fn is_head(&self) -> bool {
        self.head.slice(self.head.method) == b"HEAD"
    }
}

/// A response as it was understood here.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    interim: Vec<ResponseHead>,
    head: Option<ResponseHead>,
    body: Vec<u8>,
    trailers: Option<Box<Headers>>,
    whole: bool,
    tunnel: bool,
}

impl Answered {
    fn take(&mut self, event: ClientEvent, data: &[u8]) {
        let part = match event {
            ClientEvent::Informational(head) => {
                assert!(self.head.is_none(), "an interim head behind the final one");
                return self.interim.push(head);
            }
            ClientEvent::Head { head, body } => {
                assert!(self.head.replace(head).is_none(), "two heads");
                body
            }
            ClientEvent::Data(body) => body,
        };
        assert!(self.head.is_some() && !self.whole, "a body without a head, or behind its end");
        part.bytes.append_to(data, &mut self.body);
        (self.whole, self.trailers) = (part.end, part.trailers);
    }
}

/// What an HTTP/1.1 endpoint answers, which then closes.
pub(crate) fn answered_over_http1<'a>(
    sent: &Sent,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> Answered {
    let mut client = H1Client::new(Limits::default());
    let tunnel = sent.head.tunnel();
    client.sent(sent.is_head(), matches!(tunnel, Some(TunnelKind::Connect)));
    if let Some(TunnelKind::Upgrade(protocol)) = tunnel {
        client.allow_upgrade(protocol);
    }
    let mut answered = Answered::default();
    let mut reads = reads.into_iter();
    loop {
        let Some(data) = reads.next() else {
            if let Ok(Some(event)) = client.receive_eof() {
                answered.take(event, &[]);
            }
            return answered;
        };
        let mut event = client.receive(data);
        let mut from = data;
        while let Ok(Some(some)) = event {
            answered.take(some, from);
            answered.tunnel = client.in_tunnel();
            if answered.whole {
                return answered;
            }
            from = &[];
            event = client.next_event();
        }
        if event.is_err() {
            return answered;
        }
    }
}

/// What an HTTP/2 endpoint answers; its SETTINGS came before the frames.
pub(crate) fn answered_over_http2<'a>(
    mesh: &Mesh,
    sent: &Sent,
    frames: impl IntoIterator<Item = &'a [u8]>,
) -> Answered {
    let mut client = H2Client::new(Limits::default(), Scheme::Http, &H2Config::default(), NOW);
    // ENABLE_CONNECT_PROTOCOL: 1.
    client.receive(Bytes::from_static(b"\0\0\x06\x04\0\0\0\0\0\0\x08\0\0\0\x01"), NOW);
    let mut answered = Answered::default();
    let opened = sent.ticket.with_request_rules(&sent.head, &mesh.peer, mesh::ID, NOW, |rules| {
        client.send_request(&sent.head, rules, Bytes::new(), Some(None))
    });
    let Ok(Some(stream)) = opened else { return answered };
    for data in frames {
        client.receive(Bytes::copy_from_slice(data), NOW);
        for _ in 0..64 {
            if client.take_output(<[u8]>::is_empty) {
                break;
            }
        }
        for (id, signal) in client.signals() {
            match signal {
                Signal::Message(event) if id == stream => {
                    answered.take(event, &[]);
                    answered.tunnel = sent.head.tunnel().is_some()
                        && answered.head.as_ref().is_some_and(|h| (200..300).contains(&h.status));
                }
                Signal::Refused(..) | Signal::Reset { .. } if id == stream => return answered,
                _ => {}
            }
            if answered.whole {
                return answered;
            }
        }
    }
    answered
}

/// Passes it on over both protocols, and looks at what the client sees.
pub(crate) fn check(sent: &Sent, answered: &Answered) {
    let Some(head) = &answered.head else { return };
    let rules = |version| ResponseRules {
        version,
        head_request: sent.is_head(),
        keep_alive: sent.head.keep_alive,
        framing: head.body,
        ops: sent.ticket.response_ops(),
        tunnel: None,
        date: None,
    };
    let (request, agreed) = (&sent.head, answered.tunnel);
    sent.ticket.with_tunnel(request, head, agreed, rules(sent.head.version), |rules| {
        check_wire(sent, answered, head, rules);
    });
    sent.ticket.with_tunnel(request, head, agreed, rules(Version::Http2), |rules| {
        check_list(sent, answered, head, rules);
    });
}

/// As the client's connection writes it, which is closed behind it if it must be.
fn check_wire(sent: &Sent, answered: &Answered, head: &ResponseHead, rules: &ResponseRules<'_>) {
    let (mut wire, ops) = (Vec::new(), sent.ticket.response_ops());
    let interim = answered.interim.iter().filter(|_| rules.version != Version::Http10);
    for each in interim.clone() {
        encode_informational(&mut wire, each, rules.version, ops);
    }
    let outgoing = encode_response(&mut wire, head, rules);
    write_body(&mut wire, answered, outgoing, sent);

    let closed = answered.whole && !outgoing.keep_alive;
    let connect = sent.head.slice(sent.head.method) == b"CONNECT";
    let (seen, rest) = strict::responses(&wire, sent.is_head(), connect, closed);
    let text = || format!("{seen:?}\n{answered:?}");
    assert_eq!(seen.len(), interim.clone().count() + 1, "{}", text());
    for (seen, meant) in seen.iter().zip(interim) {
        assert_eq!(seen.line[9..12], *meant.status.to_string().as_bytes(), "{}", text());
        check_fields(sent, seen, true);
    }
    let last = seen.last().unwrap();
    check_fields(sent, last, false);
    if let Some(tunnel) = rules.tunnel {
        let status: &[u8] = if tunnel.kind.protocol().is_some() { b"101" } else { b"200" };
        assert_eq!(&last.line[9..12], status, "{}", text());
        if tunnel.kind.protocol() == Some(b"websocket") && head.version == Version::Http2 {
            // What HTTP/2 does not say is made, for the key that the client sent.
            assert_eq!(last.all(b"sec-websocket-accept").as_slice(), tunnel.accept.as_slice());
        }
        let said = [&last.body[..], rest].concat();
        return assert_eq!(said, answered.body, "{}", text());
    }
    assert_eq!(last.line[9..12], *head.status.to_string().as_bytes(), "{}", text());
    assert!(rest.is_empty(), "the client sees more: {}", String::from_utf8_lossy(&wire));
    let body = if outgoing.has_body { &answered.body[..] } else { &[] };
    assert_eq!(last.body, body, "{}", text());
    // What was torn does not look whole; a connection that is cut is told by its reset.
    if outgoing.has_body {
        let all = head.body == BodyLength::Known(answered.body.len() as u64);
        assert_eq!(last.whole, answered.whole || all, "{}", text());
    }
}

fn write_body(wire: &mut Vec<u8>, answered: &Answered, outgoing: Outgoing, sent: &Sent) {
    if !outgoing.has_body {
        return;
    }
    if !outgoing.chunked {
        return wire.extend_from_slice(&answered.body);
    }
    if !answered.body.is_empty() {
        encode_chunk_header(wire, answered.body.len());
        wire.extend_from_slice(&answered.body);
        encode_chunk_end(wire);
    }
    if answered.whole {
        let trailers = answered.trailers.as_deref().map(|all| sent.ticket.response_trailers(all));
        encode_last_chunk(wire, trailers.as_deref(), false);
    }
}

fn check_list(sent: &Sent, answered: &Answered, head: &ResponseHead, rules: &ResponseRules<'_>) {
    let ops = sent.ticket.response_ops();
    for each in &answered.interim {
        let seen = strict::list(&write_informational(each, ops), &[b":status"]);
        assert_eq!(seen.line, each.status.to_string().as_bytes(), "{seen:?}");
        check_fields(sent, &seen, true);
    }
    let (fields, ends) = write_response(head, rules);
    let seen = strict::list(&fields, &[b":status"]);
    let status = if rules.tunnel.is_some() { 200 } else { head.status };
    assert_eq!(seen.line, status.to_string().as_bytes(), "{fields:?}");
    check_fields(sent, &seen, false);
    if rules.tunnel.is_some_and(|tunnel| tunnel.kind.protocol() == Some(b"websocket")) {
        assert_eq!(seen.all(b"sec-websocket-accept"), [b""; 0], "{fields:?}");
    }
    if ends && !sent.is_head() && head.status != 304 {
        assert!(answered.body.is_empty(), "a body is left out: {answered:?}");
    }
    let length = seen.all(b"content-length");
    if let ([length], false) = (&length[..], ends) {
        let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
        let right = !answered.whole || answered.body.len() == length;
        assert!(right && answered.body.len() <= length, "{fields:?} {answered:?}");
    }
    if let Some(trailers) = &answered.trailers {
        let trailers = write_trailers(&sent.ticket.response_trailers(trailers));
        strict::check_trailers(&trailers);
        check_fields(sent, &Message { fields: trailers, ..Message::default() }, true);
    }
}

/// Nothing of the endpoint's connection, nothing that only we say, and the route's changes.
fn check_fields(sent: &Sent, seen: &Message, partly: bool) {
    for (name, _) in seen.fields.iter().chain(&seen.trailers) {
        assert!(!name.starts_with(b"x-mesh-") && !name.starts_with(b"x_mesh"), "{seen:?}");
        assert!(!name.starts_with(b"proxy-auth") && name != b"keep-alive", "{seen:?}");
    }
    // RFC 9110 §7.8: who says what it would change to says that it is of this connection alone.
    let status = seen.line.get(9..12);
    let offers = !seen.all(b"upgrade").is_empty();
    assert!(!offers || matches!(status, Some(b"101" | b"426")), "{seen:?}");
    assert_eq!(offers, seen.all(b"connection").contains(&&b"upgrade"[..]), "{seen:?}");
    if sent.ticket.route().is_some_and(|route| &*route.name == "old") {
        let (name, value) = mesh::SET_BACK;
        assert_eq!(seen.all(mesh::REMOVED_BACK), [b""; 0], "{seen:?}");
        assert!(seen.trailers.iter().all(|(n, _)| n != mesh::REMOVED_BACK), "{seen:?}");
        if !partly {
            assert_eq!(seen.all(name), [value], "{seen:?}");
        }
    }
}
