//! Requests from a client's bytes to an endpoint's, and what must be true of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshcore_core::codec::h2::heads::{write_request, write_trailers};
use meshcore_core::codec::h2::{H2Config, H2Server, Signal};
use meshcore_core::codec::{
    BodyPart, H1Server, Limits, RequestRules, ServerEvent, encode_chunk_end, encode_chunk_header,
    encode_last_chunk, encode_request,
};
use meshcore_core::exchange::{RequestKind, RequestTicket};
use meshcore_core::head::{BodyLength, Headers, RequestHead, Scheme, TunnelKind, Version};

use super::mesh::{self, Mesh, NOW};
use super::strict::{self, Case, Field, Message};

/// A request as it was understood here.
#[derive(Debug)]
pub(crate) struct Asked {
    head: RequestHead,
    body: Vec<u8>,
    trailers: Option<Box<Headers>>,
    /// All of it came.
    whole: bool,
}

impl Asked {
    fn new(head: RequestHead) -> Self {
        Self { head, body: Vec::new(), trailers: None, whole: false }
    }

    fn take(&mut self, part: BodyPart, data: &[u8]) {
        assert!(!self.whole, "a body goes on behind its end");
        part.bytes.append_to(data, &mut self.body);
        (self.whole, self.trailers) = (part.end, part.trailers);
    }
}

/// What an HTTP/1.1 client asks for.
pub(crate) fn asked_over_http1<'a>(
    mesh: &Mesh,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Asked> {
    let limits = Limits { keep_case: true, ..Limits::default() };
    let mut server = H1Server::with_rules(limits, mesh.rules());
    let mut all: Vec<Asked> = Vec::new();
    for data in reads {
        let (mut event, mut from) = (server.receive(data), data);
        loop {
            match event {
                Err(_) => return all,
                Ok(None) => break,
                Ok(Some(ServerEvent::Head { head, body })) => {
                    all.push(Asked::new(head));
                    all.last_mut().unwrap().take(body, from);
                }
                Ok(Some(ServerEvent::Data(body))) => all.last_mut().unwrap().take(body, from),
            }
            if !all.last().unwrap().whole {
                break;
            }
            if !server.start_next() {
                return all;
            }
            (event, from) = (server.next_event(), &[]);
        }
    }
    all
}

