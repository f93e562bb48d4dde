//! A client's first message, looked at before the machine gets it.

use rustls::pki_types::DnsName;

use super::Failure;
use super::offer::Unshown;

/// How much is shown of a name that is none.
const ODD_NAME_BYTES: usize = 100;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A record's head, the type of one of the handshake (RFC 8446 §5.1), and the most that any has (§5.2):
/// the machine takes none that is longer.
const RECORD_HEAD_BYTES: usize = 5;
const HANDSHAKE: u8 = 22;
const MOST_RECORD_BYTES: usize = 16_384 + 2_048;
/// Of a message: its type (§4), and of extensions (RFC 6066 §3, RFC 7301 §3.1, RFC 8446 §4.2).
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: [u8; 2] = [0, 0];
const ALPN: [u8; 2] = [0, 16];
const SUPPORTED_VERSIONS: [u8; 2] = [0, 43];
const SIGNATURE_ALGORITHMS_CERT: [u8; 2] = [0, 50];
/// The suites with it, of TLS 1.3 (RFC 8446 §B.4) and of TLS 1.2 (RFC 7905 §2).
const CHACHA20: [[u8; 2]; 3] = [[0x13, 0x03], [0xCC, 0xA8], [0xCC, 0xA9]];

/// The most of a first message, with the heads of its records, however it is cut: all of it is kept
/// until it is whole, for a peer that is not known yet. Those of today have 2 KiB.
const MOST_HELLO_BYTES: usize = 32 * 1024;

/// What the first message says that the machine does not tell later.
pub(super) struct Hello {
    /// A client that names no protocol means one that is not spoken.
    pub(super) needs_alpn: bool,
    /// There are several certificates to choose from.
    is_choice: bool,
    /// What the records had that are whole.
    message: Vec<u8>,
    /// Where the next one begins.
    at: usize,
}

/// What a client asks for.
#[derive(Default)]
pub(super) struct Wanted {
    /// The host, in lower case.
    pub(super) name: Option<String>,
    /// ChaCha20 rather than AES, as those want that have no instructions for that.
    pub(super) chacha20: bool,
    /// Where there is a choice of certificates, what else that is made by.
    pub(super) unshown: Option<Box<Unshown>>,
}

/// What the client asks for, or that there is more to come.
pub(super) enum Asked {
    /// The message is not whole.
    Incomplete,
    /// This. Nothing, also where the message is none: what is wrong with it the machine says.
    For(Wanted),
    /// What it asks for is not to be had: why, and the alert's number.
    Refused(Failure, u8),
}

impl Hello {
    pub(super) const fn new(needs_alpn: bool, is_choice: bool) -> Self {
        Self { needs_alpn, is_choice, message: Vec::new(), at: 0 }
    }

