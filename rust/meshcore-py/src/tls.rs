//! TLS contexts: what listeners and upstreams are made of.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use meshcore_core::exchange::{self, Certified};
use meshcore_core::tls::{
    self, ClientAuth, ClientContext, ClientSpec, Clock, ContextError, InForce, ListFacts, Pair,
    Roots, Rules, ServerContext, ServerSpec, Standing, Trust, Version,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::clock::unix_ms;
use crate::engine::Peer;
use crate::errors::config_error;
use crate::secure_transport::SecureTransport;

fn refused(error: ContextError) -> PyErr {
    config_error(error)
}

fn least(version: &str) -> Version {
    if version == "1.3" { Version::Tls13 } else { Version::Tls12 }
}

fn words(all: Vec<String>) -> Vec<Vec<u8>> {
    all.into_iter().map(String::into_bytes).collect()
}

/// A client of TLS as requests are told of it: what they are decided by names no room of TLS.
#[derive(Debug)]
pub(crate) struct PeerStanding(pub(crate) Standing);

impl exchange::Standing for PeerStanding {
    fn is_admitted(&self) -> bool {
        self.0.is_admitted()
    }

    fn is_admitted_at(&self, unix_s: u64) -> bool {
        self.0.is_admitted_at(unix_s)
    }

    fn is_misdirected(&self, host: &str) -> bool {
        self.0.is_misdirected(host)
    }

    fn is_vouched_for(&self) -> bool {
        self.0.is_vouched_for()
    }
}

/// The keys of tickets: rustls has them from each context.
#[pyclass(frozen, module = "meshcore._core")]
pub struct TicketRing(tls::TicketRing);

#[pymethods]
impl TicketRing {
    #[new]
    fn new() -> Self {
        Self(tls::TicketRing::default())
    }

    /// The first seals, all open. Of 48 bytes each.
    fn set(&self, keys: Vec<[u8; 48]>) -> PyResult<()> {
        let keys = keys.iter().map(|key| tls::TicketKeys::new(key).map(Arc::new));
        self.0.set(keys.collect::<Result<_, _>>().map_err(refused)?);
        Ok(())
    }
}

/// Where secrets of sessions are written: a file whose readers can read all traffic.
#[pyclass(frozen, module = "meshcore._core")]
pub struct KeyLog(Arc<Secrets>);

#[derive(Debug)]
struct Secrets(File);

impl tls::KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        // A line at once: other processes append to the file too. A full disk is not reported.
        let line = tls::key_log_line(label, client_random, secret);
        let _ = (&self.0).write_all(line.as_bytes());
    }
}

impl KeyLog {
    fn sink(&self) -> Arc<dyn tls::KeyLog> {
        Arc::<Secrets>::clone(&self.0)
    }
}

#[pymethods]
impl KeyLog {
    /// Appends to a file, which is made for its owner alone.
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Arc::new(Secrets(file))))
    }
}

/// Whom to believe, and of them who comes in.
#[pyclass(frozen, module = "meshcore._core")]
pub struct TlsTrust {
    trust: Trust,
    required: bool,
}

impl TlsTrust {
    fn of_clients(&self) -> ClientAuth {
        let auth = if self.required { ClientAuth::Require } else { ClientAuth::Request };
        auth(self.trust.clone())
    }
}

#[pymethods]
impl TlsTrust {
    #[new]
    #[pyo3(signature = (
        ca=None, *, system=false, domains=vec![], crl=vec![], use_expired_crl=false, names=vec![],
        required=true
    ))]
    fn new(
        ca: Option<Vec<u8>>,
        system: bool,
        domains: Vec<(String, Vec<u8>)>,
        crl: Vec<u8>,
        use_expired_crl: bool,
        names: Vec<String>,
        required: bool,
    ) -> PyResult<Self> {
        let listed = |roots: Roots| {
            let roots = roots.with_lists(&crl).map_err(refused)?;
            Ok::<_, PyErr>(if use_expired_crl { roots.using_expired_lists() } else { roots })
        };
        let of = |pem: &[u8]| listed(Roots::from_pem(pem, b"").map_err(refused)?);
        let roots = match ca {
            Some(pem) => Some(of(&pem)?),
            None if system => {
                Some(listed(Roots::of(rustls_native_certs::load_native_certs().certs))?)
            }
            None => None,
        };
        let domains = domains.into_iter().map(|(name, pem)| Ok((name, of(&pem)?)));
        let rules = Rules::parse(&names).map_err(config_error)?;
        let trust = Trust { roots, domains: domains.collect::<PyResult<_>>()?, rules };
        Ok(Self { trust, required })
    }
}

