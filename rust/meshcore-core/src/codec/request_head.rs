//! A validated request head from one block.

use super::authority;
use super::error::CodecError;
use super::field::valid_field_name;
use super::framing::{Facts, Role, facts};
use super::h1_server::ServerRules;
use super::header_rules::{Received, clean_request};
use super::limits::Limits;
use super::parse::{self, RequestBlock};
use super::target::{self, Allowed, Target};
use crate::error::Reason;
use crate::head::{BodyLength, RequestHead, Span, Version, without_root};
use crate::path::{Oddities, PathRules, Text, check_query, normalize};

/// Reads the block of a request, its empty line included.
pub(super) fn read(
    block: &[u8],
    limits: &Limits,
    rules: &ServerRules,
) -> Result<RequestHead, CodecError> {
    let mut parsed = parse::request(block, limits)?;
    if parsed.target.len as usize > limits.target {
        return Err(CodecError::new(Reason::UriTooLong, "target too long"));
    }
    let facts = facts(&parsed.headers, parsed.version, Role::Request)?;
    let method = slice(block, parsed.method);
    check_content(method, &facts)?;
    let body = body_length(&facts, limits)?;
    let raw = slice(block, parsed.target);
    let allowed = Allowed { connect: rules.connect, trace: rules.trace };
    let target = target::split(method, raw, allowed)?;
    let given = match &target {
        Target::Absolute { named, .. } | Target::Asterisk(Some(named)) => {
            let start = parsed.target.start + named.authority.start as u32;
            let authority = Span { start, len: named.authority.len() as u32 };
            Some(Given { authority, default_port: named.default_port })
        }
        Target::Authority => Some(Given { authority: parsed.target, default_port: b"" }),
        Target::Origin { .. } | Target::Asterisk(None) => None,
    };
    let (authority, host) = locate_host(&mut parsed, given, &facts)?;
    if target == Target::Authority && !authority::has_port(parsed.headers.slice(authority)) {
        return Err(CodecError::bad("CONNECT without a port"));
    }
    let place = place(&mut parsed, raw, &target, &rules.paths)?;
    let upgrade = if may_upgrade(method) { upgrade(&mut parsed, &facts) } else { None };
    let received = Received { nominates: facts.nominates, upgrade: upgrade.is_some() };
    let left = clean_request(&mut parsed.headers, received);
    Ok(RequestHead {
        version: parsed.version,
        method: parsed.method,
        scheme: rules.scheme,
        authority,
        host,
        path: place.path,
        forward_path: place.forward_path,
        raw_path: place.raw_path,
        oddities: place.oddities,
        query: place.query,
        body,
        // What a client sends behind a CONNECT that is refused may be the tunnel's already.
        keep_alive: facts.persists(parsed.version) && target != Target::Authority,
        // Without a body there is nothing to wait for (RFC 9110 §10.1.1).
        expect_continue: facts.expect_continue && body != BodyLength::Empty,
        upgrade,
        vouched: left.vouched,
        via: left.via,
        binds: left.binds,
        headers: parsed.headers,
    })
}

/// Whether an upgrade beside the method means anything: a CONNECT is for its own tunnel, or for none,
/// and a TRACE for an echo.
fn may_upgrade(method: &[u8]) -> bool {
    !matches!(method, b"CONNECT" | b"TRACE")
}

/// One protocol: of several that HTTP/1.1 allows (RFC 9110 §7.8) none is offered, for an ignored
/// upgrade is always a valid answer.
fn upgrade(parsed: &mut RequestBlock, facts: &Facts) -> Option<Span> {
    let asked = facts.wants_upgrade && parsed.version == Version::Http11;
    let span = facts.upgrade.filter(|_| asked)?;
    let protocol = parsed.headers.slice(span).to_ascii_lowercase();
    valid_field_name(&protocol).then(|| parsed.headers.append(&protocol))
}

fn slice(block: &[u8], span: Span) -> &[u8] {
    &block[span.start as usize..(span.start + span.len) as usize]
}

/// RFC 9110 §9.3.6, §9.3.8: what comes behind these is a tunnel's, or nothing.
pub(super) fn check_content(method: &[u8], facts: &Facts) -> Result<(), CodecError> {
    let has_content = facts.chunked || facts.content_length.is_some_and(|n| n > 0);
    match method {
        b"CONNECT" if has_content => Err(CodecError::bad("CONNECT with content")),
        b"TRACE" if has_content => Err(CodecError::bad("TRACE with content")),
        _ => Ok(()),
    }
}

