"""What is read of files that a configuration names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from meshcore.config.file import NO_FILE, digest_of, read_pem_if_there
from meshcore.process.file_source import FileSource


def test_a_file_is_known_again_by_all_of_it(tmp_path: Path) -> None:
    """Also behind what may be used of it."""
    file = tmp_path / "a.pem"
    for content in (b"", b"x", bytes(20 << 20), bytes(20 << 20) + b"x"):
        file.write_bytes(content)
        assert digest_of(file) == hashlib.sha256(content).digest()
    assert digest_of(tmp_path / "none") == digest_of(tmp_path) == NO_FILE


def test_what_is_not_there_yet_is_nothing_and_all_else_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.der"
    assert read_pem_if_there(str(file)) is None
    file.write_bytes(b"x")
    assert read_pem_if_there(str(file)) == b"x"
    with pytest.raises(NotADirectoryError):
        read_pem_if_there(str(file / "b.der"))
    with pytest.raises(IsADirectoryError):
        read_pem_if_there(str(tmp_path))


def test_a_file_that_could_not_be_read_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of descriptors, say: it looks as before then."""
    main, named = tmp_path / "mesh.yaml", tmp_path / "a.pem"
    main.write_text('version: 1\nlisteners: {edge: {bind: "127.0.0.1:0"}}\n')
    named.write_bytes(b"x")
    source = FileSource(main)
    digest = hashlib.sha256(source.read(1).document).digest()
    files = {str(named): digest_of(named)}
    with monkeypatch.context() as patch:
        patch.setattr("meshcore.process.file_source.digest_of", lambda _: NO_FILE)
        assert not source.says(digest, files)
    assert source.says(digest, files)
