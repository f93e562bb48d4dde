//! The other end of a connection.

use std::net::IpAddr;

use crate::admission::{bytes_key, client_key};

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
        let ip = ip.map(|ip| ip.to_canonical());
        let text = ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        Self { ip, text, key: key_of(ip, seed) }
    }

    /// The address as `x-forwarded-for` writes it; `unknown` without one (RFC 7239 §6.2).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The limiter key of the peer itself.
    #[must_use]
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// The address itself, IPv4 as such; none for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

pub(super) fn key_of(ip: Option<IpAddr>, seed: [u64; 2]) -> u64 {
    ip.map_or_else(|| bytes_key(seed, b"unix"), |ip| client_key(seed, ip))
}