/// Name, chain, key, OCSP response, and who of those comes in that ask for the name.
type CertificateRow = (Option<String>, Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<Py<TlsTrust>>);

/// Everything of a listener's TLS, compiled.
#[pyclass(frozen, module = "meshcore._core")]
pub struct TlsServer(ServerContext, Clock);

#[pymethods]
impl TlsServer {
    #[new]
    #[pyo3(signature = (listener, certificates, alpn, min_version, clients, tickets, key_log=None))]
    fn new(
        listener: String,
        certificates: Vec<CertificateRow>,
        alpn: Vec<String>,
        min_version: &str,
        clients: Option<&TlsTrust>,
        tickets: &Bound<'_, TicketRing>,
        key_log: Option<&KeyLog>,
    ) -> PyResult<Self> {
        let (mut pairs, mut named) = (Vec::new(), Vec::new());
        for (name, chain_pem, key_pem, ocsp_der, clients) in certificates {
            let server_name = name.unwrap_or_default();
            // Those of a name follow one another, and have the same clients.
            let is_next = named.last().is_none_or(|(name, _)| *name != server_name);
            if let Some(clients) = clients.filter(|_| is_next) {
                named.push((server_name.clone(), clients.get().of_clients()));
            }
            pairs.push(Pair { server_name, chain_pem, key_pem, ocsp_der });
        }
        let spec = ServerSpec {
            listener,
            pairs,
            alpn: words(alpn),
            least: least(min_version),
            clients: clients.map(TlsTrust::of_clients).unwrap_or_default(),
            named,
            key_log: key_log.map(KeyLog::sink),
        };
        let clock = Clock::at(unix_ms() / 1000);
        // Certificates and lists of many authorities take their time: a loop goes on meanwhile.
        let ring = tickets.get();
        let made = tickets.py().detach(|| ServerContext::new(&spec, &ring.0, &clock));
        Ok(Self(made.map_err(refused)?, clock))
    }

    /// TLS for a connection that was accepted; `protocol` is told as a loop tells it, and `linger`
    /// is given the loop's transport behind an alert of ours.
    #[pyo3(signature = (protocol, linger=None))]
    fn session(&self, protocol: Py<PyAny>, linger: Option<Py<PyAny>>) -> PyResult<SecureTransport> {
        self.1.set(unix_ms() / 1000);
        let session = self.0.session().map_err(refused)?;
        Ok(SecureTransport::new(session, self.1.clone(), protocol, linger))
    }
}

/// By which rules a listener's clients are verified now.
#[pyclass(frozen, module = "meshcore._core")]
pub struct ClientRules(Arc<InForce>);

