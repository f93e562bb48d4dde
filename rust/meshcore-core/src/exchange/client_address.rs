//! Who is asking: the socket's peer, or the address that trusted proxies vouch for; and who may say
//! what only proxies may say. Decided once for each request, before it is used, by the
//! configuration of that moment.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::binding::Binding;
use super::certified::Certified;
use super::forwarded::{self, FOR, FORWARDED, REAL_IP};
use super::networks::Networks;
use super::peer::{Peer, key_of};
use crate::codec::strip_vouched;
use crate::head::{Headers, RequestHead};
use crate::snapshot::{self, ClientHeader};

/// The client of one request: the same for limits, shares, log and layers.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address; none of a client of a unix socket.
    pub(super) ip: Option<IpAddr>,
    /// Whether that is not the peer's: a trusted proxy vouched for it.
    is_behind: bool,
    /// Its limiter key.
    pub(super) key: u64,
    /// Whether the peer may say what only proxies may say.
    pub(super) trusted: bool,
    /// Who its connection is of by a certificate: the client that is connected to us, not whom that
    /// speaks for.
    pub(super) certified: Option<Arc<Certified>>,
    /// What is remembered of its connection, if credentials authenticate it.
    pub(super) binding: Option<Arc<Binding>>,
    /// Why what it asks for is for another connection, if it is.
    pub(super) misdirected: Option<&'static str>,
}

impl Client {
    /// The client that is connected to us, which is believed nothing.
    #[must_use]
    pub fn of(peer: &Peer) -> Self {
        let certified = peer.certificate().cloned();
        let (binding, misdirected) = (None, None);
        Self {
            ip: peer.ip(),
            is_behind: false,
            key: peer.key(),
            trusted: false,
            certified,
            binding,
            misdirected,
        }
    }

    /// Its address, where it is not the peer's.
    pub(super) fn behind(&self) -> Option<IpAddr> {
        self.ip.filter(|_| self.is_behind)
    }

    /// What its certificate calls it; empty without one.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.certified.as_ref().map_or("", |certified| &certified.identity)
    }

    /// Its address: that of `peer`, or the one that a trusted proxy vouched for.
    #[must_use]
    pub fn text<'a>(&self, peer: &'a Peer) -> Cow<'a, str> {
        self.behind().map_or(Cow::Borrowed(peer.text()), |ip| ip.to_string().into())
    }
}

/// Which peers of a listener are proxies that may speak for others.
#[derive(Clone, Debug, Default)]
pub(super) enum Trust {
    #[default]
    Nobody,
    /// How many proxies are in front of us, each of which appends to `x-forwarded-for`.
    Hops(u8),
    /// Those of some networks, who write this header.
    Networks(Networks, ClientHeader),
}

impl Trust {
    pub(super) fn compile(spec: &snapshot::Listener) -> Result<Self, String> {
        Ok(match &spec.trusted {
            Some(trusted) => Self::Networks(Networks::new(&trusted.networks)?, trusted.header),
            None if spec.trusted_hops > 0 => Self::Hops(spec.trusted_hops),
            None => Self::Nobody,
        })
    }

    /// What it writes into requests, and must not come in by another spelling.
    pub(super) fn written(&self) -> Option<&'static [u8]> {
        matches!(self, Self::Networks(..)).then_some(REAL_IP)
    }

    /// The client of a received head, out of which is taken what its peer may not say. O(fields);
    /// where no proxy is trusted, of a plain head nothing is looked at.
    pub(super) fn clean(&self, peer: &Peer, head: &mut RequestHead, seed: [u64; 2]) -> Client {
        let vouched = std::mem::take(&mut head.vouched);
        let believed = match self {
            Self::Nobody => false,
            Self::Hops(_) => true,
            Self::Networks(networks, _) => networks.has(peer.ip()),
        };
        if vouched && !believed {
            strip_vouched(&mut head.headers);
        }
        let behind = if believed { self.behind(&head.headers) } else { None };
        if let Self::Networks(_, header) = self {
            rewrite(*header, peer, behind, believed, head);
        }
        let key = behind.map_or(peer.key(), |ip| key_of(Some(ip), seed));
        let (certified, binding) = (peer.certificate().cloned(), peer.binding(head.binds));
        let misdirected = peer.misdirected(head.slice(head.host));
        let (ip, is_behind) = (behind.or(peer.ip()), behind.is_some());
        Client { ip, is_behind, key, trusted: believed, certified, binding, misdirected }
    }

    /// The client that a believed peer names, if it names one.
    ///
    /// With networks the walk ends at the first address that is not in them. Where it ends before,
    /// for an entry is no address or there is none left, the client is the last address that a
    /// trusted proxy wrote: no more is known, and nothing further left is believed.
    fn behind(&self, headers: &Headers) -> Option<IpAddr> {
        match self {
            Self::Nobody => None,
            Self::Hops(hops) => {
                let mut entries = forwarded::entries(ClientHeader::XForwardedFor, headers);
                entries.nth(usize::from(*hops) - 1)?
            }
            Self::Networks(_, ClientHeader::XRealIp) => forwarded::real_ip(headers),
            Self::Networks(networks, header) => {
                let mut last = None;
                for entry in forwarded::entries(*header, headers) {
                    last = entry.or(last);
                    if !entry.is_some_and(|ip| networks.has(Some(ip))) {
                        break;
                    }
                }
                last
            }
        }
    }
}

/// The fields with addresses say to those behind us what we found. From a peer that is not believed
/// there is none of them; of one that is, `header` alone was read, so `x-forwarded-for`, to which we
/// append the peer, may not go on with what others wrote there.
fn rewrite(
    header: ClientHeader,
    peer: &Peer,
    behind: Option<IpAddr>,
    believed: bool,
    head: &mut RequestHead,
) {
    let headers = &mut head.headers;
    if !believed || header == ClientHeader::XRealIp {
        headers.remove(REAL_IP);
    }
    if header == ClientHeader::XForwardedFor {
        return;
    }
    headers.remove(FOR);
    if let Some(ip) = behind.filter(|ip| Some(*ip) != peer.ip()) {
        headers.push_folded(FOR, ip.to_string().as_bytes());
    }
    if header == ClientHeader::Forwarded {
        headers.push_folded(FORWARDED, forwarded::element(peer.ip(), head.scheme).as_bytes());
    } else if let Some(ip) = behind.or(peer.ip()) {
        headers.push_folded(REAL_IP, ip.to_string().as_bytes());
    }
}
