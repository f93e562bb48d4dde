//! Requests: from a field list to a head, and back (RFC 9113 §8.3.1).

use smallvec::SmallVec;

use super::HeadError;
use super::block::{Block, Pseudo};
use crate::codec::authority;
use crate::codec::encode::{Fields, Without};
use crate::codec::encode_request::{RequestRules, declared_length, made_fields, received_fields};
use crate::codec::error::CodecError;
use crate::codec::field::valid_field_name;
use crate::codec::framing::{Role, facts};
use crate::codec::h1_server::ServerRules;
use crate::codec::header_rules::{Received, clean_request};
use crate::codec::limits::Limits;
use crate::codec::parse::RequestBlock;
use crate::codec::request_head::{Given, body_length, check_content, locate_host, place};
use crate::codec::target::{self, Allowed, Target};
use crate::codec::websocket;
use crate::error::Reason;
use crate::head::{BodyLength, Headers, RequestHead, Scheme, Span, TunnelKind, Version};

/// The head of a list, and the length that it declares. `ended`: no body follows.
///
/// # Errors
/// Malformed by RFC 9113 §8.3.1, §8.5; or what may not pass, as in HTTP/1.1. Then the list has what
/// it had.
pub(super) fn head(
    block: &mut Block,
    ended: bool,
    limits: &Limits,
    rules: &ServerRules,
) -> Result<(RequestHead, Option<u64>), HeadError> {
    block.close()?;
    let (method, plain_connect) = check(&block.headers, &block.pseudo)?;
    let target = block.pseudo.path.unwrap_or_default();
    let headers = std::mem::take(&mut block.headers);
    let mut parsed = RequestBlock { version: Version::Http2, method, target, headers };
    let read = read(&mut parsed, &block.pseudo, plain_connect, ended, (limits, rules));
    if read.is_err() {
        block.headers = parsed.headers;
    }
    read
}

/// The same of a list whose pseudo fields are in order. It takes the fields.
fn read(
    parsed: &mut RequestBlock,
    pseudo: &Pseudo,
    plain_connect: bool,
    ended: bool,
    (limits, rules): (&Limits, &ServerRules),
) -> Result<(RequestHead, Option<u64>), HeadError> {
    let RequestBlock { method, target, .. } = *parsed;
    let headers = &parsed.headers;
    if target.len as usize > limits.target {
        return Err(CodecError::new(Reason::UriTooLong, "target too long").into());
    }
    let facts = facts(headers, Version::Http2, Role::Request)?;
    check_content(headers.slice(method), &facts)?;
    if headers.slice(method) == b"TRACE" && !ended {
        // Even an empty body would be announced over HTTP/1.1, to an endpoint that expects none.
        return Err(CodecError::bad("TRACE with content").into());
    }
    let connect = headers.slice(method) == b"CONNECT";
    if connect && facts.content_length.is_some() {
        return Err(CodecError::bad("CONNECT with a length").into()); // RFC 9113 §8.5
    }
    let body = match body_length(&facts, limits)? {
        // What follows a CONNECT is the tunnel's.
        BodyLength::Empty if !ended && !connect => BodyLength::Streamed,
        length => length,
    };
    let path: SmallVec<[u8; 256]> = headers.slice(target).into();
    let form = form(headers.slice(method), &path, plain_connect, rules)?;
    let scheme = pseudo.scheme.map(|scheme| parsed.headers.slice(scheme));
    let default_port = scheme.and_then(target::default_port).unwrap_or_default();
    let given = pseudo.authority.map(|authority| Given { authority, default_port });
    let (authority, host) = locate_host(parsed, given, &facts)?;
    if plain_connect && !authority::has_port(parsed.headers.slice(authority)) {
        return Err(CodecError::bad("CONNECT without a port").into());
    }
    let place = place(parsed, &path, &form, &rules.paths)?;
    let protocol = pseudo.protocol.map(|p| parsed.headers.slice(p).to_vec());
    let received = Received { nominates: false, upgrade: false };
    let left = clean_request(&mut parsed.headers, received);
    let head = RequestHead {
        version: Version::Http2,
        method,
        scheme: rules.scheme,
        authority,
        host,
        path: place.path,
        forward_path: place.forward_path,
        raw_path: place.raw_path,
        oddities: place.oddities,
        query: place.query,
        body,
        keep_alive: true,
        expect_continue: facts.expect_continue && body != BodyLength::Empty,
        upgrade: protocol.map(|p| parsed.headers.append_lower(&p)),
        vouched: left.vouched,
        via: left.via,
        binds: left.binds,
        headers: std::mem::take(&mut parsed.headers),
    };
    Ok((head, facts.content_length))
}