/// What an HTTP/2 client asks for; `frames` follow the preface.
pub(crate) fn asked_over_http2<'a>(
    mesh: &Mesh,
    frames: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Asked> {
    let config = H2Config::default();
    let mut server = H2Server::new(Limits::default(), mesh.rules(), &config, NOW);
    server
        .receive(Bytes::from_static(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"), NOW);
    let mut all: BTreeMap<u32, Asked> = BTreeMap::new();
    for data in frames {
        server.receive(Bytes::copy_from_slice(data), NOW);
        for _ in 0..64 {
            if server.take_output(<[u8]>::is_empty) {
                break;
            }
        }
        for (id, signal) in server.signals() {
            match signal {
                Signal::Message(ServerEvent::Head { head, body }) => {
                    let asked = all.entry(id).or_insert(Asked::new(head));
                    asked.take(body, &[]);
                }
                Signal::Message(ServerEvent::Data(body)) => {
                    all.get_mut(&id).expect("a head before a body").take(body, &[]);
                }
                Signal::Refused(..) | Signal::Reset { malformed: true, .. } => _ = all.remove(&id),
                _ => {}
            }
        }
    }
    all.into_values().collect()
}

/// Sends each on, over both protocols, and looks at what the endpoint sees.
pub(crate) fn check(mesh: &Mesh, all: Vec<Asked>) {
    let mut sent = Vec::new();
    for mut asked in all {
        let Some(ticket) = mesh.pass(&mut asked.head, asked.whole) else { continue };
        check_list(mesh, &asked, &ticket);
        let closes = !asked.whole || ticket.kind() == RequestKind::Tunnel;
        sent.push((asked, ticket));
        if closes {
            check_wires(mesh, &sent);
            sent.clear();
        }
    }
    check_wires(mesh, &sent);
}

/// To an endpoint of either kind.
fn check_wires(mesh: &Mesh, sent: &[(Asked, Box<RequestTicket>)]) {
    for case in [Case::Lower, Case::AsWritten] {
        let mut wire = Vec::new();
        sent.iter().for_each(|(asked, ticket)| write(mesh, asked, ticket, case, &mut wire));
        check_wire(mesh, &wire, case, sent);
    }
}

/// As the connection to an endpoint writes it.
fn write(mesh: &Mesh, asked: &Asked, ticket: &RequestTicket, case: Case, wire: &mut Vec<u8>) {
    let head = &asked.head;
    let as_written = case == Case::AsWritten;
    ticket.with_request_rules(head, &mesh.peer, mesh::ID, NOW, |rules| {
        encode_request(wire, head, &RequestRules { as_written, ..*rules });
    });
    if !matches!(head.body, BodyLength::Streamed | BodyLength::UntilClose) {
        return wire.extend_from_slice(&asked.body);
    }
    if !asked.body.is_empty() {
        encode_chunk_header(wire, asked.body.len());
        wire.extend_from_slice(&asked.body);
        encode_chunk_end(wire);
    }
    if asked.whole {
        let trailers = asked.trailers.as_deref().map(|all| ticket.request_trailers(all));
        encode_last_chunk(wire, trailers.as_deref(), as_written);
    }
}

/// Over HTTP/1.1 a strict endpoint sees as many requests as were sent, each as it was meant.
fn check_wire(mesh: &Mesh, wire: &[u8], case: Case, sent: &[(Asked, Box<RequestTicket>)]) {
    let mut rest = wire;
    for (asked, ticket) in sent {
        let (seen, behind) = strict::request(rest, case);
        rest = behind;
        let text = || format!("{seen:?}\n{asked:?}");
        let all = match asked.head.body {
            BodyLength::Known(length) => asked.body.len() as u64 == length,
            // Of a stream that asks for a tunnel nothing else is the request's.
            BodyLength::Empty => true,
            BodyLength::Streamed | BodyLength::UntilClose => false,
        };
        assert_eq!(seen.whole, asked.whole || all, "{}", text());
        assert_eq!(seen.body, asked.body, "{}", text());
        let head = &asked.head;
        let mut line = seen.line.splitn(3, |b| *b == b' ');
        let (method, target) = (line.next().unwrap(), line.next().expect("a target"));
        assert_eq!(line.next(), Some(&b"HTTP/1.1"[..]), "{}", text());
        let tunnel = head.tunnel().filter(|_| ticket.kind() == RequestKind::Tunnel);
        let upgrade = matches!(tunnel, Some(TunnelKind::Upgrade(_)));
        let asked_for = head.slice(head.method);
        match asked_for {
            b"CONNECT" if upgrade => assert_eq!(method, b"GET", "{}", text()),
            b"CONNECT" => {
                assert_eq!((method, target), (asked_for, head.slice(head.authority)), "{}", text());
            }
            _ => assert_eq!(method, asked_for, "{}", text()),
        }
        if method != b"CONNECT" {
            check_target(mesh, method, target, head, ticket);
        }
        assert_eq!(seen.all(b"upgrade").len(), usize::from(upgrade), "{}", text());
        if method == b"CONNECT" {
            assert_eq!(seen.all(b"content-length"), [b""; 0], "{}", text());
        }
        if head.version == Version::Http2 && tunnel == Some(TunnelKind::Upgrade(b"websocket")) {
            assert_eq!(seen.all(b"sec-websocket-key").len(), 1, "{}", text());
        }
        for value in seen.all(b"connection") {
            let ours = if upgrade { value == b"upgrade" } else { value == b"te" };
            assert!(ours, "{}", text());
        }
        assert_eq!(seen.all(b"host"), [named(head)], "{}", text());
        check_host(named(head));
        check_fields(&seen, ticket);
    }
    assert!(rest.is_empty(), "the endpoint sees more: {:?}", String::from_utf8_lossy(wire));
}

/// Over HTTP/2 the same, or nothing is sent.
fn check_list(mesh: &Mesh, asked: &Asked, ticket: &RequestTicket) {
    let head = &asked.head;
    let written = ticket.with_request_rules(head, &mesh.peer, mesh::ID, NOW, |rules| {
        write_request(head, rules, Scheme::Http, true)
    });
    let Ok(fields) = written else { return };
    let known: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":protocol"];
    let seen = strict::list(&fields, &known);
    let of = |name: &[u8]| fields.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..]);
    let method = of(b":method").expect("a method");
    let tunnel = head.tunnel().filter(|_| ticket.kind() == RequestKind::Tunnel);
    if let Some(TunnelKind::Upgrade(protocol)) = tunnel {
        assert_eq!((method, of(b":protocol")), (&b"CONNECT"[..], Some(protocol)), "{fields:?}");
        if protocol == b"websocket" {
            assert_eq!(seen.all(b"sec-websocket-key"), [b""; 0], "{fields:?}");
        }
    } else {
        assert_eq!((method, of(b":protocol")), (head.slice(head.method), None), "{fields:?}");
    }
    assert!(method != b"TRACE" || asked.whole && asked.body.is_empty(), "{fields:?}");
    assert_eq!(of(b":authority"), Some(named(head)), "{fields:?}");
    match of(b":path") {
        Some(target) => check_target(mesh, method, target, head, ticket),
        None => assert_eq!((method, of(b":protocol")), (&b"CONNECT"[..], None), "{fields:?}"),
    }
    if let [length] = seen.all(b"content-length")[..] {
        assert_ne!(method, b"CONNECT", "{fields:?}");
        let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
        assert!(asked.body.len() <= length && (!asked.whole || asked.body.len() == length));
    }
    let mut seen = seen;
    if let Some(trailers) = &asked.trailers {
        seen.trailers = write_trailers(&ticket.request_trailers(trailers));
        strict::check_trailers(&seen.trailers);
    }
    check_fields(&seen, ticket);
}

