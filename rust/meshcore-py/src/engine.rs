//! The compiled configuration and the door to it.

use std::net::IpAddr;
use std::sync::Arc;

use meshcore_core::codec::h2::Flood;
use meshcore_core::codec::{Asked, parse_proxy_header};
use meshcore_core::exchange::{
    self, BreakerOf, Compiled, Compiler, Handshakes, ListenerStats, Phase,
};
use meshcore_core::identity::Identity;
use meshcore_core::segment::{self, SegmentConfig};
use meshcore_core::telemetry::{AccessLine, Family, Format};
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::answer::Answer;
use crate::clock::{Ns, now_ns, unix_ms};
use crate::errors::{codec_error, config_error, segment_error};
use crate::message::Request;
use crate::prepared::{Changes, Prepared};
use crate::secure_transport::SecureTransport;
use crate::segment::Segment;
use crate::ticket::Ticket;
use crate::tls::certified_by;

/// Who is at the other end of a connection.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Peer(pub(crate) exchange::Peer);

#[pymethods]
impl Peer {
    #[getter]
    fn address(&self) -> &str {
        self.0.text()
    }

    #[getter]
    fn key(&self) -> u64 {
        self.0.key()
    }

    #[getter]
    fn identity(&self) -> Option<&str> {
        self.0.certificate().map(|certified| &*certified.identity)
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.certificate().map_or_else(Vec::new, |certified| certified.holder.names())
    }

    #[getter]
    fn subject(&self) -> Option<&str> {
        self.0.certificate().map(|certified| &*certified.holder.subject)
    }

    #[getter]
    fn has_client_rules(&self) -> bool {
        self.0.stands().is_some()
    }

    #[getter]
    fn is_admitted(&self) -> bool {
        self.0.stands().is_none_or(|standing| standing.is_admitted())
    }

    fn verify_again(&self, unix_s: u64) -> bool {
        self.0.stands().is_none_or(|standing| standing.is_admitted_at(unix_s))
    }

    #[getter]
    fn fingerprint(&self) -> Option<&str> {
        self.0.certificate().map(|certified| &*certified.holder.fingerprint)
    }
}

