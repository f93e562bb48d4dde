//! What proxies in front of us wrote about the client: `x-forwarded-for`, `forwarded` (RFC 7239),
//! `x-real-ip`.
//!
//! A list is read from its end on: each proxy appends, so what a trusted one wrote stands behind
//! whatever its client made up, and nothing further left can change how it reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use crate::codec::is_token_byte;
use crate::head::{Headers, Scheme};
use crate::snapshot::ClientHeader;

pub(super) const FOR: &[u8] = b"x-forwarded-for";
pub(super) const REAL_IP: &[u8] = b"x-real-ip";
pub(super) const FORWARDED: &[u8] = b"forwarded";

/// The entries of a list, from the last one on; `None` for one that is no address.
pub(super) fn entries(
    header: ClientHeader,
    headers: &Headers,
) -> impl Iterator<Item = Option<IpAddr>> + '_ {
    let name = match header {
        ClientHeader::XForwardedFor => FOR,
        ClientHeader::Forwarded => FORWARDED,
        ClientHeader::XRealIp => REAL_IP,
    };
    let quotes = header == ClientHeader::Forwarded;
    let read = if quotes { forwarded_for } else { address };
    let lines = headers.iter().rev().filter(move |(n, _)| *n == name);
    lines.flat_map(move |(_, line)| FromTheEnd { rest: Some(line), quotes }).map(read)
}

/// The one address of `x-real-ip`; which of two is meant cannot be known.
pub(super) fn real_ip(headers: &Headers) -> Option<IpAddr> {
    let mut all = entries(ClientHeader::XRealIp, headers);
    all.next().flatten().filter(|_| all.next().is_none())
}

/// The elements of a list in one field, from the last one on. One that is empty is one too: who
/// wrote nothing there vouched for nothing further left.
struct FromTheEnd<'a> {
    rest: Option<&'a [u8]>,
    quotes: bool,
}

impl<'a> Iterator for FromTheEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut quoted = false;
        for (at, byte) in rest.iter().enumerate().rev() {
            match byte {
                b',' if !quoted => {
                    self.rest = Some(&rest[..at]);
                    return Some(&rest[at + 1..]);
                }
                b'"' if self.quotes && !(quoted && is_escaped(&rest[..at])) => quoted = !quoted,
                _ => {}
            }
        }
        self.rest.take()
    }
}

/// Whether what follows is escaped (RFC 9110 §5.6.4).
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// An address as proxies write it: bare, `v4:port`, `[v6]` or `[v6]:port`. An IPv4 one in IPv6 is
/// that IPv4 one; the zone of a scoped one means nothing here. `0.0.0.0` and `::` are no host's.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let ip = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            port_or_none(port)?;
            IpAddr::V6(scoped(ip)?)
        }
        None => match text.parse::<Ipv4Addr>() {
            Ok(v4) => IpAddr::V4(v4),
            Err(_) => match scoped(text) {
                Some(v6) => IpAddr::V6(v6),
                None => {
                    let colon = text.find(':')?;
                    port_or_none(&text[colon..])?;
                    IpAddr::V4(text[..colon].parse().ok()?)
                }
            },
        },
    };
    Some(ip.to_canonical()).filter(|ip| !ip.is_unspecified())
}

/// `fe80::1`, or `fe80::1%eth0` (RFC 4007 §11).
fn scoped(text: &str) -> Option<Ipv6Addr> {
    let (ip, zone) = text.split_once('%').unwrap_or((text, "-"));
    let is_zone = !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_graphic() && b != b'%');
    ip.parse().ok().filter(|_| is_zone)
}

/// Nothing, `:` and a number, or the hidden port of RFC 7239 §6.
fn port_or_none(text: &str) -> Option<()> {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty().then_some(()) };
    let hidden = |p: &str| {
        !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let is_number = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (is_number || port.strip_prefix('_').is_some_and(hidden)).then_some(())
}

/// Room for the longest address with its zone and port; what is longer is none.
const NODE_BYTES: usize = 96;

/// The address after `for` in an element of `forwarded`; none where it is hidden, `unknown`, or the
/// element is not well-formed. Values with `:` and brackets are taken without quotes too, as many
/// write them.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut rest = element.trim_ascii();
    let mut node: Option<SmallVec<[u8; NODE_BYTES]>> = None;
    while !rest.is_empty() {
        let name = rest.iter().position(|b| !is_token_byte(*b)).filter(|n| *n > 0)?;
        let (name, after) = rest.split_at(name);
        let (value, after) = value(after.strip_prefix(b"=")?)?;
        if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None; // RFC 7239 §4: each parameter once
        }
        let after = after.trim_ascii_start();
        rest = match after.strip_prefix(b";") {
            Some(next) => next.trim_ascii_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    address(&node.filter(|node| node.len() <= NODE_BYTES)?)
}

/// A token or a quoted string, and what follows; of what is longer than any address its beginning, and a byte
/// more.
fn value(text: &[u8]) -> Option<(SmallVec<[u8; NODE_BYTES]>, &[u8])> {
    let mut value = SmallVec::new();
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let is_plain = |b: &u8| is_token_byte(*b) || b":[]".contains(b);
        let end = text.iter().position(|b| !is_plain(b)).unwrap_or(text.len());
        value.extend_from_slice(&text[..end.min(NODE_BYTES + 1)]);
        return (end > 0).then_some((value, &text[end..]));
    };
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let byte = match byte {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => bytes.next()?.1,
            byte => byte,
        };
        if value.len() <= NODE_BYTES {
            value.push(*byte);
        }
    }
    None
}

/// What we append to `forwarded` about the client that connected to us.
pub(super) fn element(ip: Option<IpAddr>, scheme: Scheme) -> String {
    let proto = if scheme == Scheme::Https { "https" } else { "http" };
    match ip {
        Some(IpAddr::V6(v6)) => format!("for=\"[{v6}]\";proto={proto}"),
        Some(IpAddr::V4(v4)) => format!("for={v4};proto={proto}"),
        None => format!("for=unknown;proto={proto}"),
    }
}
