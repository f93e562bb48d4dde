//! A bucket, and a table of buckets by client.

use std::net::IpAddr;

use meshcore_core::admission::{
    self, Admitted, ClientLimiter, MAX_BURST, Refused, TokenBucket, bytes_key, client_key,
};
use meshcore_core::segment::Block;
use meshcore_core::time::Nanos;
use pyo3::exceptions::{PyUnicodeEncodeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString};

use super::clock::Clock;
use super::tally::Tally;
use super::{Words, quota};
use crate::whole::not_whole;

/// One token bucket.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BucketCore {
    bucket: TokenBucket,
    clock: Clock,
    tally: Tally,
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
        let tally = Tally::new(words.map(|words| words.totals.clone()));
        Ok(Self { bucket, clock: Clock::new(clock), tally })
    }

    #[pyo3(signature = (n=1))]
    fn try_acquire(&self, py: Python<'_>, #[pyo3(from_py_with = count)] n: u64) -> PyResult<bool> {
        let now = self.clock.now(py)?;
        let admitted = self.bucket.try_acquire(now, n).is_ok();
        self.tally.count(admitted, now);
        Ok(admitted)
    }

    /// Take ``n`` tokens, or raise `RateLimited`, which says when to come back. O(1).
    ///
    /// Raises `ValueError` for more than the bucket ever holds. Waiters are passed.
    #[pyo3(signature = (n=Tokens::ONE), text_signature = "($self, n=1)")]
    fn acquire(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = tokens)] n: Tokens<'_>,
    ) -> PyResult<()> {
        let this = slf.get();
        let now = this.clock.now(slf.py())?;
        let taken = this.bucket.try_acquire(now, n.n);
        settled(slf.as_any(), &this.tally, (now, n), taken)
    }

    /// Takes, and counts nothing: a waiter may ask many times, and is counted once.
    #[pyo3(name = "_charge")]
    fn charge(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = count)] n: u64,
    ) -> PyResult<(u64, Option<Charge>)> {
        let taken = self.bucket.try_acquire(self.clock.now(py)?, n);
        Ok((taken.map_or_else(|refused| wait_ns(&refused), |_| 0), None))
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

    #[pyo3(name = "_totals")]
    fn totals(&self) -> (u64, u64) {
        self.tally.totals()
    }

    #[pyo3(name = "_count")]
    fn count(&self, admitted: bool) {
        self.tally.count_published(admitted);
    }

    #[pyo3(name = "_publish")]
    fn publish(&self) {
        self.tally.publish();
    }

    #[pyo3(name = "_forget")]
    fn forget(&self) {
        self.tally.forget();
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

/// Tokens that a refusal names, also where they cannot be counted.
struct Tokens<'py> {
    n: u64,
    beyond: Option<Bound<'py, PyAny>>,
}

impl Tokens<'_> {
    const ONE: Self = Self { n: 1, beyond: None };
}

#[inline]
fn tokens<'py>(given: &Bound<'py, PyAny>) -> PyResult<Tokens<'py>> {
    let n = count(given)?;
    Ok(Tokens { n, beyond: (n == u64::MAX).then(|| given.clone()) })
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

/// How long to wait for what was refused; never nothing.
fn wait_ns(refused: &Refused) -> u64 {
    refused.retry_after.0.max(1)
}

/// A call for this many tokens was made at `now`.
#[inline]
fn settled<T>(
    limiter: &Bound<'_, PyAny>,
    tally: &Tally,
    (now, n): (Nanos, Tokens<'_>),
    taken: Result<T, Refused>,
) -> PyResult<()> {
    match taken {
        Ok(_) => {
            tally.count(true, now);
            Ok(())
        }
        Err(refused) => Err(refusal(limiter, tally, (now, n), &refused)),
    }
}

/// What is raised. Not counted where waiting is no use: that is the caller's mistake.
#[cold]
fn refusal(
    limiter: &Bound<'_, PyAny>,
    tally: &Tally,
    (now, n): (Nanos, Tokens<'_>),
    refused: &Refused,
) -> PyErr {
    if refused.retry_after != Nanos::MAX {
        tally.count(false, now);
    }
    let wait_ns = wait_ns(refused);
    let refusal = match n.beyond {
        None => limiter.call_method1("_refusal", (wait_ns, n.n)),
        Some(n) => limiter.call_method1("_refusal", (wait_ns, n)),
    };
    refusal.map_or_else(|error| error, PyErr::from_value)
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
    tally: Tally,
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
        let limiter = ClientLimiter::new(block, quota);
        let tally = Tally::new(words.map(|words| words.totals.clone()));
        Ok(Self { limiter, seed, clock: Clock::new(clock), tally })
    }

    #[pyo3(signature = (client, n=1))]
    fn try_acquire(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
        #[pyo3(from_py_with = count)] n: u64,
    ) -> PyResult<bool> {
        let now = self.clock.now(py)?;
        let admitted = self.limiter.try_acquire(self.key_of(&client)?, now, n).is_ok();
        self.tally.count(admitted, now);
        Ok(admitted)
    }

    /// For callers that always ask for the same client: by its `key`.
    #[pyo3(name = "_acquire_of")]
    fn acquire_of(
        slf: &Bound<'_, Self>,
        key: u64,
        #[pyo3(from_py_with = tokens)] n: Tokens<'_>,
    ) -> PyResult<()> {
        let this = slf.get();
        let now = this.clock.now(slf.py())?;
        let taken = this.limiter.try_acquire(key, now, n.n);
        settled(slf.as_any(), &this.tally, (now, n), taken)
    }

    /// Take ``n`` tokens of a client's, or raise as `TokenBucket.acquire`. O(1).
    #[pyo3(signature = (client, n=Tokens::ONE), text_signature = "($self, client, n=1)")]
    fn acquire(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = text)] client: Bound<'_, PyString>,
        #[pyo3(from_py_with = tokens)] n: Tokens<'_>,
    ) -> PyResult<()> {
        Self::acquire_of(slf, slf.get().key_of(&client)?, n)
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

    /// As of a bucket, with what can be given back: the bucket may be another client's by then.
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
            Err(refused) => (wait_ns(&refused), None),
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

    #[pyo3(name = "_totals")]
    fn totals(&self) -> (u64, u64) {
        self.tally.totals()
    }

    #[pyo3(name = "_busy")]
    fn busy(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.limiter.busy(self.clock.now(py)?))
    }

    #[pyo3(name = "_count")]
    fn count(&self, admitted: bool) {
        self.tally.count_published(admitted);
    }

    #[pyo3(name = "_publish")]
    fn publish(&self) {
        self.tally.publish();
    }

    #[pyo3(name = "_forget")]
    fn forget(&self) {
        self.tally.forget();
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
