//! What an upstream's TLS is made of.

use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, UnbufferedClientConnection,
};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, KeyLog};

use super::certificates;
use super::no_pair::NoPair;
use super::provider::provider;
use super::server::versions;
use super::verify::{self, Again};
use super::{Clock, ContextError, Pair, Session, Trust, Version};

/// For how many names sessions are kept for resumption.
const KEPT_SESSIONS: usize = 256;

/// What an upstream says about TLS.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// Whom to believe; `None`: any server.
    pub trust: Option<Trust>,
    /// Our own certificate, for endpoints that ask for one.
    pub pair: Option<Pair>,
    /// What is offered, the preferred first (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version.
    pub least: Version,
    /// Where the secrets of every session are written.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

/// An upstream's TLS, shared by its connections.
#[derive(Clone)]
pub struct ClientContext {
    config: Arc<ClientConfig>,
    verifier: Option<Arc<dyn rustls::client::danger::ServerCertVerifier>>,
    /// Knows who asked for a certificate, where we have none.
    no_pair: Arc<NoPair>,
    /// What is resumed, by name.
    kept: Arc<dyn ClientSessionStore>,
    clock: Clock,
}

/// Whether a certificate can be verified to be of this name, or address.
#[must_use]
pub fn is_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl ClientContext {
    /// Compiles a spec. O(certificates).
    ///
    /// # Errors
    /// [`ContextError`]: what is wrong with the certificate, the key or the roots.
    pub fn new(spec: &ClientSpec, clock: &Clock) -> Result<Self, ContextError> {
        let provider = provider();
        let verifier = spec.trust.as_ref();
        let verifier = verifier.map(|t| verify::servers(t, &provider, clock.now())).transpose()?;
        let used = verifier.clone().unwrap_or_else(|| verify::anybody(&provider));
        let unusable = |why: rustls::Error| ContextError::UnusableKey(why.to_string());
        let time = Arc::new(clock.clone());
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), time)
            .with_protocol_versions(versions(spec.least))
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(used);
        let no_pair = Arc::<NoPair>::default();
        let mut config = match &spec.pair {
            None => builder.with_client_cert_resolver(Arc::<NoPair>::clone(&no_pair)),
            Some(pair) => {
                let key = certificates::certified(pair, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols.clone_from(&spec.alpn);
        if let Some(key_log) = &spec.key_log {
            config.key_log = Arc::clone(key_log);
        }
        let kept: Arc<dyn ClientSessionStore> =
            Arc::new(ClientSessionMemoryCache::new(KEPT_SESSIONS));
        config.resumption = Resumption::store(Arc::clone(&kept));
        Ok(Self { config: Arc::new(config), verifier, no_pair, kept, clock: clock.clone() })
    }

    /// A session for a connection to an endpoint of this name, or this address.
    ///
    /// # Errors
    /// [`ContextError::BadName`].
    pub fn session(&self, name: &str) -> Result<Session, ContextError> {
        let bad = || ContextError::BadName(name.to_owned());
        let name = ServerName::try_from(name.to_owned()).map_err(|_| bad())?;
        let machine = UnbufferedClientConnection::new(Arc::clone(&self.config), name.clone())
            .map_err(|why| ContextError::UnusableKey(why.to_string()))?;
        let kept = Arc::clone(&self.kept);
        let again = self.verifier.clone().map(|rules| Again::Server { rules, name, kept });
        Ok(Session::client(machine, again, Arc::clone(&self.no_pair), self.clock.clone()))
    }
}
