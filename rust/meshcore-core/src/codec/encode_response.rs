//! A response to the client, relayed or our own, written in one pass.

use super::encode::{Fields, Without, status_line};
use super::field::{valid_field_name, valid_field_value};
use super::header_class::{Class, classify, is_codecs_own};
use super::header_ops::HeaderOps;
use super::websocket;
use crate::calendar::HttpDate;
use crate::head::{BodyLength, ResponseHead, TunnelKind, Version};

/// What is known about the client and the way out.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRules<'a> {
    /// The version that the client spoke.
    pub version: Version,
    /// Whether it asked with HEAD.
    pub head_request: bool,
    /// Whether its connection may serve another request, as far as is known before this response.
    pub keep_alive: bool,
    /// How the body is framed on its way in: the head's own [`BodyLength`], unless a layer
    /// replaced the body.
    pub framing: BodyLength,
    /// The route's changes.
    pub ops: &'a HeaderOps,
    /// The response begins a tunnel.
    pub tunnel: Option<Tunnel<'a>>,
    /// When it was received, for one that does not say when it was made (RFC 9110 §6.6.1).
    pub date: Option<HttpDate>,
}

/// A tunnel that a response begins.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel<'a> {
    /// What was asked for.
    pub kind: TunnelKind<'a>,
    /// The `sec-websocket-accept` for an HTTP/1.1 client whose endpoint spoke HTTP/2.
    pub accept: Option<&'a [u8]>,
}

/// How the body goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Whether each part of the body is a chunk, and the last chunk ends it.
    pub chunked: bool,
    /// Whether the response has a body at all; if not, nothing may follow the head.
    pub has_body: bool,
    /// Whether the connection serves another request; otherwise it is closed behind the body.
    pub keep_alive: bool,
}

/// Whether a response with this status never has a body (RFC 9110 §6.4.1).
pub(super) const fn bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// Appends a relayed head to `out` and says how the body goes out.
pub fn encode_response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    rules: &ResponseRules<'_>,
) -> Outgoing {
    out.reserve(head.headers.buffer_len() + rules.ops.lines().len() + 128);
    if let Some(tunnel) = rules.tunnel {
        return encode_tunnel(out, head, rules, tunnel);
    }
    status_line(out, head.status);
    let no_body = rules.head_request || bodiless(head.status);
    // In answer to HEAD, and in a 304, the length is that of a body which is not sent.
    let keeps_length = no_body && !matches!(head.status, 100..=199 | 204);
    final_fields(out, head, rules, keeps_length);
    let mut outgoing =
        Outgoing { chunked: false, has_body: !no_body, keep_alive: rules.keep_alive };
    if !no_body {
        match rules.framing {
            BodyLength::Empty => {
                out.content_length(0);
                outgoing.has_body = false;
            }
            BodyLength::Known(n) => out.content_length(n),
            // RFC 9112 §6.1: no transfer coding to a client that spoke 1.0.
            _ if rules.version == Version::Http10 => outgoing.keep_alive = false,
            _ => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                outgoing.chunked = true;
            }
        }
    }
    if head.status == 426 && rules.version == Version::Http11 {
        wanted(out, head);
    }
    connection(out, rules.version, outgoing.keep_alive);
    out.changes(rules.ops);
    out.extend_from_slice(b"\r\n");
    outgoing
}