/// Upstream, route, state, time left in nanoseconds, and failures in a row, calls and failures.
type BreakerRow = (String, Option<String>, &'static str, u64, (u64, u64, u64));

/// A family as Python keeps it: name, whether it only grows, help, and labels with figures.
#[derive(FromPyObject)]
struct FamilyOf(String, bool, String, Vec<(Vec<(String, String)>, f64)>);

impl FamilyOf {
    fn named(self) -> Family {
        let Self(name, grows, help, samples) = self;
        Family { name, grows, help, samples }
    }
}

#[pyclass(frozen, module = "meshcore._core")]
pub struct Engine {
    pub(crate) engine: Arc<exchange::Engine>,
    seed: [u64; 2],
    changes: Changes,
    /// Where a worker says how it stands.
    slot: Option<(segment::Segment, usize)>,
}

impl Engine {
    fn with(engine: exchange::Engine, compiler: Compiler) -> Self {
        let seed = compiler.seed();
        let engine = Arc::new(engine);
        Self { changes: Changes::new(Arc::clone(&engine), compiler), engine, seed, slot: None }
    }

    /// Of an upstream of the configuration in force; who has left it is not counted.
    fn count_handshake(&self, upstream: &str, event: impl FnOnce(&Handshakes)) {
        let compiled = self.engine.compiled();
        let upstream = compiled.upstream(upstream);
        if let Some(handshakes) = upstream.and_then(|upstream| upstream.handshakes.as_ref()) {
            event(handshakes);
        }
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, seed, segment_max=256 << 20))]
    fn new(seed: u64, segment_max: usize) -> PyResult<Self> {
        let engine = exchange::Engine::new(seed);
        let keys = [engine.random(), engine.random()];
        let config = SegmentConfig { max_bytes: segment_max, worker_slots: 1 };
        let segment = segment::Segment::anonymous(config).map_err(segment_error)?;
        Ok(Self::with(engine, Compiler::new(segment, 0, keys)))
    }

    #[staticmethod]
    #[pyo3(signature = (segment, *, seed, adopt=false))]
    fn control(segment: &Segment, seed: u64, adopt: bool) -> PyResult<Self> {
        let segment = segment.0.clone();
        if adopt {
            segment.adopt().map_err(segment_error)?;
        } else {
            segment.check_writer().map_err(segment_error)?;
        }
        let keys = segment.origin().seed;
        Ok(Self::with(exchange::Engine::new(seed), Compiler::new(segment, 0, keys)))
    }

    #[staticmethod]
    #[pyo3(signature = (segment, slot, *, seed))]
    fn worker(segment: &Segment, slot: usize, seed: u64) -> PyResult<Self> {
        let segment = segment.0.clone();
        segment.worker(slot).map_err(segment_error)?;
        let compiler = Compiler::worker(segment.clone(), slot);
        let engine = Self::with(exchange::Engine::new(seed), compiler);
        Ok(Self { slot: Some((segment, slot)), ..engine })
    }

    fn prepare(&self, py: Python<'_>, delta: &[u8]) -> PyResult<Prepared> {
        Ok(py.detach(|| self.changes.prepare(delta))?)
    }

    fn commit(&self, py: Python<'_>, prepared: &Prepared) -> PyResult<()> {
        py.detach(|| self.changes.commit(prepared)).map_err(PyValueError::new_err)
    }

    fn apply(&self, py: Python<'_>, delta: &[u8]) -> PyResult<()> {
        Ok(py.detach(|| self.changes.apply(delta))?)
    }

    fn import_words(&self, py: Python<'_>, data: &[u8]) -> PyResult<usize> {
        py.detach(|| self.changes.import(data)).map_err(segment_error)
    }

    fn report(&self, now_ns: u64) -> PyResult<()> {
        let Some((segment, slot)) = &self.slot else { return Ok(()) };
        let versions = self.changes.versions();
        segment.report(*slot, now_ns, versions.current, &versions.older).map_err(segment_error)
    }

    #[getter]
    fn oldest_version(&self) -> u64 {
        self.changes.versions().oldest()
    }

    #[getter]
    fn version(&self) -> u64 {
        self.engine.compiled().version
    }

    fn listener(&self, name: &str) -> PyResult<ListenerStack> {
        let compiled = self.engine.compiled();
        let Some(id) = compiled.listener_id(name) else {
            return Err(config_error(format!("no listener named {name}")));
        };
        Ok(ListenerStack { engine: Arc::clone(&self.engine), compiled, id })
    }

    fn breakers(&self, py: Python<'_>, now_ns: u64, most: usize) -> (Vec<BreakerRow>, usize) {
        let (views, count) = py.detach(|| self.engine.compiled().breakers(Nanos(now_ns), most));
        let row = |view: exchange::BreakerView| {
            let exchange::BreakerView { upstream, route, figures } = view;
            let state = crate::library::name_of(figures.state);
            let counts = (figures.failures_in_row, figures.calls, figures.failures);
            (upstream, route, state, figures.left.0, counts)
        };
        (views.into_iter().map(row).collect(), count)
    }

    fn ejected(
        &self,
        py: Python<'_>,
        now_ns: u64,
        most: usize,
    ) -> (Vec<(String, String, u64)>, usize) {
        let (views, count) = py.detach(|| self.engine.compiled().ejected(Nanos(now_ns), most));
        let row = |view: exchange::EjectedView| (view.upstream, view.endpoint, view.left.0);
        (views.into_iter().map(row).collect(), count)
    }

    /// Whether there is such a breaker.
    #[pyo3(signature = (name, *, of_route, open_until_ns))]
    fn set_breaker(&self, name: &str, of_route: bool, open_until_ns: Option<u64>) -> bool {
        let compiled = self.engine.compiled();
        let of = if of_route { BreakerOf::Route(name) } else { BreakerOf::Upstream(name) };
        let Some(breaker) = compiled.breaker(of) else { return false };
        match open_until_ns {
            Some(until) => breaker.force_open(Nanos(until)),
            None => breaker.force_closed(),
        }
        true
    }

    fn handshake_made(&self, upstream: &str, transport: &SecureTransport) {
        self.count_handshake(upstream, |handshakes| transport.count(handshakes));
    }

    /// Of the configuration in force, as a handshake is counted.
    #[pyo3(signature = (place, n=1, *, upstream=None))]
    fn count(&self, place: usize, n: u64, upstream: Option<&str>) -> PyResult<()> {
        let compiled = self.engine.compiled();
        let known = match upstream {
            None => compiled.program().add(place, n),
            Some(name) => compiled.upstream(name).is_none_or(|u| u.counted.add(place, n)),
        };
        known.then_some(()).ok_or_else(|| PyValueError::new_err("no such count"))
    }

    /// Of the configuration in force, too; false where there is no place for another name.
    fn count_layer(&self, layer: &str, name: &str, n: u64) -> bool {
        self.engine.compiled().layer_counts(layer).is_none_or(|counts| counts.add(name, n))
    }

    fn layer_count(&self, layer: &str, name: &str) -> Option<u64> {
        self.engine.compiled().layer_counts(layer).map(|counts| counts.get(name))
    }

    fn handshake_failed(&self, upstream: &str, reason: &str, by_peer: bool) {
        self.count_handshake(upstream, |handshakes| handshakes.failed(reason, by_peer));
    }

    fn python_layers(&self) -> Vec<Option<String>> {
        self.engine.compiled().python_layers().map(|name| name.map(str::to_owned)).collect()
    }

    #[pyo3(signature = (accept, families=None))]
    fn metrics(
        &self,
        py: Python<'_>,
        accept: &str,
        families: Option<Vec<FamilyOf>>,
    ) -> (Vec<u8>, &'static str) {
        py.detach(|| {
            let format = Format::from_accept(accept);
            let families: Vec<Family> =
                families.into_iter().flatten().map(FamilyOf::named).collect();
            let (compiled, now) = (self.engine.compiled(), Nanos(now_ns()));
            let text = exchange::render_metrics(&compiled, format, now, &families);
            (text.into_bytes(), format.content_type())
        })
    }

    #[staticmethod]
    fn metrics_type(accept: &str) -> &'static str {
        Format::from_accept(accept).content_type()
    }

    #[pyo3(signature = (host, port=0))]
    fn peer(&self, host: Option<&str>, port: u16) -> Peer {
        Peer(exchange::Peer::new(ip_of(host), self.seed).at_port(port))
    }

    /// As if a certificate with these names had been verified.
    fn named_peer(&self, host: Option<&str>, names: Vec<String>) -> PyResult<Peer> {
        let holder = Identity::named(&names).map_err(PyValueError::new_err)?;
        let peer = exchange::Peer::new(ip_of(host), self.seed);
        Ok(Peer(peer.certified(certified_by(holder, None))))
    }

    fn announced(&self, data: &[u8]) -> PyResult<Option<(usize, Option<Peer>)>> {
        let header = parse_proxy_header(data).map_err(codec_error)?;
        let peer = |ends| Peer(exchange::Peer::announced(ends, self.seed));
        Ok(header.map(|header| (header.bytes, header.ends.map(peer))))
    }
}