impl ClientRules {
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl ClientRules {
    #[new]
    fn new(server: &TlsServer) -> Self {
        Self(Arc::new(InForce::new(server.0.clone())))
    }

    /// Those of another configuration count from now on.
    fn put(&self, server: &TlsServer) {
        self.0.put(server.0.clone());
    }

    /// There is no TLS any more.
    fn end(&self) {
        self.0.end();
    }

    /// The same peer, whose connection began before there was TLS, by them.
    fn plain_peer(&self, peer: &Peer) -> Peer {
        Peer(peer.0.clone().standing(PeerStanding(Standing::of_plain(self.in_force()))))
    }
}

/// What is wrong with a certificate and its key, as a word and a sentence.
#[pyfunction]
pub(crate) fn tls_pair_fault(
    chain_pem: Vec<u8>,
    key_pem: Vec<u8>,
) -> Option<(&'static str, String)> {
    let pair = Pair { server_name: String::new(), chain_pem, key_pem, ocsp_der: None };
    pair.check().err().map(|error| (word(&error), error.to_string()))
}

/// Whether a certificate is of a host, or of each under a wildcard.
#[pyfunction]
pub(crate) fn tls_is_for_host(pem: &[u8], host: &str) -> bool {
    tls::is_for_host(pem, host)
}

/// What an OCSP response says of a certificate: how it stands, since when, until when; nothing where
/// it is about others alone.
#[pyfunction]
pub(crate) fn tls_staple(
    chain_pem: Vec<u8>,
    ocsp_der: Vec<u8>,
) -> PyResult<Option<(&'static str, u64, Option<u64>)>> {
    let server_name = String::new();
    let pair = Pair { server_name, chain_pem, key_pem: Vec::new(), ocsp_der: Some(ocsp_der) };
    match pair.staple() {
        Err(ContextError::OtherStaple) => Ok(None),
        Err(error) => Err(refused(error)),
        Ok(found) => Ok(found.map(|x| (x.status, x.this_update_s, x.next_update_s))),
    }
}

/// What is wrong with certificates of authorities.
#[pyfunction]
pub(crate) fn tls_roots_fault(ca_pem: &[u8]) -> Option<(&'static str, String)> {
    let checked = Roots::from_pem(ca_pem, b"").and_then(|roots| roots.check());
    checked.err().map(|error| (word(&error), error.to_string()))
}

/// How many authorities the system believes.
#[pyfunction]
pub(crate) fn tls_system_roots() -> usize {
    Roots::of(rustls_native_certs::load_native_certs().certs).len()
}

/// What is wrong with revocation lists.
#[pyfunction]
pub(crate) fn tls_lists_fault(crl_pem: &[u8], ca_pem: &[u8]) -> Option<(&'static str, String)> {
    ListFacts::read(crl_pem, ca_pem).err().map(|error| (word(&error), error.to_string()))
}

/// Whether this is a rule of names.
#[pyfunction]
pub(crate) fn check_tls_name(text: String) -> PyResult<()> {
    Rules::parse(&[text]).map(|_| ()).map_err(PyValueError::new_err)
}

/// Whether this may be the name of a trust domain.
#[pyfunction]
pub(crate) fn is_trust_domain(name: &str) -> bool {
    tls::is_domain(name)
}

/// Whether TLS can verify that an endpoint has this name.
#[pyfunction]
pub(crate) fn is_tls_name(name: &str) -> bool {
    tls::is_name(name)
}

const fn word(error: &ContextError) -> &'static str {
    match error {
        ContextError::NoCertificate => "no_certificate",
        ContextError::NoKey => "no_key",
        ContextError::Unreadable(_) => "unreadable",
        ContextError::KeyMismatch => "key_mismatch",
        ContextError::UnusableKey(_) => "unusable_key",
        ContextError::UnusableRoots(_) => "unusable_roots",
        ContextError::UnusableList(_) => "unusable_list",
        ContextError::BadStaple(_) => "bad_staple",
        ContextError::OtherStaple => "other_staple",
        ContextError::NoList => "no_list",
        ContextError::TwoLists { .. } => "two_lists",
        ContextError::BadName(_) => "bad_name",
    }
}

/// Everything of an upstream's TLS, compiled.
#[pyclass(frozen, module = "meshcore._core")]
pub struct TlsClient(ClientContext, Clock);

#[pymethods]
impl TlsClient {
    #[new]
    #[pyo3(signature = (trust, certificate, alpn, min_version, key_log=None))]
    fn new(
        py: Python<'_>,
        trust: Option<&TlsTrust>,
        certificate: Option<(Vec<u8>, Vec<u8>)>,
        alpn: Vec<String>,
        min_version: &str,
        key_log: Option<&KeyLog>,
    ) -> PyResult<Self> {
        let pair = |(chain_pem, key_pem)| Pair {
            server_name: String::new(),
            chain_pem,
            key_pem,
            ocsp_der: None,
        };
        let spec = ClientSpec {
            trust: trust.map(|of| of.trust.clone()),
            pair: certificate.map(pair),
            alpn: words(alpn),
            least: least(min_version),
            key_log: key_log.map(KeyLog::sink),
        };
        let clock = Clock::at(unix_ms() / 1000);
        let made = py.detach(|| ClientContext::new(&spec, &clock));
        Ok(Self(made.map_err(refused)?, clock))
    }

    /// TLS for a connection to an endpoint of this name.
    fn session(&self, server_name: &str, protocol: Py<PyAny>) -> PyResult<SecureTransport> {
        self.1.set(unix_ms() / 1000);
        let session = self.0.session(server_name).map_err(refused)?;
        Ok(SecureTransport::new(session, self.1.clone(), protocol, None))
    }
}

/// What a client's certificate says of it; `own`: by which URI we were known to it.
pub(crate) fn certified_by(identity: tls::Identity, own: Option<&str>) -> Certified {
    let element = identity.forwarded(own);
    Certified::new(identity, element)
}
