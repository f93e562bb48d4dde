//! One configuration as requests walk through it; swapped as a whole.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use super::client_address::{Client, Trust};
use super::counted::Counted;
use super::guards::Guards;
use super::handshakes::Handshakes;
use super::layer::{Op, PythonLayer};
use super::layer_counts::LayerCounts;
use super::networks::Networks;
use super::peer::Peer;
use super::stack::RouteStack;
use super::stats::ListenerStats;
use super::tracing::Tracing;
use super::upstream::Upstream;
use crate::admission::ClientsHeld;
use crate::balance::Rng;
use crate::codec::ViaMark;
use crate::head::RequestHead;
use crate::routing::{ListenerId, RouteTable};
use crate::snapshot::{Action, Counts, ForwardedCert, Route};
use crate::sync::{AtomicU64, Ordering};

pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A compiled listener.
#[derive(Debug)]
pub struct CompiledListener {
    /// Its id, stable while its name stays.
    pub id: u32,
    /// Its name.
    pub name: String,
    pub(super) ops: Vec<Op>,
    pub(super) trust: Trust,
    pub(super) forwarded_cert: ForwardedCert,
    pub(super) announcers: Networks,
    pub(super) via: ViaMark,
    pub(super) max_visits: u8,
    /// The least rate of a request's body, in bytes a second; zero for none.
    pub(super) body_rate: u64,
    pub(super) routing: ListenerId,
    /// What happened on it.
    pub stats: ListenerStats,
    /// Its TLS handshakes, if it ends TLS.
    pub handshakes: Option<Handshakes>,
}

impl CompiledListener {
    /// Whether a peer may say, by the PROXY protocol, from whom its connection comes.
    #[must_use]
    pub fn hears(&self, peer: &Peer) -> bool {
        self.announcers.has(peer.ip())
    }

    /// Whether a request has come through it too often.
    pub(super) fn is_loop(&self, head: &RequestHead) -> bool {
        head.via && self.via.visits(&head.headers) >= usize::from(self.max_visits)
    }

    /// The fields that its limits count by.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.ops.iter().filter_map(Op::key)
    }
}

/// The routes of one host: what they were compiled from, and what they became.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) routes: Vec<Route>,
    pub(super) stacks: Vec<Arc<RouteStack>>,
    /// The routes that look at fields, by place.
    pub(super) watchful: Vec<usize>,
}

impl Host {
    pub(super) fn leads_to(&self, upstreams: &[String]) -> bool {
        self.routes.iter().any(|route| match &route.action {
            Action::Forward { upstream, .. } => upstreams.contains(upstream),
            _ => false,
        })
    }
}

/// Bytes that a worker keeps of request bodies which it awaits, and the most of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    used: Arc<AtomicU64>,
    pub(super) most: u64,
}

/// A part of [`Buffers`], until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Buffers {
    /// Room for `bytes` more, if there is.
    ///
    /// # Orderings
    /// The sum publishes nothing: `Relaxed`.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Reservation { used: Arc::clone(&self.used), bytes };
        (before.saturating_add(bytes) <= self.most).then_some(reservation)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One configuration, compiled. Immutable: a request keeps the one it began with.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The number of the configuration.
    pub version: u64,
    pub(super) seed: [u64; 2],
    pub(super) listeners: Vec<Option<Arc<CompiledListener>>>,
    /// The fields that decide about requests of each listener.
    pub(super) guards: Vec<Guards>,
    pub(super) routes: RouteTable<Arc<RouteStack>>,
    pub(super) upstreams: Map<String, Arc<Upstream>>,
    pub(super) hosts: Map<String, Arc<Host>>,
    pub(super) layers: Arc<Vec<PythonLayer>>,
    /// Of the process, over all its configurations.
    pub(super) buffers: Buffers,
    /// `None`: no part is taken in traces.
    pub(super) tracing: Option<Tracing>,
    /// What Python counts, and of the program itself.
    pub(super) counts: Arc<Counts>,
    pub(super) program: Arc<Counted>,
    /// What layers in Python count, by what they are called.
    pub(super) layer_counts: Map<String, LayerCounts>,
    /// Who holds how much of the upstreams' caps in this process.
    pub(super) clients: Arc<ClientsHeld>,
}