/// The method, and whether it is a CONNECT that names an authority and nothing else.
fn check(headers: &Headers, pseudo: &Pseudo) -> Result<(Span, bool), HeadError> {
    let malformed = |detail| Err(HeadError::Malformed(detail));
    let Some(method) = pseudo.method else { return malformed("no :method") };
    let text = |span: Option<Span>| span.map(|s| headers.slice(s));
    let connect = headers.slice(method) == b"CONNECT";
    let plain_connect = connect && pseudo.protocol.is_none();
    match (text(pseudo.scheme), text(pseudo.path)) {
        (None, None) if plain_connect => {}
        (_, _) if plain_connect => return malformed("CONNECT with :scheme or :path"),
        (None, _) => return malformed("no :scheme"),
        (_, None) => return malformed("no :path"),
        (Some(scheme), _) if !is_scheme(scheme) => return malformed("invalid :scheme"),
        (_, Some(b"")) => return malformed("empty :path"),
        (Some(_), Some(_)) => {}
    }
    match text(pseudo.protocol) {
        Some(_) if !connect => malformed(":protocol without CONNECT"),
        Some(protocol) if !valid_field_name(protocol) => malformed("invalid :protocol"),
        _ if !valid_field_name(headers.slice(method)) => malformed("invalid :method"),
        _ if pseudo.status.is_some() => malformed(":status in a request"),
        _ => Ok((method, plain_connect)),
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &[u8]) -> bool {
    let rest = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(rest)
}

fn form(
    method: &[u8],
    path: &[u8],
    plain_connect: bool,
    rules: &ServerRules,
) -> Result<Target, CodecError> {
    let allowed = Allowed { connect: rules.connect, trace: rules.trace };
    if plain_connect {
        return target::split(b"CONNECT", b"", allowed);
    }
    // An extended CONNECT is asked for by path; a target in any other form is for HTTP/1.1 only.
    let method = if method == b"CONNECT" { b"GET" } else { method };
    if path.iter().any(|b| *b <= b' ' || *b == 0x7F) {
        return Err(CodecError::bad("invalid byte in :path"));
    }
    match path {
        [b'/', ..] | b"*" => target::split(method, path, allowed),
        _ => Err(CodecError::bad("invalid :path")),
    }
}

/// Writes a request.
///
/// # Errors
/// What cannot be said in HTTP/2: a request of HTTP/1.0 that names no host.
pub(super) fn write<F: Fields>(
    out: &mut F,
    head: &RequestHead,
    rules: &RequestRules<'_>,
    scheme: Scheme,
) {
    let protocol = rules.tunnel.and_then(TunnelKind::protocol);
    let method = if protocol.is_some() { b"CONNECT" } else { head.slice(head.method) };
    out.field(b":method", method);
    if method != b"CONNECT" || protocol.is_some() {
        let scheme: &[u8] = if scheme == Scheme::Https { b"https" } else { b"http" };
        out.field(b":scheme", scheme);
    }
    out.field(b":authority", rules.authority.unwrap_or_else(|| head.slice(head.authority)));
    if method != b"CONNECT" || protocol.is_some() {
        write_path(out, head, rules);
    }
    if let Some(protocol) = protocol {
        out.field(b":protocol", protocol);
    }
    let name = if protocol == Some(websocket::WEBSOCKET) { websocket::KEY } else { b"" };
    let met = received_fields(&mut Without { out, name }, head, rules);
    // A length that was not declared may still be known; it is not the proxy's to say. Of a CONNECT
    // it is forbidden (RFC 9113 §8.5).
    let declared = met.content_length && method != b"CONNECT";
    if let Some(n) = declared_length(head, rules.framing, &met).filter(|_| declared) {
        out.content_length(n);
    }
    if met.te_trailers {
        out.field(b"te", b"trailers");
    }
    made_fields(out, head, rules, &met);
    out.changes(rules.ops);
}

/// Whether a request can be said in HTTP/2 at all: it must name an authority (RFC 9113 §8.3.1), and
/// an extended CONNECT needs the endpoint's leave (RFC 8441 §3).
pub(super) fn check_sayable(
    head: &RequestHead,
    rules: &RequestRules<'_>,
    can_upgrade: bool,
) -> Result<(), CodecError> {
    if rules.tunnel.is_some_and(|kind| kind.protocol().is_some()) {
        let unsupported = |what| Err(CodecError::new(Reason::UpgradeUnsupported, what));
        if !can_upgrade {
            return unsupported("the endpoint takes no extended CONNECT");
        }
        // An extended CONNECT has neither a body of its own nor another method.
        if rules.framing != BodyLength::Empty
            || !matches!(head.slice(head.method), b"GET" | b"CONNECT")
        {
            return unsupported("HTTP/2 upgrades with GET and without a body alone");
        }
    }
    match rules.authority.map_or(head.authority.len as usize, <[u8]>::len) {
        0 => Err(CodecError::bad("no host for HTTP/2")),
        _ => Ok(()),
    }
}

fn write_path<F: Fields>(out: &mut F, head: &RequestHead, rules: &RequestRules<'_>) {
    let path = rules.path.unwrap_or_else(|| head.slice(head.forward_path));
    // The absolute form of HTTP/1.1 may have an empty one (RFC 9113 §8.3.1).
    let path: &[u8] = if path.is_empty() { b"/" } else { path };
    match head.query {
        None => out.field(b":path", path),
        Some(query) => {
            let mut whole: SmallVec<[u8; 256]> = path.into();
            whole.push(b'?');
            whole.extend_from_slice(head.slice(query));
            out.field(b":path", &whole);
        }
    }
}
