//! Shared memory as Python hands it from process to process.

use std::os::fd::{AsRawFd, RawFd};

use meshcore_core::exchange::{self, LAYOUT, word_format};
use meshcore_core::segment::{self, Origin, SegmentConfig};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::clock::now_ns;
use crate::errors::segment_error;

/// A segment of shared words in a memory file.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Segment(pub(crate) segment::Segment);

#[pymethods]
impl Segment {
    #[staticmethod]
    #[pyo3(signature = (*, max_bytes, worker_slots, seed, like=None))]
    fn create(
        max_bytes: usize,
        worker_slots: usize,
        seed: u64,
        like: Option<&[u8]>,
    ) -> PyResult<Self> {
        // One number from outside becomes two keys, as in an engine of one process.
        let random = exchange::Engine::new(seed);
        let seed = match like {
            Some(data) => segment::Exported::seed_of(data).map_err(segment_error)?,
            None => [random.random(), random.random()],
        };
        let origin = Origin { seed, layout: LAYOUT, created_ns: now_ns() };
        let config = SegmentConfig { max_bytes, worker_slots };
        segment::Segment::create(config, origin).map(Self).map_err(segment_error)
    }

    #[staticmethod]
    fn open(fd: RawFd) -> PyResult<Self> {
        let no = |e| segment_error(segment::SegmentError::Memory(e));
        let fd = segment::Segment::duplicate(fd).map_err(no)?;
        segment::Segment::open(fd, LAYOUT).map(Self).map_err(segment_error)
    }

    fn fileno(&self) -> PyResult<RawFd> {
        let fd = self.0.fd().map(|fd| fd.as_raw_fd());
        fd.ok_or_else(|| PyValueError::new_err("no file behind it"))
    }

    #[getter]
    fn worker_slots(&self) -> usize {
        self.0.worker_slots()
    }

    #[getter]
    fn max_bytes(&self) -> usize {
        self.0.max_bytes()
    }

    #[getter]
    fn reserved_bytes(&self) -> usize {
        self.0.reserved_bytes()
    }

    #[getter]
    fn objects(&self) -> usize {
        self.0.len()
    }

    #[getter]
    fn retired(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.retired())
    }

    #[getter]
    fn retired_bytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.retired_bytes())
    }

    #[getter]
    fn oldest_version(&self) -> Option<u64> {
        self.0.oldest_version()
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.release()).map_err(segment_error)
    }

    fn export<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let data = py.detach(|| self.0.export(word_format)).map_err(segment_error)?;
        Ok(PyBytes::new(py, &data))
    }

    fn occupy(&self, slot: usize, pid: u64, started_ns: u64) -> PyResult<()> {
        self.0.occupy(slot, pid, started_ns).map_err(segment_error)
    }

    fn clear(&self, py: Python<'_>, slot: usize) -> PyResult<()> {
        py.detach(|| self.0.clear_worker(slot)).map_err(segment_error)
    }

    fn worker(&self, slot: usize) -> PyResult<WorkerSlot> {
        let w = self.0.worker(slot).map_err(segment_error)?;
        Ok(WorkerSlot {
            pid: w.pid,
            started_ns: w.started_ns,
            heartbeat_ns: w.heartbeat_ns,
            version: w.acked_version,
            oldest_version: w.oldest_version,
        })
    }
}

/// What a worker says of itself in its slot of the segment.
#[pyclass(frozen, get_all, eq, module = "meshcore._core")]
#[derive(PartialEq, Eq)]
pub struct WorkerSlot {
    pid: u64,
    started_ns: u64,
    heartbeat_ns: u64,
    version: u64,
    oldest_version: u64,
}

#[pymethods]
impl WorkerSlot {
    #[new]
    #[pyo3(signature = (pid=0, started_ns=0, heartbeat_ns=0, version=0, oldest_version=0))]
    fn new(
        pid: u64,
        started_ns: u64,
        heartbeat_ns: u64,
        version: u64,
        oldest_version: u64,
    ) -> Self {
        Self { pid, started_ns, heartbeat_ns, version, oldest_version }
    }

    fn __repr__(&self) -> String {
        let Self { pid, started_ns, heartbeat_ns, version, oldest_version } = self;
        format!(
            "WorkerSlot(pid={pid}, started_ns={started_ns}, heartbeat_ns={heartbeat_ns}, \
             version={version}, oldest_version={oldest_version})"
        )
    }
}
