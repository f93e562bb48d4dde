//! The PROXY protocol, versions 1 and 2: what a balancer says of a connection, before the first byte
//! of the client's.
//!
//! By HAProxy's `proxy-protocol.txt`. A header is short, so nothing is kept between reads: the
//! caller that reads shows all that came so far, and is told as soon as that is no beginning of a
//! header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::CodecError;

/// The longest line of version 1, with its end (§2.1).
const V1_BYTES: usize = 107;
const V1: &[u8] = b"PROXY ";
/// Beginning of version 2 (§2.2).
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// The most of a whole header. Names from certificates are the longest that is sent; nginx takes as
/// much.
const V2_BYTES: usize = 4096;

/// Both ends of a connection, as its client sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// What a whole header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How many bytes it has; what follows is the client's.
    pub bytes: usize,
    /// Whose connection it is; none where it is the balancer's own (a check of health), or comes
    /// from no internet address, or none: then the socket's peer is meant.
    pub ends: Option<Ends>,
}

/// The header that `bytes` begin with; `None` while it is not whole. O(bytes).
///
/// # Errors
/// They begin with none, or with one that is malformed or too long.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, CodecError> {
    let header = if begins(bytes, V2) {
        version_2(bytes)
    } else if begins(bytes, V1) {
        version_1(bytes)
    } else {
        Err(CodecError::bad("no PROXY header"))
    }?;
    // `0.0.0.0` and `::` are no host's.
    let named = |ends: &Ends| !ends.source.ip().to_canonical().is_unspecified();
    Ok(header.map(|found| ProxyHeader { ends: found.ends.filter(named), ..found }))
}

/// Whether `bytes` begin with `signature`, as far as they go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, CodecError> {
    let shown = &bytes[..bytes.len().min(V1_BYTES)];
    let Some(end) = memchr::memchr(b'\n', shown) else {
        let too_long = shown.len() == V1_BYTES;
        return if too_long { Err(CodecError::bad("PROXY header too long")) } else { Ok(None) };
    };
    let malformed = CodecError::bad("malformed PROXY header");
    let line = bytes[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(V1));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(malformed)?;
    let ends = if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        None
    } else {
        Some(ends_1(line).ok_or(malformed)?)
    };
    Ok(Some(ProxyHeader { bytes: end + 1, ends }))
}

/// `TCP4` or `TCP6`, two addresses, two ports, one space between them.
fn ends_1(line: &str) -> Option<Ends> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let ip = |text: &str| match family {
        "TCP4" => text.parse().map(IpAddr::V4).ok(),
        "TCP6" => text.parse().map(IpAddr::V6).ok(),
        _ => None,
    };
    let (source, destination) = (ip(words.next()?)?, ip(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let ends = Ends { source: (source, from).into(), destination: (destination, to).into() };
    words.next().is_none().then_some(ends)
}

/// 0 to 65535, without a zero before it.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with('0');
    let is_number = plain && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, CodecError> {
    let malformed = CodecError::bad("malformed PROXY header");
    let local = match bytes.get(V2.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(malformed),
    };
    let Some([kind, high, low]) = bytes.get(V2.len() + 1..V2_FIXED) else { return Ok(None) };
    let end = V2_FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if end > V2_BYTES {
        return Err(CodecError::bad("PROXY header too long"));
    }
    let Some(header) = bytes.get(..end) else { return Ok(None) };
    // §2.2: whatever else it says of a connection of its own is not looked at.
    let ends = if local { None } else { ends_2(*kind, header).ok_or(malformed)? };
    Ok(Some(ProxyHeader { bytes: end, ends }))
}

/// Whose connection it is by a whole header: none if that has no address that means anything here,
/// since it did not come over a stream of the internet.
#[expect(clippy::option_option, reason = "no address, and no header")]
fn ends_2(kind: u8, header: &[u8]) -> Option<Option<Ends>> {
    let (family, transport) = (kind >> 4, kind & 0xF);
    let addresses = match family {
        _ if transport > 2 => return None,
        0 => return Some(None),
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return None,
    };
    let (addresses, extensions) = header[V2_FIXED..].split_at_checked(addresses)?;
    are_well_formed(extensions, header).then(|| match (family, transport) {
        (1, 1) => pair::<4>(addresses),
        (2, 1) => pair::<16>(addresses),
        _ => None,
    })
}

/// Two addresses of `N` bytes, two ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (destination, ports) = bytes.split_first_chunk::<N>()?;
    let &[a, b, c, d] = ports else { return None };
    Some(Ends {
        source: (IpAddr::from(*source), u16::from_be_bytes([a, b])).into(),
        destination: (IpAddr::from(*destination), u16::from_be_bytes([c, d])).into(),
    })
}