/// Whom the request is for; who does not say it asks the endpoint.
fn named(head: &RequestHead) -> &[u8] {
    match head.slice(head.authority) {
        b"" => mesh::ENDPOINT.as_bytes(),
        said => said,
    }
}

/// No label is empty but the root behind the last: all who read it see one name.
fn check_host(authority: &[u8]) {
    let host = authority.split(|b| *b == b':').next().expect("a first part");
    if !authority.starts_with(b"[") {
        let name = host.strip_suffix(b".").unwrap_or(host);
        assert!(name.split(|b| *b == b'.').all(|label| !label.is_empty()), "{authority:?}");
    }
}

fn is_rewritten(ticket: &RequestTicket) -> bool {
    ticket.route().is_some_and(|route| &*route.name == "old")
}

/// What is asked for: as it was written, or what the route says in its place; never a way around
/// what was matched (RFC 3986 §5.2.4, §6.2.2).
fn check_target(
    mesh: &Mesh,
    method: &[u8],
    target: &[u8],
    head: &RequestHead,
    ticket: &RequestTicket,
) {
    let shown = format!("{} for {head:?}", target.escape_ascii());
    let mut parts = target.splitn(2, |b| *b == b'?');
    let (path, query) = (parts.next().unwrap(), parts.next());
    assert_eq!(query, head.query.map(|q| head.slice(q)), "{shown}");
    if path == b"*" {
        return assert_eq!(method, b"OPTIONS", "{shown}");
    }
    assert!(path.starts_with(b"/"), "{shown}");
    let taken = |b: &u8| matches!(b, 0x21..=0x7e) && *b != b'#';
    assert!(target.iter().all(taken) && !path.contains(&b'\\'), "{shown}");
    if is_rewritten(ticket) {
        assert!(path.starts_with(mesh::REWRITTEN) && !path.starts_with(b"//"), "{shown}");
        let behind = path.get(mesh::REWRITTEN.len());
        assert!(matches!(behind, None | Some(b'/')), "{shown}");
    } else {
        assert_eq!(path, head.slice(head.forward_path), "{shown}");
    }
    for segment in decoded(path, mesh).split(|b| matches!(b, b'/' | b'\\')) {
        assert!(segment != b"." && segment != b"..", "{shown}");
    }
}