/// RFC 9112 §6.3: a request without framing fields has no body.
pub(super) fn body_length(facts: &Facts, limits: &Limits) -> Result<BodyLength, CodecError> {
    match facts.content_length {
        Some(n) if limits.body.is_some_and(|max| n > max) => {
            Err(CodecError::new(Reason::BodyTooLarge, "body too large"))
        }
        Some(n) if n > 0 => Ok(BodyLength::Known(n)),
        _ if facts.chunked => Ok(BodyLength::Streamed),
        _ => Ok(BodyLength::Empty),
    }
}

/// An authority beside `Host`.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) authority: Span,
    /// The port that its scheme need not say, with its colon; empty for none.
    pub(super) default_port: &'static [u8],
}

/// The one authority of the request and its host part.
///
/// RFC 9112 §3.2.2 lets the target's authority override `Host`, RFC 9113 §8.3.1 lets `:authority`;
/// here they must agree but for a default port, because the next reader may not know that rule.
/// Only HTTP/1.0 may leave it out.
pub(super) fn locate_host(
    parsed: &mut RequestBlock,
    given: Option<Given>,
    facts: &Facts,
) -> Result<(Span, Span), CodecError> {
    let text = |span: Span, parsed: &RequestBlock| parsed.headers.slice(span).to_vec();
    let same = |host, other: Given| {
        let (host, authority) = (parsed.headers.slice(host), parsed.headers.slice(other.authority));
        authority::same(host, authority, other.default_port)
    };
    let span = match (facts.host, given) {
        (Some(host), Some(other)) if !same(host, other) => {
            return Err(CodecError::bad("host and target disagree"));
        }
        (None, None) if parsed.version != Version::Http10 => {
            return Err(CodecError::bad("missing host"));
        }
        (None, Some(_)) if parsed.version == Version::Http11 => {
            return Err(CodecError::bad("host only in the target"));
        }
        (None, None) => return Ok((Span::default(), Span::default())),
        (Some(span), _) | (None, Some(Given { authority: span, .. })) => span,
    };
    let parts = authority::check(parsed.headers.slice(span))?;
    let span = if parts.has_upper {
        let text = text(span, parsed);
        parsed.headers.append_lower(&text)
    } else {
        span
    };
    let host = Span { start: span.start, len: parts.host_len as u32 };
    Ok((span, canonical(host, parsed)))
}

/// The host in its one spelling. In lower case it is already.
fn canonical(host: Span, parsed: &mut RequestBlock) -> Span {
    let text = parsed.headers.slice(host);
    match authority::better_ipv6(text) {
        Some(best) => parsed.headers.append(best.as_bytes()),
        None => Span { len: without_root(text).len() as u32, ..host },
    }
}

/// The path in its spellings, and the query.
#[derive(Default)]
pub(super) struct Place {
    pub(super) path: Span,
    pub(super) forward_path: Span,
    pub(super) raw_path: Span,
    pub(super) query: Option<Span>,
    pub(super) oddities: Oddities,
}

pub(super) fn place(
    parsed: &mut RequestBlock,
    raw: &[u8],
    target: &Target,
    rules: &PathRules,
) -> Result<Place, CodecError> {
    let (path, query) = match target {
        Target::Origin { path, query } | Target::Absolute { path, query, .. } => {
            (path.clone(), query.clone())
        }
        Target::Asterisk(named) => {
            let path = if named.is_some() { parsed.headers.append(b"*") } else { parsed.target };
            return Ok(Place { path, forward_path: path, raw_path: path, ..Place::default() });
        }
        Target::Authority => return Ok(Place::default()),
    };
    let span = |from: usize, to: usize| Span {
        start: parsed.target.start + from as u32,
        len: (to - from) as u32,
    };
    let (raw_path, whole) = (&raw[path.clone()], span(path.start, path.end));
    let asked = query.as_ref().map(|query| span(query.start, query.end));
    let (_, found) = parsed.headers.append_with(|out| normalize(raw_path, rules, out));
    let found = found?;
    let spelt = |text: Text| match text {
        Text::Raw(0) => whole,
        Text::Raw(from) => span(path.start + from, path.end),
        Text::Out(range) => Span { start: range.start as u32, len: range.len() as u32 },
    };
    let mut oddities = found.seen;
    if let Some(query) = query {
        oddities |= check_query(&raw[query], rules)?;
    }
    Ok(Place {
        path: spelt(found.path),
        forward_path: spelt(found.forward),
        raw_path: whole,
        query: asked,
        oddities,
    })
}
