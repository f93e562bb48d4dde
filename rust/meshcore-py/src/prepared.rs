//! One change of configuration after the other, each in two steps.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use meshcore_core::balance::Endpoint;
use meshcore_core::exchange::{Compiled, Control, Engine};
use meshcore_core::segment::SegmentError;
use meshcore_core::snapshot::Delta;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::ApplyError;

/// No request ever waits for it.
#[expect(clippy::disallowed_types, reason = "serialises configuration changes only")]
type Lock<T> = std::sync::Mutex<T>;

fn lock<T>(lock: &Lock<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inside {
    control: Control,
    /// How often a configuration was put in force.
    commits: u64,
    /// Configurations that are not in force any more, which requests may still hold.
    older: Vec<Weak<Compiled>>,
}

/// What changes the configuration of an engine.
pub(crate) struct Changes {
    engine: Arc<Engine>,
    inside: Lock<Inside>,
}

impl Changes {
    pub(crate) fn new(engine: Arc<Engine>, control: Control) -> Self {
        let inside = Inside { control, commits: 0, older: Vec::new() };
        Self { engine, inside: Lock::new(inside) }
    }

    /// Compiles a change; nothing is in force yet.
    pub(crate) fn prepare(&self, delta: &[u8]) -> Result<Prepared, ApplyError> {
        self.prepare_with(&mut lock(&self.inside), delta)
    }

    /// Puts in force what was prepared; says why not.
    pub(crate) fn commit(&self, prepared: &Prepared) -> Result<(), &'static str> {
        self.commit_with(&mut lock(&self.inside), prepared)
    }

    /// Both at once: no other change comes between.
    pub(crate) fn apply(&self, delta: &[u8]) -> Result<(), ApplyError> {
        let mut inside = lock(&self.inside);
        let prepared = self.prepare_with(&mut inside, delta)?;
        let done = self.commit_with(&mut inside, &prepared);
        done.map_err(|why| ApplyError::one(why.to_owned()))
    }

    fn prepare_with(&self, inside: &mut Inside, delta: &[u8]) -> Result<Prepared, ApplyError> {
        let delta: Delta =
            serde_json::from_slice(delta).map_err(|e| ApplyError::one(e.to_string()))?;
        let upstreams: Vec<String> = delta.upstreams.keys().cloned().collect();
        let compiled = inside.control.apply(&self.engine.compiled(), delta)?;
        Ok(Prepared {
            upstreams,
            engine: Arc::downgrade(&self.engine),
            commits: inside.commits,
            version: compiled.version,
            compiled: Lock::new(Some(Arc::new(compiled))),
        })
    }

    fn commit_with(&self, inside: &mut Inside, prepared: &Prepared) -> Result<(), &'static str> {
        if !std::ptr::eq(prepared.engine.as_ptr(), Arc::as_ptr(&self.engine)) {
            return Err("prepared by another engine");
        }
        if lock(&prepared.compiled).is_none() {
            return Err(COMMITTED);
        }
        if prepared.commits != inside.commits {
            return Err("prepared from a configuration that is not in force any more");
        }
        let compiled = lock(&prepared.compiled).take().ok_or(COMMITTED)?;
        inside.commits += 1;
        inside.older.retain(|old| old.strong_count() > 0);
        inside.older.push(Arc::downgrade(&self.engine.compiled()));
        self.engine.swap(compiled);
        Ok(())
    }

    /// Takes over what another program exported. How many blocks were kept.
    pub(crate) fn import(&self, data: &[u8]) -> Result<usize, SegmentError> {
        lock(&self.inside).control.import(data)
    }

    /// The version in force, and the oldest that a request still holds.
    pub(crate) fn versions(&self) -> (u64, u64) {
        let mut inside = lock(&self.inside);
        let current = self.engine.compiled().version;
        inside.older.retain(|old| old.strong_count() > 0);
        let older = inside.older.iter().filter_map(Weak::upgrade).map(|old| old.version);
        (current, older.min().map_or(current, |oldest| oldest.min(current)))
    }
}

const COMMITTED: &str = "already committed";

/// An upstream's name, and id and address of its endpoints.
type Endpoints = (String, Vec<(u32, String)>);

/// A configuration that is compiled and not in force.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Prepared {
    engine: Weak<Engine>,
    /// The state that it was made from.
    commits: u64,
    #[pyo3(get)]
    version: u64,
    /// Those that were set, changed or not.
    upstreams: Vec<String>,
    compiled: Lock<Option<Arc<Compiled>>>,
}

impl Prepared {
    fn compiled(&self) -> PyResult<Arc<Compiled>> {
        let compiled = lock(&self.compiled).clone();
        compiled.ok_or_else(|| PyValueError::new_err(COMMITTED))
    }
}

#[pymethods]
impl Prepared {
    fn python_layers(&self) -> PyResult<Vec<String>> {
        Ok(self.compiled()?.python_layers().to_vec())
    }

    fn upstreams(&self) -> PyResult<Vec<Endpoints>> {
        let compiled = self.compiled()?;
        let found = self.upstreams.iter().filter_map(|name| compiled.upstream(name));
        let address = |(id, endpoint): (u32, &Endpoint)| (id, endpoint.address.clone());
        Ok(found.map(|u| (u.name.clone(), u.endpoints().map(address).collect())).collect())
    }
}
