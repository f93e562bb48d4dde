"""Certificates on disk."""

from pathlib import Path

import pytest
import trustme


@pytest.fixture(scope="session")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_files(tmp_path: Path, _authority: trustme.CA) -> Path:
    """A folder with ca.pem and two pairs: edge.pem, edge.key, other.pem, other.key."""
    _authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("edge", "other"):
        pair = _authority.issue_cert(f"{name}.example.com")
        pair.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for blob in pair.cert_chain_pems:
            blob.write_to_path(tmp_path / f"{name}.pem", append=True)
    return tmp_path
