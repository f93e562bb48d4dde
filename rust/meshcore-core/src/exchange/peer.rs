//! The other end of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use super::binding::Binding;
use super::certified::Certified;
use crate::admission::{bytes_key, client_key};
use crate::codec::Ends;

/// How a client stands by the rules of clients that are in force now, whatever they were when it came
/// in.
pub trait Standing: fmt::Debug + Send + Sync {
    /// Whether it would come in now.
    fn is_admitted(&self) -> bool;

    /// The same, verified at this time.
    fn is_admitted_at(&self, unix_s: u64) -> bool;

    /// Whether what it asks of a host is for another connection (RFC 9110 §15.5.20).
    fn is_misdirected(&self, host: &str) -> bool;

    /// Whether its certificate is verified.
    fn is_vouched_for(&self) -> bool;
}

/// The other end of a downstream connection, made once when it is accepted.
#[derive(Clone, Debug)]
pub struct Peer {
    ip: Option<IpAddr>,
    text: String,
    key: u64,
    port: u16,
    destination: Option<SocketAddr>,
    /// Who it is by its certificate.
    certified: Option<Arc<Certified>>,
    /// From the first request on that carries credentials of a connection.
    binding: OnceLock<Arc<Binding>>,
    /// How it stands by its listener's rules of clients, if that has TLS.
    standing: Option<Arc<dyn Standing>>,
}

impl Peer {
    /// A peer with an address, or without one (a unix socket).
    #[must_use]
    pub fn new(ip: Option<IpAddr>, seed: [u64; 2]) -> Self {
        let ip = ip.map(|ip| ip.to_canonical());
        let text = ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        let binding = OnceLock::new();
        Self {
            ip,
            text,
            key: key_of(ip, seed),
            port: 0,
            destination: None,
            certified: None,
            binding,
            standing: None,
        }
    }

    /// The same, from a port.
    #[must_use]
    pub fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The same, by its listener's rules of clients.
    #[must_use]
    pub fn standing(self, standing: impl Standing + 'static) -> Self {
        Self { standing: Some(Arc::new(standing)), ..self }
    }

    /// How it stands by them, if its listener has TLS.
    #[must_use]
    pub fn stands(&self) -> Option<&dyn Standing> {
        self.standing.as_deref()
    }

    /// Why what it asks of a host is for another connection, if it is (RFC 9110 §15.5.20).
    pub(super) fn misdirected(&self, host: &[u8]) -> Option<&'static str> {
        let standing = self.standing.as_ref()?;
        // What is no text is no host of the configuration.
        let host = str::from_utf8(host).unwrap_or_default();
        standing.is_misdirected(host).then(|| {
            if standing.is_admitted() {
                "clients of this host are verified by another rule than its connection's"
            } else {
                "the client of this connection would not be let in any more"
            }
        })
    }

    /// Whom a balancer announces: what it says of the client's connection stands for what our socket
    /// does.
    #[must_use]
    pub fn announced(ends: Ends, seed: [u64; 2]) -> Self {
        let destination = Some(ends.destination);
        Self { destination, ..Self::new(Some(ends.source.ip()), seed) }.at_port(ends.source.port())
    }

    /// The same with a certificate that was verified.
    #[must_use]
    pub fn certified(self, certified: Certified) -> Self {
        Self { certified: Some(Arc::new(certified)), ..self }
    }

    /// Who it is by its certificate, if it showed one and is still asked for it.
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<Certified>> {
        let certified = self.certified.as_ref()?;
        let standing = self.standing.as_ref();
        standing.is_none_or(|standing| standing.is_vouched_for()).then_some(certified)
    }

    /// The address as `x-forwarded-for` writes it; `unknown` without one (RFC 7239 §6.2).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The limiter key of the peer itself: one for all addresses that are one client's.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The address itself, IPv4 as such; none for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// What is remembered of a client whose credentials authenticate connections, from its first
    /// request on that `binds`. The others cost a load.
    pub(super) fn binding(&self, binds: bool) -> Option<Arc<Binding>> {
        if binds {
            return Some(Arc::clone(self.binding.get_or_init(Arc::default)));
        }
        self.binding.get().map(Arc::clone)
    }

    /// As whose connection an endpoint is told of a request whose connection came to `local`, from
    /// `behind` if that is given; none without an address. A client behind a proxy has a port
    /// that is not known.
    pub(super) fn ends(&self, behind: Option<IpAddr>, local: Option<SocketAddr>) -> Option<Ends> {
        let source = match behind {
            Some(ip) => (ip, 0).into(),
            None => (self.ip?, self.port).into(),
        };
        let nowhere = || (Ipv4Addr::UNSPECIFIED, 0).into();
        let destination = self.destination.or(local).unwrap_or_else(nowhere);
        Some(Ends { source, destination })
    }
}

pub(super) fn key_of(ip: Option<IpAddr>, seed: [u64; 2]) -> u64 {
    ip.map_or_else(|| bytes_key(seed, b"unix"), |ip| client_key(seed, ip))
}
