//! A bucket, and a table of buckets by client.

use std::net::IpAddr;

use meshcore_core::admission::{
    self, Admitted, ClientLimiter, MAX_BURST, TokenBucket, bytes_key, client_key,
};
use meshcore_core::segment::Block;
use pyo3::exceptions::{PyUnicodeEncodeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString};

use super::clock::Clock;
use super::{Words, quota};
use crate::whole::not_whole;

/// One token bucket.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BucketCore {
    bucket: TokenBucket,
    clock: Clock,
}

#[pymethods]
impl BucketCore {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.visit(&visit)
    }

    #[new]
    #[pyo3(signature = (tokens, period_ns, burst, clock=None, words=None))]
    fn new(
        tokens: u64,
        period_ns: u64,
        burst: u64,
        clock: Option<Py<PyAny>>,
        words: Option<&Words>,
    ) -> PyResult<Self> {
        let block = words.map_or_else(|| Block::private(1), |words| words.block.clone());
        let bucket = TokenBucket::new(block, quota(tokens, period_ns, burst)?);
        Ok(Self { bucket, clock: Clock::new(clock) })
    }

    #[pyo3(signature = (n=1))]
    fn try_acquire(&self, py: Python<'_>, #[pyo3(from_py_with = count)] n: u64) -> PyResult<bool> {
        Ok(self.bucket.try_acquire(self.clock.now(py)?, n).is_ok())
    }

    #[pyo3(name = "_take", signature = (n=1))]
    fn take(&self, py: Python<'_>, #[pyo3(from_py_with = count)] n: u64) -> PyResult<u64> {
        let taken = self.bucket.try_acquire(self.clock.now(py)?, n);
        Ok(taken.map_or_else(|refused| refused.retry_after.0.max(1), |_| 0))
    }

    #[pyo3(signature = (n=1))]
    fn give_back(&self, #[pyo3(from_py_with = count)] n: u64) {
        self.bucket.give_back(n);
    }

    #[getter]
    fn remaining(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.bucket.peek(self.clock.now(py)?).remaining)
    }

    #[getter]
    fn limit(&self) -> u64 {
        self.bucket.quota().limit()
    }

    #[pyo3(name = "_look")]
    fn look(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        Ok(seen(self.bucket.peek(self.clock.now(py)?)))
    }

    #[pyo3(name = "_refill")]
    fn refill(&self, py: Python<'_>) -> PyResult<()> {
        self.bucket.refill(self.clock.now(py)?);
        Ok(())
    }
}

/// Tokens that a program asks for. More than can be counted are more than any bucket holds.
#[inline]
fn count(given: &Bound<'_, PyAny>) -> PyResult<u64> {
    match given.extract() {
        Ok(n) if !given.is_exact_instance_of::<PyBool>() => Ok(n),
        _ => count_beyond(given),
    }
}

#[cold]
fn count_beyond(given: &Bound<'_, PyAny>) -> PyResult<u64> {
    let is_number = given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>();
    if is_number && given.gt(0)? {
        return Ok(u64::MAX);
    }
    Err(not_whole("n", given, MAX_BURST))
}

/// Who a client is.
#[inline]
fn text<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    given.cast::<PyString>().map_or_else(|_| no_client(given), |text| Ok(text.clone()))
}

#[cold]
fn no_client<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let limited = given.py().import("meshcore.library.limited")?;
    Err(PyErr::from_value(limited.call_method1("no_client", (given,))?))
}

/// What is there, and the nanoseconds until all is.
const fn seen(found: Admitted) -> (u64, u64) {
    (found.remaining, found.reset_after.0)
}

/// What was taken of a client's bucket.
#[pyclass(frozen, module = "meshcore._core")]
pub(crate) struct Charge(admission::Charge);

/// A bucket for each client, in a table that never grows.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct ClientsCore {
    limiter: ClientLimiter,
    seed: [u64; 2],
    clock: Clock,
}