/// The address that a socket names. A scoped one (`fe80::1%eth0`) is the same host without its zone.
pub(crate) fn ip_of(host: Option<&str>) -> Option<IpAddr> {
    host?.split('%').next()?.parse().ok()
}

/// A listener's stack, as it was in a configuration: a listener that goes on asks for it anew
/// after a reload, one that leaves serves its last requests by it.
#[pyclass(frozen, module = "meshcore._core")]
pub struct ListenerStack {
    pub(crate) engine: Arc<exchange::Engine>,
    /// Also keeps the words that are counted in from being given to another.
    compiled: Arc<Compiled>,
    id: u32,
}

impl ListenerStack {
    fn count(&self, event: impl FnOnce(&ListenerStats)) {
        if let Some(listener) = self.compiled.listener(self.id) {
            event(&listener.stats);
        }
    }

    fn count_handshake(&self, event: impl FnOnce(&Handshakes)) {
        let listener = self.compiled.listener(self.id);
        if let Some(handshakes) = listener.and_then(|listener| listener.handshakes.as_ref()) {
            event(handshakes);
        }
    }
}

#[pymethods]
impl ListenerStack {
    pub(crate) fn begin(
        slf: &Bound<'_, Self>,
        request: &mut Request,
        peer: &Bound<'_, Peer>,
        now_ns: Ns,
    ) -> Ticket {
        let this = slf.get();
        let client = this.compiled.clean(this.id, &peer.get().0, &mut request.head);
        let arrival = exchange::Arrival { head: request.head(), now: now_ns.into() };
        let whole = request.part.body.end;
        let (mut ticket, verdict) =
            this.engine.begin(&this.compiled, this.id, whole, client, &arrival);
        ticket.begin_body(request.part.len() as u64);
        if matches!(verdict, exchange::Verdict::Pause(_)) {
            request.show(peer, &ticket);
        }
        Ticket::new(slf.clone().unbind(), ticket, verdict)
    }