    /// Takes the next bytes of the message behind those that are kept. Reads each once: O(bytes).
    pub(super) fn read(&mut self, kept: &[u8], data: &[u8]) -> Asked {
        loop {
            let mut behind = kept.iter().chain(data).copied().skip(self.at);
            let Some(kind) = behind.next() else { return Asked::Incomplete };
            if kind != HANDSHAKE {
                return Asked::For(Wanted::default());
            }
            let (Some(high), Some(low)) = (behind.nth(2), behind.next()) else {
                return Asked::Incomplete;
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > MOST_RECORD_BYTES {
                return Asked::For(Wanted::default());
            }
            let begin = self.at + RECORD_HEAD_BYTES;
            if begin + len > MOST_HELLO_BYTES {
                return too_long();
            }
            if kept.len() + data.len() < begin + len {
                return Asked::Incomplete;
            }
            self.message.extend(behind.take(len));
            self.at = begin + len;
            if let Some(whole) = whole(&self.message) {
                return self.asked(whole);
            }
            let heads = self.at - self.message.len();
            if claimed(&self.message).is_some_and(|len| heads + len > MOST_HELLO_BYTES) {
                return too_long();
            }
        }
    }

    fn asked(&self, message: &[u8]) -> Asked {
        let Some(said) = Said::read(message) else { return Asked::For(Wanted::default()) };
        let name = match said.name.map(|name| (name, DnsName::try_from(name))) {
            None => None,
            Some((_, Ok(name))) => Some(name.as_ref().to_ascii_lowercase()),
            // rustls goes on with no other, and does not tell it.
            Some((odd, Err(_))) if !is_address(odd) => {
                let text = String::from_utf8_lossy(&odd[..odd.len().min(ODD_NAME_BYTES)]);
                let detail = format!("it asks for {text:?}, which is no host's name (RFC 6066 §3)");
                return refused(detail, "illegal_parameter", ILLEGAL_PARAMETER);
            }
            Some(_) => None,
        };
        if self.needs_alpn && !said.names_protocols {
            let detail = "it names no protocol (ALPN), and HTTP/2 needs one".to_owned();
            return refused(detail, "no_application_protocol", NO_APPLICATION_PROTOCOL);
        }
        let unshown = self.is_choice.then(|| Box::new(Unshown::of(said.versions, said.chain)));
        Asked::For(Wanted { name, chacha20: said.chacha20, unshown })
    }
}

/// As the machine says it of a message that is longer than any may be (RFC 8446 §6.2).
fn too_long() -> Asked {
    let detail = "the client's first message is too long".to_owned();
    refused(detail, "decode_error", DECODE_ERROR)
}

fn refused(detail: String, alert: &'static str, number: u8) -> Asked {
    Asked::Refused(Failure { alert: Some(alert), by_peer: false, no_tls: false, detail }, number)
}

/// Whether a name is an address, which is as good as none.
fn is_address(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

/// A `ClientHello` without its head (RFC 8446 §4), if all of it is here; of another message nothing.
fn whole(message: &[u8]) -> Option<&[u8]> {
    match message {
        [CLIENT_HELLO, behind @ ..] => counted::<3>(behind).map(|(hello, _)| hello),
        [] => None,
        _ => Some(&[]),
    }
}

/// How long a `ClientHello` is by its own word, with its head.
fn claimed(message: &[u8]) -> Option<usize> {
    let (head, _) = message.strip_prefix(&[CLIENT_HELLO])?.split_first_chunk::<3>()?;
    Some(1 + head.len() + number(head))
}

/// What a `ClientHello` says (§4.1.2).
struct Said<'a> {
    name: Option<&'a [u8]>,
    names_protocols: bool,
    /// What its extensions hold about versions, and about signatures in chains.
    versions: Option<&'a [u8]>,
    chain: Option<&'a [u8]>,
    /// The first suite that it offers is with ChaCha20.
    chacha20: bool,
}

impl<'a> Said<'a> {
    /// `None`: it has no extensions that can be read.
    fn read(hello: &'a [u8]) -> Option<Self> {
        let rest = hello.get(2 + 32..)?; // behind a version and random bytes
        let (_, rest) = counted::<1>(rest)?; // session
        let (suites, rest) = counted::<2>(rest)?;
        let (_, rest) = counted::<1>(rest)?; // compression
        let (mut extensions, _) = counted::<2>(rest)?;
        let first = suites.chunks_exact(2).find(|suite| !is_grease(suite));
        let chacha20 = first.is_some_and(|first| CHACHA20.iter().any(|suite| suite == first));
        let mut said =
            Self { name: None, names_protocols: false, versions: None, chain: None, chacha20 };
        while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
            let (content, behind) = counted::<2>(rest)?;
            match *kind {
                SERVER_NAME => {
                    let (names, _) = counted::<2>(content)?;
                    let name = names.strip_prefix(&[0]).and_then(counted::<2>);
                    said.name = name.map(|(name, _)| name);
                }
                ALPN => said.names_protocols = true,
                SUPPORTED_VERSIONS => said.versions = Some(content),
                SIGNATURE_ALGORITHMS_CERT => said.chain = Some(content),
                _ => {}
            }
            extensions = behind;
        }
        Some(said)
    }
}

/// Whether it is none, that has to be passed over (RFC 8701 §3.1).
fn is_grease(suite: &[u8]) -> bool {
    suite[0] == suite[1] && suite[0] & 0x0F == 0x0A
}

/// A list of numbers of two bytes each, behind its length.
pub(super) fn list_of_u16<const BYTES: usize>(content: &[u8]) -> Option<Vec<u16>> {
    let (all, _) = counted::<BYTES>(content)?;
    Some(all.chunks_exact(2).map(|each| u16::from_be_bytes([each[0], each[1]])).collect())
}

/// What a length of so many bytes counts, and what is behind.
fn counted<const BYTES: usize>(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = from.split_first_chunk::<BYTES>()?;
    rest.split_at_checked(number(len))
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
