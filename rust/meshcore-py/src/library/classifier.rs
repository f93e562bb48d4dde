//! What the end of a call says of the service that was called.

use meshcore_core::admission::Outcome;
use pyo3::exceptions::{PyBaseExceptionGroup, PyException};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyTuple, PyType};

use crate::errors;

/// Which exceptions are failures. Any other `Exception` is an answer, what is not one says nothing;
/// nor does a refusal of our own, for the call was not made. A group says what is in it. A program
/// that names our refusals or groups themselves means them.
#[derive(Debug)]
pub(super) struct Classifier {
    failure_on: Py<PyTuple>,
    /// `Refused` of this object's interpreter.
    refused: Py<PyType>,
    names_refusals: bool,
    names_groups: bool,
    /// A function that tells failures (`true`) and answers (`false`) from the rest (`None`).
    own: Option<Py<PyAny>>,
    /// A function that tells results that are failures.
    of_results: Option<Py<PyAny>>,
}

/// What is yet to be awaited would count as true, whatever it says: Python refuses it.
#[inline]
fn yes_or_no(said: &Bound<'_, PyAny>) -> PyResult<bool> {
    if said.is_instance_of::<PyBool>() {
        return said.is_truthy();
    }
    let classifying = said.py().import("meshcore.library.classifying")?;
    classifying.call_method1("yes_or_no", ("failure_on_result", said))?.is_truthy()
}

impl Classifier {
    pub(super) fn new(
        failure_on: &Bound<'_, PyTuple>,
        own: Option<Py<PyAny>>,
        of_results: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let py = failure_on.py();
        let (refused, group) =
            (errors::class(py, "Refused")?, py.get_type::<PyBaseExceptionGroup>());
        let (mut names_refusals, mut names_groups) = (false, false);
        for class in failure_on {
            let class = class.cast::<PyType>()?;
            names_refusals |= class.is_subclass(refused.bind(py))?;
            names_groups |= class.is_subclass(&group)?;
        }
        let failure_on = failure_on.clone().unbind();
        Ok(Self { failure_on, refused, names_refusals, names_groups, own, of_results })
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.failure_on)?;
        visit.call(&self.refused)?;
        visit.call(&self.own)?;
        visit.call(&self.of_results)
    }

    pub(super) const fn classifies_results(&self) -> bool {
        self.of_results.is_some()
    }

    /// What a result says; `None` if results are not classified.
    #[inline]
    pub(super) fn of_result(&self, result: &Bound<'_, PyAny>) -> Option<PyResult<Outcome>> {
        let fails = self.of_results.as_ref()?.bind(result.py());
        let failed = fails.call1((result,)).and_then(|said| yes_or_no(&said));
        Some(failed.map(|failed| if failed { Outcome::Failure } else { Outcome::Success }))
    }

    /// `raised`: an exception, or its class if there is no more.
    pub(super) fn of(&self, raised: &Bound<'_, PyAny>) -> PyResult<Outcome> {
        self.of_new(raised, |_| false)
    }

    /// The same; what `was_counted` says nothing.
    pub(super) fn of_new(
        &self,
        raised: &Bound<'_, PyAny>,
        was_counted: impl Fn(&Bound<'_, PyAny>) -> bool,
    ) -> PyResult<Outcome> {
        let mut said = Outcome::Neutral;
        // Not by recursion: groups are as deep as their makers like.
        let mut waiting = vec![raised.clone()];
        while let Some(each) = waiting.pop() {
            if was_counted(&each) {
                continue;
            }
            match self.of_one(&each, &mut waiting)? {
                Outcome::Failure => return Ok(Outcome::Failure),
                Outcome::Success => said = Outcome::Success,
                Outcome::Neutral => {}
            }
        }
        Ok(said)
    }

    fn of_one<'py>(
        &self,
        raised: &Bound<'py, PyAny>,
        waiting: &mut Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Outcome> {
        let py = raised.py();
        let class = match raised.cast::<PyType>() {
            Ok(class) => class.clone(),
            Err(_) => raised.get_type(),
        };
        let named = class.is_subclass(self.failure_on.bind(py))?;
        let is_group = class.is_subclass_of::<PyBaseExceptionGroup>()?;
        if is_group && !(named && self.names_groups) {
            // The class alone has nothing in it.
            if let Ok(inside) = raised.getattr("exceptions")?.cast_into::<PyTuple>() {
                waiting.extend(inside.iter());
            }
            return Ok(Outcome::Neutral);
        }
        if class.is_subclass(self.refused.bind(py))? && !(named && self.names_refusals) {
            return Ok(Outcome::Neutral);
        }
        if let Some(own) = self.own.as_ref().filter(|_| !raised.is_instance_of::<PyType>()) {
            return Ok(match own.call1(py, (raised,))?.extract::<Option<bool>>(py)? {
                Some(true) => Outcome::Failure,
                Some(false) => Outcome::Success,
                None => Outcome::Neutral,
            });
        }
        Ok(match named {
            true => Outcome::Failure,
            false if class.is_subclass_of::<PyException>()? => Outcome::Success,
            false => Outcome::Neutral,
        })
    }
}
