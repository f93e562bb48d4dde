//! One change of configuration after the other, each in two steps.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use meshcore_core::balance::Endpoint;
use meshcore_core::exchange::{Compiled, Compiler, Engine};
use meshcore_core::segment::SegmentError;
use meshcore_core::snapshot::Delta;
use meshcore_core::sync::{Ordering, fence};
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::clock::now_ns;
use crate::errors::{ApplyError, ChangeError};

/// No request ever waits for it.
#[expect(
    clippy::disallowed_types,
    reason = "serialises configuration changes; requests never wait for it"
)]
type Lock<T> = std::sync::Mutex<T>;

fn lock<T>(lock: &Lock<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked for beside a change that is being compiled: locked for a few instructions only.
#[derive(Default)]
struct History {
    /// How often a configuration was put in force.
    commits: u64,
    /// Configurations that are not in force any more, which requests may still hold.
    older: Vec<(u64, Weak<Compiled>)>,
}

impl History {
    /// Forgets what is not held any more.
    ///
    /// # Orderings
    /// The fence (`Acquire`) pairs with the `Release` of the thread that dropped the last
    /// reference: what it did to shared words is done before they are said to be let go of.
    fn forget(&mut self) {
        self.older.retain(|(_, old)| old.strong_count() > 0);
        fence(Ordering::Acquire);
    }
}

/// Versions of configurations.
pub(crate) struct Versions {
    /// The one in force.
    pub(crate) current: u64,
    /// Others that requests still hold.
    pub(crate) older: Vec<u64>,
}

impl Versions {
    pub(crate) fn oldest(&self) -> u64 {
        self.older.iter().copied().fold(self.current, u64::min)
    }
}

/// What changes the configuration of an engine.
///
/// Two locks: who compiles holds `control` for as long as that takes, so nothing that the loop
/// calls may wait for it. `history` is taken for moments, with `control` held or not.
pub(crate) struct Changes {
    engine: Arc<Engine>,
    compiler: Lock<Compiler>,
    history: Lock<History>,
}

impl Changes {
    pub(crate) fn new(engine: Arc<Engine>, compiler: Compiler) -> Self {
        Self { engine, compiler: Lock::new(compiler), history: Lock::default() }
    }

    /// Compiles a change; nothing is in force yet. Waits for one that is being compiled.
    pub(crate) fn prepare(&self, delta: &[u8]) -> Result<Prepared, ChangeError> {
        self.prepare_with(&mut lock(&self.compiler), delta)
    }

    /// Both at once. A commit may come between, of what was prepared before; then it is refused,
    /// as it was made from what is not in force any more.
    pub(crate) fn apply(&self, delta: &[u8]) -> Result<(), ChangeError> {
        let mut compiler = lock(&self.compiler);
        let prepared = self.prepare_with(&mut compiler, delta)?;
        Ok(self.commit(&prepared).map_err(|why| ApplyError::one(why.to_owned()))?)
    }

    fn prepare_with(&self, compiler: &mut Compiler, delta: &[u8]) -> Result<Prepared, ChangeError> {
        let delta: Delta =
            serde_json::from_slice(delta).map_err(|e| ApplyError::one(e.to_string()))?;
        let upstreams: Vec<String> = delta.upstreams.keys().cloned().collect();
        let (commits, old) = {
            let history = lock(&self.history);
            (history.commits, self.engine.compiled())
        };
        compiler.check().map_err(ChangeError::Segment)?;
        let compiled = compiler.apply(&old, delta, Nanos(now_ns())).map_err(|wrong| {
            match compiler.check() {
                Ok(()) => compiler.full().map_or_else(|| wrong.into(), ChangeError::Full),
                Err(handed_over) => ChangeError::Segment(handed_over), // meanwhile
            }
        })?;
        Ok(Prepared {
            upstreams,
            engine: Arc::downgrade(&self.engine),
            commits,
            version: compiled.version,
            compiled: Lock::new(Some(Arc::new(compiled))),
        })
    }

    /// Puts in force what was prepared; says why not. Waits for no compilation: one that is under
    /// way ends with something that is not to be committed any more.
    pub(crate) fn commit(&self, prepared: &Prepared) -> Result<(), &'static str> {
        if !std::ptr::eq(prepared.engine.as_ptr(), Arc::as_ptr(&self.engine)) {
            return Err("prepared by another engine");
        }
        let old = {
            let mut history = lock(&self.history);
            let mut made = lock(&prepared.compiled);
            if made.is_some() && prepared.commits != history.commits {
                return Err("prepared from a configuration that is not in force any more");
            }
            let compiled = made.take().ok_or(COMMITTED)?;
            history.commits += 1;
            history.forget();
            let old = self.engine.compiled();
            history.older.push((old.version, Arc::downgrade(&old)));
            self.engine.swap(compiled);
            old
        };
        drop(old); // it may be large, so no lock is held meanwhile
        Ok(())
    }

    /// Takes over what another program exported. How many blocks were kept.
    pub(crate) fn import(&self, data: &[u8]) -> Result<usize, SegmentError> {
        lock(&self.compiler).import(data)
    }

    /// The version in force, and those that requests still hold. Waits for no compilation.
    pub(crate) fn versions(&self) -> Versions {
        let mut history = lock(&self.history);
        history.forget();
        let older = history.older.iter().map(|(version, _)| *version).collect();
        Versions { current: self.engine.compiled().version, older }
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
    fn python_layers(&self) -> PyResult<Vec<Option<String>>> {
        Ok(self.compiled()?.python_layers().map(|name| name.map(str::to_owned)).collect())
    }

    fn upstreams(&self) -> PyResult<Vec<Endpoints>> {
        let compiled = self.compiled()?;
        let found = self.upstreams.iter().filter_map(|name| compiled.upstream(name));
        let address = |(id, endpoint): (u32, &Endpoint)| (id, endpoint.address.clone());
        Ok(found.map(|u| (u.name.clone(), u.endpoints().map(address).collect())).collect())
    }
}
