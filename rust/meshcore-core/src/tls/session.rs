//! One connection's TLS: bytes in and out, and what they mean.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};
use x509_cert::der::Decode;

use super::hello::{Asked, Hello, Wanted};
use super::no_pair::{NoPair, asked_in_vain};
use super::offer::{Unshown, choosing};
use super::records::{Words, append, drive, is_silent, last_words, unsaid, write};
use super::server::Rule;
use super::standing::{InForce, Standing};
use super::verify::Again;
use super::{Clock, Failure, Identity, failure};
use crate::host_map::HostMap;

/// A fatal alert in the clear (RFC 8446 §6).
const fn alert(number: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, number]
}

/// Which TLS was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed<'a> {
    /// The protocol that ALPN chose (RFC 7301).
    pub alpn: Option<&'a [u8]>,
    /// The host that the client asked for, in lower case; of a server's session alone.
    pub server_name: Option<&'a str>,
    /// The version.
    pub version: Version,
    /// The suite, as rustls names it.
    pub suite: &'static str,
    /// The handshake was a short one.
    pub resumed: bool,
    /// The peer's own certificate, which was verified.
    pub peer: Option<&'a CertificateDer<'static>>,
}

/// What the bytes of one read were, in this order behind the plaintext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The handshake is over.
    pub established: bool,
    /// The peer says no more: its close_notify came.
    pub peer_closed: bool,
    /// The session is over.
    pub failed: bool,
    /// What the protocol has to say may wait for what is written next: it is tickets, and the peer
    /// has asked something already.
    pub may_wait: bool,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Runs the same code on either side's machine.
macro_rules! on {
    ($side:expr, $machine:ident => $done:expr) => {
        match $side {
            Side::Server($machine) => $done,
            Side::Client($machine) => $done,
        }
    };
}

/// One connection's TLS.
///
/// Of an idle one nothing is held but rustls' own state: keys, and what resumption needs.
pub struct Session {
    side: Side,
    again: Option<Again>,
    clock: Clock,
    /// Of a server's.
    rules: Option<Arc<HostMap<Rule>>>,
    /// By which of them the client is verified.
    rule: u64,
    /// Of a server's, until the client's first message is whole.
    hello: Option<Box<Hello>>,
    /// It has to name a protocol, in each of its first messages if there are two.
    needs_alpn: bool,
    /// What else it said by which a certificate is chosen, as long as one may be.
    unshown: Option<Box<Unshown>>,
    /// Whom that asked for.
    asked: Option<String>,
    /// What came of a record, or of a handshake's message, whose rest is missing.
    rest: Vec<u8>,
    /// What the protocol has to say by itself.
    own: Vec<u8>,
    /// Of a client's.
    no_pair: Option<Arc<NoPair>>,
    /// The server has asked for a certificate, and got none.
    lacks_certificate: bool,
    established: bool,
    peer_closed: bool,
    closed: bool,
    failure: Option<Failure>,
}

impl Session {
    pub(super) fn server(
        machine: UnbufferedServerConnection,
        rule: &Rule,
        rules: Arc<HostMap<Rule>>,
        clock: Clock,
        hello: Hello,
    ) -> Self {
        let side = Side::Server(Box::new(machine));
        let hello = Some(Box::new(hello));
        let own = Self::of(side, rule.again.clone(), clock);
        Self { hello, rules: Some(rules), rule: rule.id, ..own }
    }

    /// A client's begins by itself: [`take_output`](Self::take_output) has its first message.
    pub(super) fn client(
        machine: UnbufferedClientConnection,
        again: Option<Again>,
        no_pair: Arc<NoPair>,
        clock: Clock,
    ) -> Self {
        let side = Side::Client(Box::new(machine));
        let mut session = Self { no_pair: Some(no_pair), ..Self::of(side, again, clock) };
        session.take(&mut [], &mut Vec::new());
        session
    }

    const fn of(side: Side, again: Option<Again>, clock: Clock) -> Self {
        Self {
            side,
            again,
            clock,
            rules: None,
            rule: 0,
            hello: None,
            needs_alpn: false,
            unshown: None,
            asked: None,
            rest: Vec::new(),
            own: Vec::new(),
            no_pair: None,
            lacks_certificate: false,
            established: false,
            peer_closed: false,
            closed: false,
            failure: None,
        }
    }

