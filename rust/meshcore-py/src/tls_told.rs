//! What certificates and revocation lists say of themselves, for people.

use meshcore_core::tls::{self, Facts, ListFacts, Listing, Unlisted};
use pyo3::prelude::*;

use crate::errors::config_error;

/// What a certificate says of itself.
#[pyclass(frozen, get_all, module = "meshcore._core")]
pub(crate) struct TlsFacts {
    names: Vec<String>,
    not_before_s: u64,
    not_after_s: u64,
    key_kind: &'static str,
    weakness: Option<String>,
    is_for_servers: bool,
    is_authority: bool,
    wants_staple: bool,
    is_own_issuer: bool,
    next_is_issuer: bool,
}

impl From<Facts> for TlsFacts {
    fn from(of: Facts) -> Self {
        Self {
            names: of.names,
            not_before_s: of.not_before_s,
            not_after_s: of.not_after_s,
            key_kind: of.key_kind,
            weakness: of.weakness,
            is_for_servers: of.is_for_servers,
            is_authority: of.is_authority,
            wants_staple: of.wants_staple,
            is_own_issuer: of.is_own_issuer,
            next_is_issuer: of.next_is_issuer,
        }
    }
}

/// Of each certificate in a PEM text.
#[pyfunction]
pub(crate) fn tls_facts(pem: &[u8]) -> PyResult<Vec<TlsFacts>> {
    Ok(Facts::read(pem).map_err(config_error)?.into_iter().map(TlsFacts::from).collect())
}

/// What a list of revoked certificates says of itself.
#[pyclass(frozen, module = "meshcore._core")]
pub(crate) struct TlsList(ListFacts);

#[pymethods]
impl TlsList {
    #[getter]
    fn issuer(&self) -> &str {
        &self.0.issuer
    }

    #[getter]
    fn this_update_s(&self) -> u64 {
        self.0.this_update_s
    }

    #[getter]
    fn next_update_s(&self) -> Option<u64> {
        self.0.next_update_s
    }

    #[getter]
    fn is_of_authorities(&self) -> bool {
        self.0.is_of_authorities
    }

    fn is_of(&self, ca_pem: &[u8]) -> bool {
        self.0.is_of(ca_pem)
    }
}

/// Of each list in a PEM text.
#[pyfunction]
pub(crate) fn tls_lists(py: Python<'_>, crl_pem: &[u8], ca_pem: &[u8]) -> PyResult<Vec<TlsList>> {
    let read = py.detach(|| ListFacts::read(crl_pem, ca_pem)).map_err(config_error)?;
    Ok(read.into_iter().map(TlsList).collect())
}

/// An authority that has no list in force.
#[pyclass(frozen, module = "meshcore._core")]
pub(crate) struct TlsUnlisted(Unlisted);

#[pymethods]
impl TlsUnlisted {
    #[getter]
    fn place(&self) -> usize {
        self.0.place
    }

    #[getter]
    fn whose(&self) -> &str {
        &self.0.whose
    }

    #[getter]
    fn is_shut_out(&self) -> bool {
        self.0.is_shut_out
    }

    #[getter]
    fn is_forged(&self) -> bool {
        self.0.is_forged
    }

    #[getter]
    fn since_s(&self) -> u64 {
        self.0.since_s
    }

    #[getter]
    fn until_s(&self) -> u64 {
        self.0.until_s
    }

    #[getter]
    fn list_ends_s(&self) -> Option<u64> {
        self.0.list_ends_s
    }
}

/// Of each list in a PEM text, and authorities that have none in force, now or at another time.
#[pyfunction]
pub(crate) fn tls_listing(
    py: Python<'_>,
    crl_pem: &[u8],
    ca_pem: &[u8],
) -> PyResult<(Vec<TlsList>, Vec<TlsUnlisted>)> {
    let read = py.detach(|| Listing::read(crl_pem, ca_pem)).map_err(config_error)?;
    let lists = read.lists.into_iter().map(TlsList).collect();
    Ok((lists, read.unlisted.into_iter().map(TlsUnlisted).collect()))
}

/// Whether a list, or an OCSP response, counts no more.
#[pyfunction]
pub(crate) fn tls_is_late(next_update_s: Option<u64>, unix_s: u64) -> bool {
    next_update_s.is_some_and(|due_s| tls::is_late(due_s, unix_s))
}