    /// Without the layers, which may change what a route goes by.
    fn find(&self, request: &mut Request, peer: &Peer) -> Option<(String, String)> {
        self.compiled.clean(self.id, &peer.0, &mut request.head);
        let (route, host) = self.compiled.route_of(self.id, &request.head)?;
        Some((route.name.to_string(), host.to_owned()))
    }

    fn connected(&self) -> u64 {
        self.compiled.listener(self.id).map_or(0, |listener| {
            listener.stats.connected();
            listener.stats.open_connections()
        })
    }

    fn hears(&self, peer: &Peer) -> bool {
        self.compiled.listener(self.id).is_some_and(|listener| listener.hears(&peer.0))
    }

    fn disconnected(&self) {
        self.count(ListenerStats::disconnected);
    }

    fn handshake_began(&self) {
        self.count(ListenerStats::handshake_began);
    }

    fn handshake_ended(&self) {
        self.count(ListenerStats::handshake_ended);
    }

    fn handshake_made(&self, transport: &SecureTransport) {
        self.count_handshake(|handshakes| transport.count(handshakes));
    }

    fn handshake_failed(&self, reason: &str, by_peer: bool) {
        self.count_handshake(|handshakes| handshakes.failed(reason, by_peer));
    }

    fn flooded(&self, flood: usize) {
        if let Some(flood) = Flood::ALL.get(flood) {
            self.count(|stats| stats.flooded(*flood));
        }
    }

    fn refused(&self, answer: &Answer, sent: bool) {
        let reason = answer.reason();
        self.count(|stats| if sent { stats.answered(reason) } else { stats.cut(reason) });
    }
}

impl ListenerStack {
    /// What the access log tells of what was no request.
    pub(crate) fn refused_line(
        &self,
        answer: &Answer,
        sent: bool,
        peer: &Peer,
        json: bool,
    ) -> String {
        let reason = answer.reason();
        let asked = answer.asked.as_deref();
        let text = |part: fn(&Asked) -> &[u8]| asked.map(part).unwrap_or_default();
        let line = AccessLine {
            unix_ms: unix_ms(),
            listener: self.compiled.listener(self.id).map_or("", |l| &l.name),
            client: peer.0.text(),
            method: text(|asked| &asked.method),
            host: text(|asked| &asked.host),
            path: text(|asked| &asked.path),
            query: asked.and_then(|asked| asked.query.as_deref()),
            protocol: asked.map_or("", |asked| asked.protocol),
            head_bytes: asked.map(|asked| asked.head_bytes).filter(|bytes| *bytes > 0),
            status: if sent { answer.reply.status } else { 0 },
            reason: reason.code(),
            by: reason.by().word(),
            phase: Phase::Head.word(),
            detail: answer.detail(),
            ..AccessLine::default()
        };
        line.to_text(json)
    }
}