/// As somebody reads it who takes encoded slashes for slashes.
fn decoded(path: &[u8], mesh: &Mesh) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let hex = path.get(at + 1..at + 3).filter(|_| path[at] == b'%');
        let byte = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        assert!(path[at] != b'%' || byte.is_some() || !mesh.is_strict(), "{path:?}");
        out.push(byte.unwrap_or(path[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

/// What proxies say is said by us alone, whatever the client's spelling.
fn check_fields(seen: &Message, ticket: &RequestTicket) {
    for name in [&b"x-forwarded-for"[..], b"x-forwarded-proto", b"x-request-id"] {
        assert_eq!(seen.all(name).len(), 1, "{seen:?}");
    }
    assert_eq!(seen.all(b"x-forwarded-for"), [b"192.0.2.1"], "{seen:?}");
    assert_eq!(seen.all(b"x-forwarded-proto"), [b"http"], "{seen:?}");
    let via = seen.all(b"via").pop().expect("a via");
    assert!(via.split(|b| *b == b' ').nth(1).is_some_and(|name| name == b"edge+edge"), "{seen:?}");
    let hidden: [&[u8]; 6] = [
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authorization",
        b"proxy",
        b"http2-settings",
        b"forwarded",
    ];
    for name in hidden {
        assert_eq!(values_of_any_spelling(&seen.fields, name), [b""; 0], "{seen:?}");
    }
    let ours: [&[u8]; 5] =
        [b"content-length", b"transfer-encoding", b"x-forwarded-for", b"x-request-id", b"host"];
    for name in ours {
        let (all, plain) = (values_of_any_spelling(&seen.fields, name), seen.all(name));
        assert_eq!(all, plain, "a twin of what we write: {seen:?}");
    }
    let (all, plain) = (values_of_any_spelling(&seen.fields, mesh::JUDGED), seen.all(mesh::JUDGED));
    assert_eq!(all, plain, "a twin of what requests are judged by: {seen:?}");
    assert_eq!(values_of_any_spelling(&seen.trailers, mesh::JUDGED), [b""; 0], "{seen:?}");
    let tenants = values_of_any_spelling(&seen.fields, b"x-tenant-id");
    assert_eq!(tenants, seen.all(mesh::JUDGED_UNDERSCORED), "{seen:?}");
    assert_eq!(values_of_any_spelling(&seen.trailers, b"x-tenant-id"), [b""; 0], "{seen:?}");
    if is_rewritten(ticket) {
        let (name, value) = mesh::SET;
        assert_eq!(values_of_any_spelling(&seen.fields, name), [value], "{seen:?}");
        assert_eq!(values_of_any_spelling(&seen.fields, mesh::REMOVED), [b""; 0], "{seen:?}");
    }
}

/// Gateway interfaces take an underscore for a hyphen.
fn values_of_any_spelling<'a>(fields: &'a [Field], name: &[u8]) -> Vec<&'a [u8]> {
    let plain = |n: &[u8]| n.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect::<Vec<_>>();
    fields.iter().filter(|(n, _)| plain(n) == name).map(|(_, value)| &value[..]).collect()
}