#[pymethods]
impl ClientsCore {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.visit(&visit)
    }

    #[new]
    #[pyo3(signature = (quota, clients, seed, clock=None, words=None))]
    fn new(
        quota: (u64, u64, u64),
        clients: u64,
        seed: u128,
        clock: Option<Py<PyAny>>,
        words: Option<&Words>,
    ) -> PyResult<Self> {
        let quota = super::quota(quota.0, quota.1, quota.2)?;
        Self::check_clients(clients)?;
        let (block, seed) = match words {
            Some(words) => (words.block.clone(), words.seed),
            None => {
                let seed = [seed as u64, (seed >> 64) as u64];
                (Block::private(ClientLimiter::words(clients)), seed)
            }
        };
        let limiter = ClientLimiter::new(block, quota, seed);
        Ok(Self { limiter, seed, clock: Clock::new(clock) })
    }

    #[pyo3(signature = (client, n=1))]
    fn try_acquire(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
        #[pyo3(from_py_with = count)] n: u64,
    ) -> PyResult<bool> {
        let now = self.clock.now(py)?;
        Ok(self.limiter.try_acquire(self.key_of(&client)?, now, n).is_ok())
    }

    /// For whoever asks for the same client always: by its `key`.
    #[pyo3(name = "_try_acquire_of")]
    fn try_acquire_of(
        &self,
        py: Python<'_>,
        key: u64,
        #[pyo3(from_py_with = count)] n: u64,
    ) -> PyResult<bool> {
        Ok(self.limiter.try_acquire(key, self.clock.now(py)?, n).is_ok())
    }

    #[pyo3(name = "_take", signature = (client, n=1))]
    fn take(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
        #[pyo3(from_py_with = count)] n: u64,
    ) -> PyResult<u64> {
        let taken = self.limiter.try_acquire(self.key_of(&client)?, self.clock.now(py)?, n);
        Ok(taken.map_or_else(|refused| refused.retry_after.0.max(1), |_| 0))
    }

    #[staticmethod]
    #[pyo3(name = "_check_clients")]
    fn check_clients(clients: u64) -> PyResult<()> {
        if (1..=ClientLimiter::MAX_CLIENTS).contains(&clients) {
            return Ok(());
        }
        let text = format!("a table for {clients} clients: from 1 to 16777216");
        Err(PyValueError::new_err(text))
    }

    /// As `take`, with what can be given back: the bucket may be another client's by then.
    #[pyo3(name = "_charge")]
    fn charge(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
        #[pyo3(from_py_with = count)] n: u64,
    ) -> PyResult<(u64, Option<Charge>)> {
        let taken = self.limiter.try_acquire(self.key_of(&client)?, self.clock.now(py)?, n);
        Ok(match taken {
            Ok((_, charge)) => (0, Some(Charge(charge))),
            Err(refused) => (refused.retry_after.0.max(1), None),
        })
    }

    #[pyo3(name = "_return_charge")]
    fn return_charge(&self, charge: &Charge) {
        self.limiter.give_back(charge.0);
    }

    fn remaining(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
    ) -> PyResult<u64> {
        Ok(self.limiter.peek(self.key_of(&client)?, self.clock.now(py)?).remaining)
    }

    #[getter]
    fn limit(&self) -> u64 {
        self.limiter.quota().limit()
    }

    #[pyo3(name = "_look")]
    fn look(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
    ) -> PyResult<(u64, u64)> {
        Ok(seen(self.limiter.peek(self.key_of(&client)?, self.clock.now(py)?)))
    }

    #[pyo3(name = "_refill")]
    fn refill(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
    ) -> PyResult<()> {
        self.limiter.refill(self.key_of(&client)?, self.clock.now(py)?);
        Ok(())
    }

    /// What makes two texts the same client.
    #[pyo3(name = "_key")]
    fn key(&self, #[pyo3(from_py_with = text)] client: Bound<'_, PyString>) -> PyResult<u64> {
        self.key_of(&client)
    }
}

impl ClientsCore {
    /// An address is a client as the proxy sees one (IPv6 by /64); any other text is a key.
    #[inline]
    fn key_of(&self, client: &Bound<'_, PyString>) -> PyResult<u64> {
        let text = match client.to_str() {
            Ok(text) => text,
            Err(error) => return self.key_of_octets(client, error),
        };
        Ok(match text.parse::<IpAddr>() {
            Ok(address) => client_key(self.seed, address),
            Err(_) => bytes_key(self.seed, text.as_bytes()),
        })
    }

    /// A text with lone surrogates, as `os.fsdecode` makes of octets that are no UTF-8. Written as
    /// surrogates are, so that it is no other text's key.
    #[cold]
    fn key_of_octets(&self, client: &Bound<'_, PyString>, error: PyErr) -> PyResult<u64> {
        if !error.is_instance_of::<PyUnicodeEncodeError>(client.py()) {
            return Err(error);
        }
        let octets = client.call_method1("encode", ("utf-8", "surrogatepass"))?;
        Ok(bytes_key(self.seed, octets.cast::<PyBytes>()?.as_bytes()))
    }
}
