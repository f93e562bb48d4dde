//! One cause counts once, however many calls of one breaker it ends.

use std::sync::atomic::{AtomicU64, Ordering};

use meshcore_core::admission::Outcome;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::classifier::Classifier;
use super::counts::Counts;

/// Which exceptions a breaker has counted while others of its calls were under way: those that
/// surround the one that failed, or wait for the same.
///
/// What is raised is told by a mark in its `__dict__`: it may not be kept here, with all that its
/// traceback holds, and its address is another's as soon as it is gone. The mark says how many calls
/// had begun by then, so an exception that is raised again in a call that began later is a cause of
/// its own. Who calls one function at a time makes no marks, and looks for none.
#[derive(Debug)]
pub(super) struct Causes {
    /// Of the breaker; random, for what was pickled elsewhere.
    number: u64,
    /// How many calls had begun at the last mark.
    last: AtomicU64,
}

/// Longest chain of exceptions raised `from` one another that is looked through.
const DEPTH: usize = 16;

impl Causes {
    pub(super) const fn new(number: u64) -> Self {
        Self { number, last: AtomicU64::new(0) }
    }

    /// What the end of a call says that was the `began`th to begin. A failure that was counted
    /// already, for a call inside of this one, says nothing more.
    pub(super) fn classify(
        &self,
        error: &Bound<'_, PyAny>,
        began: u64,
        classifier: &Classifier,
        counts: &Counts,
    ) -> PyResult<Outcome> {
        let said = if self.matter(began) {
            classifier.of_new(error, |each| self.has(each, began))?
        } else {
            classifier.of(error)?
        };
        if said == Outcome::Failure && counts.under_way() > 1 {
            self.put(error, counts.began());
        }
        Ok(said)
    }

    /// Whether any mark matters to that call.
    #[inline]
    fn matter(&self, began: u64) -> bool {
        began <= self.last.load(Ordering::Relaxed)
    }

    /// Whether it, or what it was raised from, was counted while that call was under way.
    #[cold]
    fn has(&self, raised: &Bound<'_, PyAny>, began: u64) -> bool {
        let mut each = raised.clone();
        for _ in 0..DEPTH {
            if self.mark_of(&each).is_some_and(|mark| began <= mark) {
                return true;
            }
            match each.getattr(intern!(each.py(), "__cause__")) {
                Ok(cause) if !cause.is_none() => each = cause,
                _ => return false,
            }
        }
        false
    }

    /// It was counted when so many calls had begun. Nothing if it takes no mark.
    #[cold]
    fn put(&self, raised: &Bound<'_, PyAny>, began: u64) {
        let put = || -> PyResult<()> {
            let (py, name) = (raised.py(), intern!(raised.py(), MARK));
            let marks = match marks(raised) {
                Some(marks) => marks,
                None => {
                    let marks = PyDict::new(py);
                    // Not its own way, which may refuse: that of a frozen dataclass does.
                    let object = py.get_type::<PyAny>();
                    object.call_method1(intern!(py, "__setattr__"), (raised, name, &marks))?;
                    marks
                }
            };
            marks.set_item(self.number, began)
        };
        if put().is_ok() {
            self.last.store(began, Ordering::Relaxed);
        }
    }

    fn mark_of(&self, raised: &Bound<'_, PyAny>) -> Option<u64> {
        marks(raised)?.get_item(self.number).ok()??.extract().ok()
    }
}

const MARK: &str = "__meshcore_counted__";

fn marks<'py>(raised: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    raised.getattr(intern!(raised.py(), MARK)).ok()?.cast_into().ok()
}
