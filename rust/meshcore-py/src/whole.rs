//! Whole numbers as programs give them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// The number that a program gives by this name, up to `most`. `ValueError` for any other, and for
/// what is no whole number.
pub(crate) fn whole(name: &str, given: &Bound<'_, PyAny>, most: u64) -> PyResult<u64> {
    let is_bool = given.is_instance_of::<PyBool>();
    let number = if is_bool { None } else { given.extract::<u64>().ok() };
    number.filter(|&number| number <= most).ok_or_else(|| not_whole(name, given, most))
}

#[cold]
pub(crate) fn not_whole(name: &str, given: &Bound<'_, PyAny>, most: u64) -> PyErr {
    // In the words of the configuration's diagnostics, and as short.
    let shown = given
        .py()
        .import("meshcore.config.hints")
        .and_then(|hints| hints.call_method1("shown", (given,))?.extract::<String>());
    match shown {
        Err(error) => error,
        Ok(shown) => {
            let text = format!("{name}: must be a whole number within 0 and {most}, got {shown}");
            PyValueError::new_err(text)
        }
    }
}
