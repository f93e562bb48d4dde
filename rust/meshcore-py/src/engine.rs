//! The compiled configuration and the door to it.

use std::sync::Arc;

use meshcore_core::codec::h2::Flood;
use meshcore_core::exchange::{self, Control};
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::snapshot::Delta;
use meshcore_core::telemetry::Format;
use meshcore_core::time::Nanos;
use pyo3::prelude::*;

use crate::answer::Answer;
use crate::clock::now_ns;
use crate::errors::{ApplyError, config_error};
use crate::message::Request;
use crate::ticket::Ticket;

/// Who is at the other end of a connection.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Peer(pub(crate) exchange::Peer);

#[pymethods]
impl Peer {
    #[getter]
    fn address(&self) -> &str {
        self.0.text()
    }
}

/// Only control takes it, to apply one change after the other: no request ever waits for it.
#[expect(clippy::disallowed_types, reason = "serialises configuration changes only")]
type ControlLock = std::sync::Mutex<Control>;

#[pyclass(frozen, module = "meshcore._core")]
pub struct Engine {
    pub(crate) engine: Arc<exchange::Engine>,
    seed: [u64; 2],
    control: ControlLock,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, seed, segment_max=256 << 20))]
    fn new(seed: u64, segment_max: usize) -> PyResult<Self> {
        let engine = Arc::new(exchange::Engine::new(seed));
        let keys = [engine.random(), engine.random()];
        let config = SegmentConfig { max_bytes: segment_max, worker_slots: 1 };
        let segment = Segment::anonymous(config).map_err(config_error)?;
        let control = ControlLock::new(Control::new(segment, 0, keys));
        Ok(Self { engine, seed: keys, control })
    }

    fn apply(&self, py: Python<'_>, delta: &[u8]) -> PyResult<()> {
        py.detach(|| {
            let delta: Delta =
                serde_json::from_slice(delta).map_err(|e| ApplyError::one(e.to_string()))?;
            let mut control =
                self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let compiled = control.apply(&self.engine.compiled(), delta)?;
            self.engine.swap(compiled);
            Ok::<(), ApplyError>(())
        })?;
        Ok(())
    }

    #[getter]
    fn version(&self) -> u64 {
        self.engine.compiled().version
    }

    fn listener(&self, name: &str) -> PyResult<Listener> {
        match self.engine.compiled().listener_id(name) {
            Some(id) => Ok(Listener { engine: Arc::clone(&self.engine), id }),
            None => Err(config_error(format!("no listener named {name}"))),
        }
    }

    fn endpoints(&self) -> Vec<(u32, String, String)> {
        let compiled = self.engine.compiled();
        let mut all = Vec::new();
        for upstream in compiled.upstreams() {
            for (id, endpoint) in upstream.endpoints() {
                all.push((id, upstream.name.clone(), endpoint.address.clone()));
            }
        }
        all
    }

    fn python_layers(&self) -> Vec<String> {
        self.engine.compiled().python_layers().to_vec()
    }

    fn metrics(&self, py: Python<'_>, accept: &str) -> (Vec<u8>, &'static str) {
        py.detach(|| {
            let format = Format::from_accept(accept);
            let text = exchange::render_metrics(&self.engine.compiled(), format, Nanos(now_ns()));
            (text.into_bytes(), format.content_type())
        })
    }

    fn peer(&self, host: Option<&str>) -> Peer {
        // A scoped address (`fe80::1%eth0`) names the same host without its zone.
        let ip = host.and_then(|h| h.split('%').next()).and_then(|h| h.parse().ok());
        Peer(exchange::Peer::new(ip, self.seed))
    }
}

/// A listener's stack, by an id that outlives reloads.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Listener {
    engine: Arc<exchange::Engine>,
    id: u32,
}

#[pymethods]
impl Listener {
    fn begin(&self, request: &Request, peer: &Peer, now_ns: u64) -> Ticket {
        let (ticket, verdict) = self.engine.begin(self.id, request.head(), &peer.0, Nanos(now_ns));
        Ticket::new(Arc::clone(&self.engine), ticket, verdict)
    }

    fn connected(&self) {
        if let Some(listener) = self.engine.compiled().listener(self.id) {
            listener.stats.connected();
        }
    }

    fn disconnected(&self) {
        if let Some(listener) = self.engine.compiled().listener(self.id) {
            listener.stats.disconnected();
        }
    }

    fn flooded(&self, flood: usize) {
        if let Some(listener) = self.engine.compiled().listener(self.id)
            && let Some(flood) = Flood::ALL.get(flood)
        {
            listener.stats.flooded(*flood);
        }
    }

    fn answered(&self, answer: &Answer) {
        if let Some(listener) = self.engine.compiled().listener(self.id) {
            listener.stats.answered(answer.reason());
        }
    }
}
