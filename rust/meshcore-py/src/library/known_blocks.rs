//! Blocks of a breaker that Python knows one by one, and the calls of probes.

use meshcore_core::admission::{BreakerPermit, Outcome};
use meshcore_core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::blocks::not_entered;
use super::breaker::BreakerCore;
use super::permit::{Held, Permit};
use super::surely::surely;

impl BreakerCore {
    /// Has Python know the block of a probe: what it calls through this breaker belongs to it.
    pub(super) fn begin_block(
        slf: &Bound<'_, Self>,
        permit: &Py<Permit>,
    ) -> PyResult<Option<Py<PyAny>>> {
        if !permit.get().is_probe() {
            return Ok(None);
        }
        match slf.call_method1("_begin", (permit,)) {
            Ok(block) => Ok(Some(block.unbind())),
            Err(broken_off) => {
                Self::forget(slf, permit)?;
                Err(broken_off)
            }
        }
    }

    /// A block was broken off as it began.
    #[cold]
    pub(super) fn forget(slf: &Bound<'_, Self>, permit: &Py<Permit>) -> PyResult<()> {
        // A clock that was given may be broken off, too.
        let settled = permit.get().settle(slf.py(), Outcome::Neutral);
        surely(|| slf.call_method1("_forget", (permit,)))?;
        settled
    }

    /// A block whose `ExitStack` is gone, and never left it.
    #[cold]
    pub(super) fn lose(slf: &Bound<'_, Self>, block: &Bound<'_, PyAny>) -> PyResult<()> {
        let claim = PyList::empty(slf.py());
        let ended = surely(|| slf.call_method1("_let_go", (&claim, block)));
        if !claim.is_empty() {
            slf.get().blocks.known(false);
        }
        ended.map(drop)
    }

    /// What the function calls through this breaker belongs to the probe.
    #[cold]
    pub(super) fn run_probe<'py>(
        slf: &Bound<'py, Self>,
        permit: BreakerPermit,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // A second one, which is only ever looked at.
        let shown = Held::new(permit.inner(), Nanos::ZERO, 0);
        let shown = Py::new(slf.py(), Permit::new(slf, shown))?;
        let begun = slf.call_method1("_begin", (&shown,));
        let result = begun.and_then(|_| function.call(args, kwargs));
        shown.get().void();
        surely(|| slf.call_method1("_forget", (&shown,)))?;
        result
    }

    /// The first block after a fork that begins or ends.
    #[cold]
    pub(super) fn inherit_blocks(slf: &Bound<'_, Self>) -> PyResult<()> {
        let known = surely(|| slf.call_method0("_inherit")?.extract())?;
        slf.get().blocks.inherit(known);
        Ok(())
    }

    /// Leaves a block while some are known one by one.
    #[cold]
    pub(super) fn exit_known(
        slf: &Bound<'_, Self>,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let this = slf.get();
        let counted = this.blocks.counted().map(BreakerPermit::bits);
        // Whose it is from now on, also when it is asked for again.
        let claim = PyList::empty(slf.py());
        let found = surely(|| slf.call_method1("_find", (&claim, counted)));
        let exact = match found {
            Ok(found) => match found.extract::<bool>() {
                Ok(exact) => exact,
                Err(_) => {
                    let ended = surely(|| slf.call_method1("_end", (&found, raised)));
                    this.blocks.known(false);
                    return ended.map(drop);
                }
            },
            Err(broken_off) => return Self::exit_broken_off(slf, &claim, broken_off),
        };
        let held = this.blocks.leave().ok_or_else(not_entered)?;
        if exact {
            Self::end(slf, held, raised)
        } else {
            Self::settle(slf, held, Outcome::Neutral, raised)
        }
    }

    /// Its leaving was stopped on the way by a handler of a signal: its block says nothing.
    #[cold]
    fn exit_broken_off(
        slf: &Bound<'_, Self>,
        claim: &Bound<'_, PyList>,
        broken_off: PyErr,
    ) -> PyResult<()> {
        let this = slf.get();
        if let Ok(block) = claim.get_item(0) {
            let ended = surely(|| slf.call_method1("_end", (&block, &broken_off)));
            this.blocks.known(false);
            ended?;
        } else if let Some(held) = this.blocks.leave() {
            Self::settle(slf, held, Outcome::Neutral, None)?;
        }
        Err(broken_off)
    }
}
