//! What a listener's TLS is made of.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::{KeyLog, ServerConfig, SupportedProtocolVersion, version};

use super::certificates::{self, Certificates};
use super::hello::Hello;
use super::tickets::{Refused, Tickets};
use super::verify::{self, Again};
use super::{Clock, ContextError, Identity, Pair, Session, TicketRing, Trust, Version, provider};
use crate::host_map::HostMap;

/// How many tickets a client of TLS 1.3 gets: each is for one connection, which brings the next.
const TICKETS: usize = 1;
/// And one that says how many it needs (RFC 9149).
const MOST_TICKETS: usize = 4;
/// How long a ticket is said to be of use.
const TICKET_LIFETIME_S: u32 = 7_200;

/// Whether clients show a certificate.
#[derive(Clone, Debug, Default)]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They are; who has none comes in without a name.
    Request(Trust),
    /// A client without one does not come in.
    Require(Trust),
}

/// What a listener says about TLS.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// The listener's name: no other's ticket opens here.
    pub listener: String,
    /// Its certificates, of a name one for each kind of key; the first one's name is for all
    /// else, too.
    pub pairs: Vec<Pair>,
    /// What is spoken, the preferred first (RFC 7301); empty: whatever a client names is ignored.
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version.
    pub least: Version,
    /// Whether clients show a certificate.
    pub clients: ClientAuth,
    /// Names, as of `pairs`, whose clients are verified by a rule of their own.
    pub named: Vec<(String, ClientAuth)>,
    /// Where the secrets of every session are written; for a packet capture to be read.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

/// A listener's TLS, shared by its connections.
#[derive(Clone)]
pub struct ServerContext {
    rules: Arc<HostMap<Rule>>,
    /// Whether names have rules of their own.
    pub(super) is_named: bool,
    /// A client that names no protocol means HTTP/1.1, and that is not spoken.
    needs_alpn: bool,
    /// There is a name with several certificates.
    is_choice: bool,
    pub(super) clock: Clock,
}

/// Of a client that no rule lets in; no rule's own.
pub(super) const REFUSED: u64 = 0;

/// How clients are verified that ask for some hosts.
#[derive(Clone)]
pub(super) struct Rule {
    /// Whichever suite costs least.
    pub(super) config: Arc<ServerConfig>,
    /// The one that the client likes best, which has its reason.
    pub(super) in_clients_order: Arc<ServerConfig>,
    pub(super) again: Option<Again>,
    /// Tells it from others: a digest of whom it believes, and whether that is any client
    /// ([`asks`]).
    pub(super) id: u64,
}

/// The bit of a rule's id that says that clients are asked for a certificate.
const ASKS: u64 = 1;

/// Whether a rule's id is of one by which clients are asked for a certificate.
pub(super) const fn asks(id: u64) -> bool {
    id & ASKS != 0
}

impl ServerContext {
    /// Compiles a spec. O(certificates); a millisecond for an RSA key.
    ///
    /// # Errors
    /// [`ContextError`]: what is wrong with certificates, keys or roots.
    pub fn new(spec: &ServerSpec, ring: &TicketRing, clock: &Clock) -> Result<Self, ContextError> {
        let provider = provider::of_servers();
        let certificates = Arc::new(Certificates::of(&spec.pairs, &provider, clock)?);
        let rule = |clients| Rule::new(spec, clients, &certificates, ring, clock);
        let mut rules = HostMap::new(rule(&spec.clients)?);
        for pair in spec.pairs.iter().filter(|pair| !pair.server_name.is_empty()) {
            // Or it would be a wildcard's, if one has a rule.
            rules.insert(&pair.server_name, rules.get("").clone());
        }
        for (name, clients) in &spec.named {
            rules.insert(name, rule(clients)?);
        }
        let is_named = !spec.named.is_empty();
        let needs_alpn = !spec.alpn.is_empty() && spec.alpn.iter().all(|each| each != b"http/1.1");
        let is_choice = certificates.is_choice();
        let rules = Arc::new(rules);
        Ok(Self { rules, is_named, needs_alpn, is_choice, clock: clock.clone() })
    }

    /// A session for a connection that was accepted.
    ///
    /// # Errors
    /// [`ContextError`], which rustls has for none of the configurations that are made here.
    pub fn session(&self) -> Result<Session, ContextError> {
        let rule = self.rules.get("");
        let machine = UnbufferedServerConnection::new(Arc::clone(&rule.config))
            .map_err(|why| ContextError::UnusableKey(why.to_string()))?;
        let (rules, hello) = (Arc::clone(&self.rules), Hello::new(self.needs_alpn, self.is_choice));
        Ok(Session::server(machine, rule, rules, self.clock.clone(), hello))
    }
}