/// RFC 9110 §7.8 and §9.3.6: behind the head are bytes of another protocol.
fn encode_tunnel(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    rules: &ResponseRules<'_>,
    tunnel: Tunnel<'_>,
) -> Outgoing {
    if let Some(protocol) = tunnel.kind.protocol() {
        status_line(out, 101);
        let made_accept = protocol == websocket::WEBSOCKET && head.version == Version::Http2;
        let name = if made_accept { websocket::ACCEPT } else { b"" };
        received_fields(&mut Without { out: &mut *out, name }, head, rules.ops, false);
        out.field(b"upgrade", protocol);
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else {
        status_line(out, 200);
        final_fields(out, head, rules, false);
    }
    if let Some(accept) = tunnel.accept {
        out.field(websocket::ACCEPT, accept);
    }
    out.changes(rules.ops);
    out.extend_from_slice(b"\r\n");
    Outgoing { chunked: false, has_body: true, keep_alive: false }
}

/// Appends an interim (1xx) head to `out`; nothing for a client that spoke HTTP/1.0, which knows
/// none (RFC 9110 §15.2). Of the route's changes only what it takes out.
pub fn encode_informational(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    version: Version,
    ops: &HeaderOps,
) {
    if version == Version::Http10 {
        return;
    }
    status_line(out, head.status);
    received_fields(out, head, ops, false);
    out.extend_from_slice(b"\r\n");
}

/// The same of a final response, and its date.
pub(super) fn final_fields<F: Fields>(
    out: &mut F,
    head: &ResponseHead,
    rules: &ResponseRules<'_>,
    keeps_length: bool,
) {
    let dated = received_fields(out, head, rules.ops, keeps_length);
    if let Some(date) = rules.date.filter(|_| !dated && !rules.ops.drops(b"date")) {
        out.field(b"date", date.as_bytes());
    }
}

/// Writes what passes of the fields received, and the route's changes are still to come. Whether
/// there was a date.
pub(super) fn received_fields<F: Fields>(
    out: &mut F,
    head: &ResponseHead,
    ops: &HeaderOps,
    keeps_length: bool,
) -> bool {
    let mut dated = false;
    for (name, value) in head.headers.iter() {
        dated |= name == b"date";
        let passes = match classify(name) {
            Class::Hop | Class::Te => false,
            Class::ContentLength => keeps_length,
            _ => true,
        };
        if passes && !ops.drops(name) {
            out.field(name, value);
        }
    }
    dated
}

/// What protocols an endpoint asks for (RFC 9110 §15.5.22), where the client can offer one.
fn wanted(out: &mut Vec<u8>, head: &ResponseHead) {
    for protocols in head.headers.get_all(b"upgrade") {
        out.field(b"upgrade", protocols);
    }
    if head.headers.contains(b"upgrade") {
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
}

/// What the client must be told about its connection (RFC 9112 §9.3, §9.6).
fn connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    } else if version == Version::Http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
}

/// A local reply, with what it takes to write it.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingReply<'a> {
    /// 200 to 599.
    pub status: u16,
    /// Its fields; framing and connection fields are added, and left out here. So is a field that is
    /// not one line, because values may be built from what a client sent.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// Its body.
    pub body: &'a [u8],
    /// The version that the client spoke.
    pub version: Version,
    /// Whether it asked with HEAD.
    pub head_request: bool,
    /// Whether the connection serves another request.
    pub keep_alive: bool,
    /// The time, unless its fields say one.
    pub date: Option<HttpDate>,
}

impl OutgoingReply<'_> {
    /// Writes its fields.
    pub(super) fn fields<F: Fields>(&self, out: &mut F) {
        let mut dated = false;
        for (name, value) in self.headers.iter().filter(|(name, value)| may_reply(name, value)) {
            dated |= name.eq_ignore_ascii_case(b"date");
            out.field(name, value);
        }
        if let Some(date) = self.date.filter(|_| !dated) {
            out.field(b"date", date.as_bytes());
        }
    }
}

/// Whether a field of a local reply is written: one line, and nothing that the codec writes.
fn may_reply(name: &[u8], value: &[u8]) -> bool {
    valid_field_name(name) && valid_field_value(value) && !is_codecs_own(&name.to_ascii_lowercase())
}

/// Appends a whole local reply, body included, to `out`.
pub fn encode_reply(out: &mut Vec<u8>, reply: &OutgoingReply<'_>) {
    out.reserve(256 + reply.body.len());
    status_line(out, reply.status);
    reply.fields(out);
    if !bodiless(reply.status) {
        out.content_length(reply.body.len() as u64);
    }
    connection(out, reply.version, reply.keep_alive);
    out.extend_from_slice(b"\r\n");
    if !reply.head_request && !bodiless(reply.status) {
        out.extend_from_slice(reply.body);
    }
}