    /// Takes what came, and decrypts it in place. The plaintext in it is appended to `plain`; it is
    /// the peer's also where the session fails behind it. The handshake may have something to say
    /// then: [`take_output`](Self::take_output). O(bytes), however they are cut.
    ///
    /// Behind a failure or the peer's close_notify nothing is taken.
    pub fn receive(&mut self, data: &mut [u8], plain: &mut Vec<u8>) -> Opened {
        if !self.takes() {
            return Opened::default();
        }
        if self.hello.is_some() && !self.read_hello(data) && self.failure.is_none() {
            return Opened::default();
        }
        if self.failure.is_some() {
            return Opened { failed: true, ..Opened::default() };
        }
        if self.rest.is_empty() {
            let (used, opened) = self.take(data, plain);
            if self.takes() && used < data.len() {
                self.rest = data[used..].to_vec();
            }
            return opened;
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(data);
        let (used, opened) = self.take(&mut all, plain);
        if self.takes() && used < all.len() {
            // Where nothing was used it is kept where it is: a dribbled record costs its length.
            if used > 0 {
                all.drain(..used);
                all.shrink_to_fit(); // an idle connection holds no room of a long read
            }
            self.rest = all;
        }
        opened
    }

    const fn takes(&self) -> bool {
        self.failure.is_none() && !self.peer_closed
    }

    /// Whether the client's first message is whole; until then all of it waits.
    fn read_hello(&mut self, data: &[u8]) -> bool {
        let Some(hello) = &mut self.hello else { return true };
        match hello.read(&self.rest, data) {
            Asked::Refused(failure, number) => {
                self.refuse(failure, number);
                false
            }
            Asked::Incomplete => {
                self.rest.extend_from_slice(data);
                false
            }
            Asked::For(wanted) => {
                self.needs_alpn = hello.needs_alpn;
                self.hello = None;
                self.choose_rule(&wanted);
                (self.asked, self.unshown) = (wanted.name, wanted.unshown);
                true
            }
        }
    }

    fn refuse(&mut self, failure: Failure, number: u8) {
        self.hello = None;
        self.own.extend_from_slice(&alert(number));
        self.fail(failure);
    }

    /// The machine has seen nothing yet, so one that verifies by the name's rule, or takes the
    /// client's choice, takes its place.
    fn choose_rule(&mut self, wanted: &Wanted) {
        let Some(rules) = &self.rules else { return };
        let rule = rules.get(wanted.name.as_deref().unwrap_or_default());
        let config = if wanted.chacha20 { &rule.in_clients_order } else { &rule.config };
        if rule.id == self.rule && !wanted.chacha20 {
            return; // it is of that already
        }
        match UnbufferedServerConnection::new(Arc::clone(config)) {
            Ok(machine) => {
                self.side = Side::Server(Box::new(machine));
                (self.again, self.rule) = (rule.again.clone(), rule.id);
            }
            Err(error) => self.fail(Failure::of(&error, None, &[])), // never by another's rule
        }
    }

    /// How the client stands by the rules in force of its listener; of a server's session whose
    /// handshake is over. O(certificates): once for a connection.
    #[must_use]
    pub fn standing(&self, in_force: Arc<InForce>) -> Option<Standing> {
        let Side::Server(machine) = &self.side else { return None };
        let chain = machine.peer_certificates().unwrap_or_default();
        let made = || Standing::new(in_force, self.asked.as_deref(), chain, self.rule);
        self.established.then(made)
    }

    /// How much of `data` is dealt with, and what it was.
    fn take(&mut self, data: &mut [u8], plain: &mut Vec<u8>) -> (usize, Opened) {
        let handshaking = !self.established;
        let before = plain.len();
        let (side, own) = (&mut self.side, &mut self.own);
        let (taken, result) = failure::of_own(|| {
            choosing(&mut self.unshown, || on!(side, m => drive(&mut **m, data, plain, own)))
        });
        self.peer_closed |= taken.peer_closed;
        if handshaking {
            self.lacks_certificate |= asked_in_vain();
        }
        // What came before a bad record is the peer's.
        if handshaking
            && !on!(&self.side, m => m.is_handshaking())
            && let Err(why) = self.establish()
        {
            plain.truncate(before); // of one that may not come
            self.own.clear(); // and no new tickets for it
            self.fail(why);
        }
        if let Err(error) = result {
            let failure = self.alert_for(&error, data.len() - taken.used);
            self.fail(failure);
        }
        if self.closed {
            self.own.clear(); // behind our end nothing is said, not an alert either
        }
        let (established, failed) = (handshaking && self.established, self.failure.is_some());
        let has_asked = plain.len() > before && !taken.peer_closed && !failed;
        let may_wait = established && has_asked && self.says_tickets_last();
        (taken.used, Opened { established, peer_closed: taken.peer_closed, failed, may_wait })
    }

    /// Whether what it says at the end of its handshake are tickets, which no peer waits for: as a
    /// server by TLS 1.3 (RFC 8446 §4.6.1).
    fn says_tickets_last(&self) -> bool {
        let Side::Server(machine) = &self.side else { return false };
        machine.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Says what alert belongs to an error; the machine has not taken the `rest` last bytes.
    fn alert_for(&mut self, error: &Error, rest: usize) -> Failure {
        let said = self.own.len();
        on!(&mut self.side, m => last_words(&mut **m, &mut self.own));
        let instead = if is_silent(error) && self.own.len() == said {
            on!(&mut self.side, m => unsaid(&mut **m, rest, &mut self.own))
        } else {
            None
        };
        let version = on!(&self.side, m => m.protocol_version());
        if version == Some(ProtocolVersion::TLSv1_2) {
            in_words_of_tls12(&mut self.own[said..]);
        }
        let own = &self.own[said..];
        let mut failure = Failure::of(error, version, own);
        if let Some(instead) = instead {
            failure.alert = Failure::of(&instead, version, own).alert;
        }
        let strange = if self.is_unanswered() { Failure::of_first_answer(error) } else { None };
        strange.unwrap_or(failure)
    }

    /// Whether this is a client's, and its first message has had no answer that was understood.
    fn is_unanswered(&self) -> bool {
        matches!(&self.side, Side::Client(machine) if machine.protocol_version().is_none())
    }

    /// The handshake is over. What was resumed is verified as a full handshake does: rustls
    /// believes a ticket.
    fn establish(&mut self) -> Result<(), Failure> {
        let (kind, peer) = on!(&self.side, m => (m.handshake_kind(), m.peer_certificates()));
        if self.needs_alpn && on!(&self.side, m => m.alpn_protocol().is_none()) {
            let detail = "it names no protocol (ALPN) behind a HelloRetryRequest".to_owned();
            let alert = Some("no_application_protocol");
            return Err(Failure { alert, by_peer: false, no_tls: false, detail });
        }
        if kind == Some(HandshakeKind::Resumed) {
            self.lacks_certificate = self.no_pair.as_ref().is_some_and(|none| none.was_asked());
            if let Some(again) = &self.again {
                again.verify(peer, self.clock.now())?;
            }
        }
        (self.established, self.unshown) = (true, None);
        Ok(())
    }

    /// The session is over, for the first reason.
    fn fail(&mut self, failure: Failure) {
        self.rest = Vec::new();
        self.failure.get_or_insert(failure);
    }

    /// Seals plaintext behind whatever the protocol has to say first, and appends both to `out`.
    ///
    /// Nothing is sealed before the handshake is over, and behind a failure or our own end: false.
    /// A session of TLS 1.2 fails where its keys are worn out (2^24 records of AES-GCM, RFC 8446
    /// §5.5); [`take_output`](Self::take_output) has its last words.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        self.seal_as(plain, |len, fill| append(out, len, fill)).is_some()
    }

    /// The same without a copy: `make` is told how long both are, and makes what has room for them
    /// and is filled by its second argument. `None`: nothing is sealed.
    pub fn seal_as<T>(
        &mut self,
        plain: &[u8],
        make: impl FnOnce(usize, &mut dyn FnMut(&mut [u8])) -> T,
    ) -> Option<T> {
        self.write(&Words::Data(plain), make)
    }

    /// Says that nothing follows (RFC 8446 §6.1), once, and appends it to `out`. The peer may go on.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.write(&Words::Close, |len, fill| append(out, len, fill));
        self.closed = true;
    }