impl Compiled {
    /// The client that sends a received head. Takes out of it, before it is used, what only a proxy
    /// that the listener trusts may say, and other spellings of the fields that decide.
    pub fn clean(&self, listener: u32, peer: &Peer, head: &mut RequestHead) -> Client {
        let Some(listener) = self.listener(listener) else { return Client::of(peer) };
        let vouched = head.vouched;
        let client = listener.trust.clean(peer, head, self.seed);
        listener.forwarded_cert.apply(&client, vouched, head);
        if let Some(guards) = self.guards(listener.id) {
            guards.clean(&mut head.headers);
        }
        client
    }

    /// The fields that decide about requests of a listener.
    pub(super) fn guards(&self, listener: u32) -> Option<&Guards> {
        self.guards.get(listener as usize)
    }

    /// A listener by id.
    #[must_use]
    pub fn listener(&self, id: u32) -> Option<&Arc<CompiledListener>> {
        self.listeners.get(id as usize)?.as_ref()
    }

    /// A listener's id by name. O(listeners).
    #[must_use]
    pub fn listener_id(&self, name: &str) -> Option<u32> {
        self.listeners().find(|l| l.name == name).map(|l| l.id)
    }

    /// The route that a request takes on a listener, as the walk finds it, and the host of it that
    /// matched. No layer is asked.
    #[must_use]
    pub fn route_of(&self, listener: u32, head: &RequestHead) -> Option<(&Arc<RouteStack>, &str)> {
        let found = self.routes.find(self.listener(listener)?.routing, head)?;
        Some((found.payload, found.host))
    }

    /// Every listener.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<CompiledListener>> {
        self.listeners.iter().flatten()
    }

    /// Every upstream.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    /// An upstream by name. O(1) expected.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// What Python counts of the program itself.
    #[must_use]
    pub fn program(&self) -> &Counted {
        &self.program
    }

    /// Every route.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<RouteStack>> {
        self.hosts.values().flat_map(|host| host.stacks.iter())
    }

    /// The layers of every stack.
    pub(super) fn ops(&self) -> impl Iterator<Item = &Op> {
        let of_listeners = self.listeners().flat_map(|listener| &listener.ops);
        of_listeners.chain(self.routes().flat_map(|route| &route.ops))
    }

    /// The names of Python layers, by the number that a pause carries; none for a number that is
    /// free.
    pub fn python_layers(&self) -> impl Iterator<Item = Option<&str>> {
        self.layers.iter().map(PythonLayer::name)
    }
}

/// The compiled configuration of a process, and its random source.
pub struct Engine {
    compiled: ArcSwap<Compiled>,
    rng: AtomicU64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("version", &self.compiled.load().version).finish()
    }
}

impl Engine {
    /// An engine without configuration; `seed` makes its choices repeatable.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { compiled: ArcSwap::from_pointee(Compiled::default()), rng: AtomicU64::new(seed) }
    }

    /// The configuration in force.
    #[must_use]
    pub fn compiled(&self) -> Arc<Compiled> {
        self.compiled.load_full()
    }

    /// Puts a configuration in force for requests that begin from now on.
    pub fn swap(&self, compiled: impl Into<Arc<Compiled>>) {
        self.compiled.store(compiled.into());
    }

    /// A random number: a Weyl sequence through a finaliser (splitmix64, Steele et al. 2014), so
    /// that threads share one word without a loop.
    ///
    /// # Orderings
    /// Relaxed: the word publishes nothing.
    pub fn random(&self) -> u64 {
        let z = self.rng.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A generator for one request.
    pub fn rng(&self) -> Rng {
        Rng::new(self.random())
    }
}
