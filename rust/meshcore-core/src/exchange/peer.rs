//! Who is asking: the socket's peer, or the address that trusted proxies vouch for.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::admission::{bytes_key, client_key};
use crate::head::Headers;

/// The other end of a downstream connection, made once when it is accepted.
#[derive(Clone, Debug)]
pub struct Peer {
    ip: Option<IpAddr>,
    text: String,
    key: u64,
}

impl Peer {
    /// A peer with an address, or without one (a unix socket).
    #[must_use]
    pub fn new(ip: Option<IpAddr>, seed: [u64; 2]) -> Self {
        let text = ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_canonical().to_string());
        Self { ip, text, key: key_of(ip, seed) }
    }

    /// The address as `x-forwarded-for` writes it; `unknown` without one (RFC 7239 §6.2).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The limiter key of the client behind this peer.
    ///
    /// With `hops` trusted proxies in front, each of which appended the address it saw, the client
    /// is the `hops`-th `x-forwarded-for` entry from the right; with fewer entries, or one that is
    /// no address, it is the socket's peer: what stands further left could be forged.
    #[must_use]
    pub fn client(&self, headers: &Headers, hops: u8, seed: [u64; 2]) -> u64 {
        if hops == 0 {
            return self.key;
        }
        forwarded(headers, hops).map_or(self.key, |ip| key_of(Some(ip), seed))
    }

    /// The address of the client behind this peer, as [`client`](Self::client) finds it.
    #[must_use]
    pub fn client_text(&self, headers: &Headers, hops: u8) -> Cow<'_, str> {
        let behind = if hops == 0 { None } else { forwarded(headers, hops) };
        behind.map_or(Cow::Borrowed(&self.text), |ip| ip.to_canonical().to_string().into())
    }

    /// The socket's own address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

fn key_of(ip: Option<IpAddr>, seed: [u64; 2]) -> u64 {
    ip.map_or_else(|| bytes_key(seed, b"unix"), |ip| client_key(seed, ip))
}

fn forwarded(headers: &Headers, hops: u8) -> Option<IpAddr> {
    let lists: Vec<&[u8]> = headers.get_all(b"x-forwarded-for").collect();
    let entry = lists.iter().rev().flat_map(|l| l.rsplit(|b| *b == b',')).nth(hops as usize - 1)?;
    address(std::str::from_utf8(entry).ok()?.trim())
}

/// An address as proxies write it: bare, `v4:port`, `[v6]` or `[v6]:port`.
fn address(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    host.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u64; 2] = [1, 2];

    fn client(lines: &[&str], hops: u8) -> u64 {
        let mut h = Headers::default();
        for l in lines {
            h.push(b"x-forwarded-for", l.as_bytes());
        }
        Peer::new("10.0.0.9".parse().ok(), SEED).client(&h, hops, SEED)
    }

    fn ip(text: &str) -> u64 {
        client_key(SEED, text.parse().unwrap())
    }

    #[test]
    fn the_nth_entry_from_the_right_is_the_client() {
        assert_eq!(client(&["1.1.1.1, 2.2.2.2"], 0), ip("10.0.0.9"));
        assert_eq!(client(&["1.1.1.1, 2.2.2.2"], 1), ip("2.2.2.2"));
        assert_eq!(client(&["1.1.1.1, 2.2.2.2"], 2), ip("1.1.1.1"));
        assert_eq!(client(&["9.9.9.9", "1.1.1.1,2.2.2.2"], 3), ip("9.9.9.9"));
    }

    #[test]
    fn too_few_entries_or_garbage_mean_the_sockets_peer() {
        assert_eq!(client(&["1.1.1.1"], 2), ip("10.0.0.9"));
        assert_eq!(client(&[], 1), ip("10.0.0.9"));
        assert_eq!(client(&["unknown"], 1), ip("10.0.0.9"));
        assert_eq!(client(&["1.1.1.1:x"], 1), ip("10.0.0.9"));
    }

    #[test]
    fn ports_and_brackets_are_stripped() {
        assert_eq!(client(&["1.1.1.1:80"], 1), ip("1.1.1.1"));
        assert_eq!(client(&["[2001:db8::1]:80"], 1), ip("2001:db8::1"));
        assert_eq!(client(&["2001:db8::1"], 1), ip("2001:db8::1"));
    }
}
