//! A client's first message, looked at before the machine gets it.

use rustls::pki_types::DnsName;
use rustls::server::Acceptor;

use super::Failure;
use super::offer::Unshown;

/// How much is shown of a name that is none.
const ODD_NAME_BYTES: usize = 100;
const ILLEGAL_PARAMETER: u8 = 47;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// What the first message says that the machine does not tell later.
#[derive(Default)]
pub(super) struct Hello {
    /// Until the message is whole.
    reader: Option<Acceptor>,
    /// A client that names no protocol means one that is not spoken.
    needs_alpn: bool,
    /// There are several certificates to choose from.
    is_choice: bool,
}

/// The host that the client asks for, or that there is more to come.
pub(super) enum Asked {
    /// The message is not whole.
    Incomplete,
    /// Whom it asks for, in lower case, and where there is a choice of certificates what else that
    /// is made by. None, also where the message is none: what is wrong with it the machine says.
    For(Option<String>, Option<Box<Unshown>>),
    /// What it asks for is not to be had: why, and the alert's number.
    Refused(Failure, u8),
}

impl Hello {
    pub(super) fn new(needs_alpn: bool, is_choice: bool) -> Self {
        Self { reader: None, needs_alpn, is_choice }
    }

    /// Takes the next bytes of the message behind those that are kept. Parses it once: O(bytes).
    pub(super) fn read(&mut self, kept: &[u8], data: &[u8]) -> Asked {
        let reader = self.reader.get_or_insert_default();
        let mut left = data;
        while !left.is_empty() {
            if reader.read_tls(&mut left).is_err() {
                return Asked::For(None, None);
            }
            match reader.accept() {
                Ok(None) => {}
                Ok(Some(whole)) => {
                    let hello = whole.client_hello();
                    if self.needs_alpn && hello.alpn().is_none() {
                        let detail = "it names no protocol (ALPN), and HTTP/2 needs one".to_owned();
                        return refused(detail, "no_application_protocol", NO_APPLICATION_PROTOCOL);
                    }
                    let name = hello.server_name().map(str::to_owned);
                    let whole = || message_in(&[kept, data].concat());
                    return Asked::For(name, self.is_choice.then(|| Unshown::of(&whole()).into()));
                }
                Err(_) => {
                    let odd = odd_name(&[kept, data].concat());
                    let refuse = |odd| refused(odd, "illegal_parameter", ILLEGAL_PARAMETER);
                    return odd.map_or(Asked::For(None, None), refuse);
                }
            }
        }
        Asked::Incomplete
    }
}

fn refused(detail: String, alert: &'static str, number: u8) -> Asked {
    Asked::Refused(Failure { alert: Some(alert), by_peer: false, no_tls: false, detail }, number)
}

/// What is wrong with a name that is neither a host's nor an address: rustls goes on with no other,
/// and does not tell it.
fn odd_name(records: &[u8]) -> Option<String> {
    let name = server_name(&message_in(records))?.to_vec();
    if DnsName::try_from(&name[..]).is_ok() {
        return None;
    }
    let text = String::from_utf8_lossy(&name[..name.len().min(ODD_NAME_BYTES)]).into_owned();
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    (!is_address).then(|| format!("it asks for {text:?}, which is no host's name (RFC 6066 §3)"))
}

/// The handshake's message of some records (RFC 8446 §5.1).
fn message_in(mut records: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(records.len());
    while let Some(([_, _, _, high, low], rest)) = records.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        message.extend_from_slice(&rest[..len]);
        records = &rest[len..];
    }
    message
}

/// The bytes of the name in a `ClientHello` (RFC 6066 §3).
fn server_name(message: &[u8]) -> Option<&[u8]> {
    let (names, _) = counted::<2>(extension(message, 0)?)?;
    names.strip_prefix(&[0]).and_then(counted::<2>).map(|(name, _)| name)
}

/// What one of the extensions of a `ClientHello` holds (RFC 8446 §4.1.2, §4.2).
pub(super) fn extension(message: &[u8], wanted: u16) -> Option<&[u8]> {
    // Behind the message's head: a version and 32 random bytes.
    let rest = message.get(4 + 2 + 32..)?;
    let (_, rest) = counted::<1>(rest)?; // session
    let (_, rest) = counted::<2>(rest)?; // suites
    let (_, rest) = counted::<1>(rest)?; // compression
    let (mut extensions, _) = counted::<2>(rest)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (content, behind) = counted::<2>(rest)?;
        if u16::from_be_bytes(*kind) == wanted {
            return Some(content);
        }
        extensions = behind;
    }
    None
}

/// A list of numbers of two bytes each, behind its length.
pub(super) fn list_of_u16<const BYTES: usize>(content: &[u8]) -> Option<Vec<u16>> {
    let (all, _) = counted::<BYTES>(content)?;
    Some(all.chunks_exact(2).map(|each| u16::from_be_bytes([each[0], each[1]])).collect())
}

/// What a length of so many bytes counts, and what is behind.
fn counted<const BYTES: usize>(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = from.split_first_chunk::<BYTES>()?;
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    rest.split_at_checked(len)
}