/// Extensions are not used, but must be read to their end (§2.2.1); a checksum must be right
/// (§2.2.3).
fn are_well_formed(mut extensions: &[u8], header: &[u8]) -> bool {
    while let Some(([kind, high, low], rest)) = extensions.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, rest)) = rest.split_at_checked(length) else { return false };
        if *kind == CHECKSUM && !is_right(value, header, header.len() - rest.len()) {
            return false;
        }
        extensions = rest;
    }
    extensions.is_empty()
}

const CHECKSUM: u8 = 0x03;

/// Whether a checksum that ends at `end` is that of the header with zeros in its place.
fn is_right(value: &[u8], header: &[u8], end: usize) -> bool {
    let Ok(said) = value.try_into().map(u32::from_be_bytes) else { return false };
    let mut crc = Crc32c::new();
    crc.add(&header[..end - value.len()]);
    crc.add(&[0; 4]);
    crc.add(&header[end..]);
    crc.value() == said
}

/// CRC-32C (RFC 3720 §B.4), bit by bit: once for a connection, over a few bytes.
struct Crc32c(u32);

impl Crc32c {
    fn new() -> Self {
        Self(!0)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                self.0 = (self.0 >> 1) ^ (0x82F6_3B78 & (self.0 & 1).wrapping_neg());
            }
        }
    }

    fn value(self) -> u32 {
        !self.0
    }
}

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A header that names whose connection follows: our own without `ends` (§2.1's
/// UNKNOWN, §2.2's LOCAL).
///
/// A header has one family. It is the client's: access lists look for that address. A destination of
/// the other one is written as the unspecified address, with its port.
#[must_use]
pub fn proxy_header(version: ProxyVersion, ends: Option<Ends>) -> Vec<u8> {
    let ends = ends.map(of_one_family);
    match version {
        ProxyVersion::V1 => line(ends),
        ProxyVersion::V2 => binary(ends),
    }
}

/// IPv4 in IPv6 (§2.1 asks for the client's own view) is IPv4.
fn of_one_family(ends: Ends) -> Ends {
    let source = ends.source.ip().to_canonical();
    let destination = match (source, ends.destination.ip().to_canonical()) {
        (IpAddr::V4(_), IpAddr::V6(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (IpAddr::V6(_), IpAddr::V4(_)) => Ipv6Addr::UNSPECIFIED.into(),
        (_, destination) => destination,
    };
    Ends {
        source: (source, ends.source.port()).into(),
        destination: (destination, ends.destination.port()).into(),
    }
}

fn line(ends: Option<Ends>) -> Vec<u8> {
    let Some(Ends { source, destination }) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip()).into_bytes()
}

fn binary(ends: Option<Ends>) -> Vec<u8> {
    let (command, kind, length) = match ends.map(|ends| ends.source) {
        None => (0x20, 0x00, 0),
        Some(SocketAddr::V4(_)) => (0x21, 0x11, 12),
        Some(SocketAddr::V6(_)) => (0x21, 0x21, 36),
    };
    let mut out = [V2, &[command, kind, 0, length]].concat();
    let Some(Ends { source, destination }) = ends else { return out };
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for end in [source, destination] {
        out.extend_from_slice(&end.port().to_be_bytes());
    }
    out
}
