//! The router alone.

use std::sync::Arc;

use meshcore_core::codec::{CodecError, host_of};
use meshcore_core::head::Headers;
use meshcore_core::routing::{Change, RouteError, RouteMap, Stored};
use meshcore_core::snapshot::Route;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::message::octets;

type Value = Py<PyAny>;

/// A route table that any thread may read and change.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct RoutesCore(RouteMap<Value>);

#[pymethods]
impl RoutesCore {
    #[new]
    fn new() -> Self {
        Self(RouteMap::default())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.snapshot().iter().try_for_each(|found| visit.call(&found.payload.value))
    }

    fn __clear__(&self) {
        self.0.clear();
    }

    /// Each change is host, `insert`, `replace` or `remove`, the route as JSON or its name, value.
    fn apply(
        &self,
        py: Python<'_>,
        changes: Vec<(String, String, String, Option<Value>)>,
    ) -> PyResult<()> {
        py.detach(|| {
            let changes = changes
                .into_iter()
                .map(|(host, kind, route, value)| Ok((host, vec![change(&kind, route, value)?])))
                .collect::<Result<Vec<_>, String>>()
                .map_err(PyValueError::new_err)?;
            self.0
                .apply(&by_host(changes))
                .map_err(|errors| PyValueError::new_err(text_of(&errors)))
        })
    }

    #[pyo3(signature = (host, target, method="GET", headers=None))]
    fn lookup(
        &self,
        py: Python<'_>,
        host: &str,
        target: &str,
        method: &str,
        headers: Option<Vec<(Bound<'_, PyString>, Bound<'_, PyString>)>>,
    ) -> PyResult<Option<FoundRoute>> {
        let mut fields = Headers::default();
        for (name, value) in headers.iter().flatten() {
            fields.push(&octets(name)?, &octets(value)?);
        }
        let no = |e: CodecError| PyValueError::new_err(format!("host {host:?}: {}", e.message));
        let host = host_of(host).map_err(no)?;
        let found = self.0.lookup(&host, target, method, &fields);
        let found = found.map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(found.map(|stored| FoundRoute {
            route: Arc::clone(&stored.route),
            value: stored.value.clone_ref(py),
        }))
    }

    fn routes(&self, py: Python<'_>) -> Vec<(String, String, Value)> {
        let table = self.0.snapshot();
        table
            .iter()
            .map(|found| {
                let stored = found.payload;
                (found.host.to_owned(), stored.route.name.clone(), stored.value.clone_ref(py))
            })
            .collect()
    }

    fn __len__(&self) -> usize {
        self.0.snapshot().iter().count()
    }
}

fn change(kind: &str, route: String, value: Option<Value>) -> Result<Change<Value>, String> {
    let Some(value) = value.filter(|_| kind != "remove") else {
        return Ok(Change::Remove(route));
    };
    let route: Route = serde_json::from_str(&route).map_err(|e| e.to_string())?;
    let stored = Arc::new(Stored { route: route.into(), value });
    Ok(if kind == "insert" { Change::Insert(stored) } else { Change::Replace(stored) })
}

/// The changes of each host together, in their order: a host is compiled once.
fn by_host(changes: Vec<(String, Vec<Change<Value>>)>) -> Vec<(String, Vec<Change<Value>>)> {
    let mut hosts: Vec<(String, Vec<Change<Value>>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (host, mut list) in changes {
        let key = host.to_ascii_lowercase();
        let place = *places.entry(key).or_insert_with(|| {
            hosts.push((host, Vec::new()));
            hosts.len() - 1
        });
        hosts[place].1.append(&mut list);
    }
    hosts
}

fn text_of(errors: &[RouteError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The route that owns a request. It has a reference of its own to the value: each is seen by one
/// owner when Python looks for circles.
#[pyclass(frozen, module = "meshcore._core")]
pub struct FoundRoute {
    route: Arc<Route>,
    value: Value,
}

#[pymethods]
impl FoundRoute {
    #[getter]
    fn name(&self) -> &str {
        &self.route.name
    }

    #[getter]
    fn value(&self, py: Python<'_>) -> Value {
        self.value.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)
    }

    fn __repr__(&self) -> String {
        format!("FoundRoute({:?})", self.route.name)
    }
}