impl ServerContext {
    /// How clients are verified that ask for a host.
    pub(super) fn rule(&self, host: &str) -> &Rule {
        self.rules.get(host)
    }
}

impl Rule {
    fn new(
        spec: &ServerSpec,
        clients: &ClientAuth,
        certificates: &Arc<Certificates>,
        ring: &TicketRing,
        clock: &Clock,
    ) -> Result<Self, ContextError> {
        let provider = provider::of_servers();
        let verifier = match clients {
            ClientAuth::None => None,
            ClientAuth::Request(trust) => {
                Some(verify::clients(trust, false, &provider, clock.now())?)
            }
            ClientAuth::Require(trust) => {
                Some(verify::clients(trust, true, &provider, clock.now())?)
            }
        };
        let time = Arc::new(clock.clone());
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time)
            .with_protocol_versions(versions(spec.least))
            .map_err(|why| ContextError::UnusableKey(why.to_string()))?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::<Certificates>::clone(certificates));
        config.alpn_protocols.clone_from(&spec.alpn);
        config.send_tls13_tickets = TICKETS;
        config.max_tls13_tickets = MOST_TICKETS;
        config.max_early_data_size = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let (ring, refused) = (ring.clone(), Refused::default());
        let tickets = Tickets::new(ring, refused.clone(), bound(spec, clients), TICKET_LIFETIME_S);
        config.ticketer = Arc::new(tickets);
        if let Some(key_log) = &spec.key_log {
            config.key_log = Arc::clone(key_log);
        }
        let in_clients_order = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self {
            config: Arc::new(config),
            in_clients_order,
            again: verifier.map(|rules| Again::Client {
                rules,
                refused,
                own: own_uri(&spec.pairs),
            }),
            id: id(clients),
        })
    }

    /// Whether a client comes in that has shown this, or nothing. O(verifying).
    pub(super) fn admits(&self, chain: &[CertificateDer<'static>], clock: &Clock) -> bool {
        let chain = (!chain.is_empty()).then_some(chain);
        let again = self.again.as_ref();
        again.is_none_or(|again| again.verify(chain, clock.now()).is_ok())
    }
}

/// The URI that all of a listener's certificates name first: which of them a client has seen is not
/// told.
fn own_uri(pairs: &[Pair]) -> Option<Arc<str>> {
    let mut uris = pairs.iter().map(|pair| {
        let leaf = certificates::chain(&pair.chain_pem).ok()?.into_iter().next()?;
        Identity::of(&leaf).ok()?.uris.into_iter().next()
    });
    let first = uris.next()??;
    uris.all(|uri| uri.as_ref() == Some(&first)).then(|| first.into())
}

pub(super) fn versions(least: Version) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match least {
        Version::Tls12 => ALL,
        Version::Tls13 => &ALL[..1],
    }
}

/// A digest of everything that decides about a client of this listener: each part by its length, so
/// that none can be taken for the end of another.
fn bound(spec: &ServerSpec, clients: &ClientAuth) -> [u8; 32] {
    let version = match spec.least {
        Version::Tls12 => [2],
        Version::Tls13 => [3],
    };
    let whom = whom(clients);
    digest_of([spec.listener.as_bytes(), &version, &whom].into_iter())
}

/// What tells a rule from others.
fn id(clients: &ClientAuth) -> u64 {
    let digest = u64::from_be_bytes(*whom(clients).first_chunk().unwrap_or(&[0; 8]));
    match clients {
        // Never `REFUSED`, whatever the digest is.
        ClientAuth::None => (digest & !ASKS).max(2),
        ClientAuth::Request(_) | ClientAuth::Require(_) => digest | ASKS,
    }
}

/// A digest of whom a rule believes, and lets in.
fn whom(clients: &ClientAuth) -> [u8; 32] {
    let (mode, trust) = match clients {
        ClientAuth::None => (0, None),
        ClientAuth::Request(trust) => (1, Some(trust)),
        ClientAuth::Require(trust) => (2, Some(trust)),
    };
    let mode = [mode];
    digest_of([&mode[..]].into_iter().chain(trust.into_iter().flat_map(Trust::parts)))
}

fn digest_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(&part.len().to_be_bytes());
        digest.update(part);
    }
    let mut all = [0; 32];
    all.copy_from_slice(digest.finish().as_ref());
    all
}