    fn write<T>(
        &mut self,
        words: &Words<'_>,
        make: impl FnOnce(usize, &mut dyn FnMut(&mut [u8])) -> T,
    ) -> Option<T> {
        if self.failure.is_some() || self.closed || !self.established {
            return None;
        }
        let first = std::mem::take(&mut self.own);
        let (taken, result) =
            on!(&mut self.side, m => write(&mut **m, words, &mut self.rest, first, make));
        self.rest.drain(..taken.used);
        self.peer_closed |= taken.peer_closed;
        result.unwrap_or_else(|error| {
            on!(&mut self.side, m => last_words(&mut **m, &mut self.own));
            self.fail(Failure::of(&error, None, &[]));
            None
        })
    }

    /// What the protocol has to say by itself since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.own)
    }

    /// What was agreed; `None` while the handshake is under way.
    #[must_use]
    pub fn agreed(&self) -> Option<Agreed<'_>> {
        let asked = self.asked.as_deref();
        on!(&self.side, m => agreed(m, asked)).filter(|_| self.established)
    }

    /// The host that a client asks for, in lower case, as soon as its first message is whole.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.asked.as_deref()
    }

    /// The last second, since 1970, in which the client's certificate is valid. O(certificate).
    #[must_use]
    pub fn certificate_ends_s(&self) -> Option<u64> {
        let Side::Server(machine) = &self.side else { return None };
        let leaf = machine.peer_certificates().filter(|_| self.established)?.first()?;
        let read = x509_cert::Certificate::from_der(leaf).ok()?.tbs_certificate;
        Some(read.validity.not_after.to_unix_duration().as_secs())
    }

    /// Whether the peer is a client that has shown a certificate. O(1).
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        let Side::Server(machine) = &self.side else { return false };
        self.established && machine.peer_certificates().is_some_and(|chain| !chain.is_empty())
    }

    /// Who the client is by its certificate, which was verified; `None` of one without, and of a
    /// client's session. O(certificate): once for a connection.
    #[must_use]
    pub fn client_identity(&self) -> Option<Identity> {
        let Side::Server(machine) = &self.side else { return None };
        let leaf = machine.peer_certificates().filter(|_| self.established)?.first()?;
        Identity::of(leaf).ok()
    }

    /// The URI that our own certificates name; of a server's session that asks for one.
    #[must_use]
    pub fn own_uri(&self) -> Option<&str> {
        match &self.again {
            Some(Again::Client { own, .. }) => own.as_deref(),
            _ => None,
        }
    }

    /// Whether the server has asked for a certificate, and got none for we have none; of a session
    /// that was resumed, whether any of the context's servers has.
    #[must_use]
    pub const fn lacks_certificate(&self) -> bool {
        self.lacks_certificate
    }

    /// What ended the session.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the peer has said that nothing follows. An end of file without it may be made by
    /// any party on the way (RFC 8446 §6.1).
    #[must_use]
    pub const fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// How many bytes are kept of what is not whole yet.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.rest.len()
    }
}

/// TLS 1.2 has no `certificate_required`: who shows none is told `handshake_failure` (RFC 5246
/// §7.4.6).
fn in_words_of_tls12(said: &mut [u8]) {
    const CERTIFICATE_REQUIRED: [u8; 7] = alert(116);
    if said == CERTIFICATE_REQUIRED {
        said[6] = 40;
    }
}

fn agreed<'a>(machine: &'a CommonState, server_name: Option<&'a str>) -> Option<Agreed<'a>> {
    let version = match machine.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Version::Tls12,
        _ => Version::Tls13,
    };
    let suite = machine.negotiated_cipher_suite()?.suite();
    Some(Agreed {
        alpn: machine.alpn_protocol(),
        server_name,
        version,
        suite: suite.as_str().unwrap_or("unknown"),
        resumed: machine.handshake_kind() == Some(HandshakeKind::Resumed),
        peer: machine.peer_certificates().and_then(<[_]>::first),
    })
}
