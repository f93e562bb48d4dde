"""Several files as one configuration: joined in order, each problem with its own file and line."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from meshcore.config import include
from meshcore.config.check import check
from meshcore.config.include import bundle, unbundle
from meshcore.config.load import load_file, load_text, read
from meshcore.config.model import Config
from meshcore.config.warnings import warn
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "version: 1\nlisteners: {edge: {bind: 127.0.0.1:0}}\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "mesh.yaml"


def told(folder: Path, **files: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_file(write(folder, **files))
    return [str(p).replace(f"{folder}/", "") for p in caught.value.problems]


def test_what_is_included_stands_behind_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.yaml").write_text("routes: [{name: c, upstream: u}]\n")
    file = write(
        tmp_path,
        mesh=HEAD + "include: [a.yaml, b.yaml]\nroutes: [{name: own, upstream: u}]\n",
        a="include: deep/c.yaml\nroutes: [{name: a1, upstream: u}, {name: a2, upstream: v}]\n",
        b="upstreams: {u: {endpoints: ['b:1']}, v: {endpoints: ['b:2']}}\n"
        "listeners: {more: {bind: 127.0.0.1:0}}\n",
    )
    loaded = read(file)
    config = loaded.config
    assert [route.name for route in config.routes] == ["own", "a1", "a2", "c"]
    assert (list(config.listeners), list(config.upstreams)) == (["edge", "more"], ["u", "v"])
    assert config.include == []
    assert sorted(loaded.included) == [
        str(tmp_path / "a.yaml"),
        str(tmp_path / "b.yaml"),
        str(tmp_path / "deep" / "c.yaml"),
    ]


def test_each_problem_has_its_own_file_and_line(tmp_path: Path) -> None:
    assert told(
        tmp_path,
        mesh=HEAD + "include: [a.yaml, b.yaml]\nroutes: [{name: r, upstream: w}]\nnone: 1\n",
        a="# a\nroutes:\n- {name: r, upstream: v}\n- {name: s, respond: {body: 1.10}}\n",
        b="upstreams:\n  v:\n    endpoints: [b]\n",
    ) == [
        "mesh.yaml:4:30: routes[0].upstream: there is no upstream named 'w'",
        "mesh.yaml:5:1: none: unknown key (known: access_log, admin, buffer_total, drain, env, "
        "include, listeners, routes, segment_max, ticket_keys, tracing, upstreams, version, via, "
        "watch, watchdog, workers)",
        "a.yaml:3:10: routes[1].name: 'r' is the name of routes[0] too",
        'a.yaml:4:29: routes[2].respond.body: expected a text, got 1.1 (write "1.10")',
        "b.yaml:3:17: upstreams.v.endpoints[0].address: 'b' has no port (write b:80)",
    ]


def test_a_warning_has_its_own_file_and_line(tmp_path: Path) -> None:
    loaded = read(
        write(
            tmp_path,
            mesh=HEAD + "include: a.yaml\nroutes: [{name: r, respond: {}}]\n",
            a="routes:\n- {name: s, respond: {}}\nupstreams:\n  u: {endpoints: ['b:1']}\n",
        )
    )
    places = [(p.file, p.line) for p in loaded.placed(warn(loaded.config))]
    assert places == [(str(tmp_path / "a.yaml"), 2), (str(tmp_path / "a.yaml"), 4)]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"mesh": "none.yaml"}, "mesh.yaml:3:10: include: cannot read none.yaml: No such file"),
        ({"mesh": "[.]"}, "mesh.yaml:3:11: include[0]: cannot read .: Is a directory"),
        ({"mesh": "[pipe]"}, "mesh.yaml:3:11: include[0]: cannot read pipe: not a file"),
        ({"mesh": '["a\\0"]'}, "embedded null"),
        ({"mesh": "{a: b}"}, "mesh.yaml:3:1: include: expected a list of files, got a mapping"),
        ({"mesh": ""}, "mesh.yaml:3:1: include: expected a list of files, got nothing"),
        ({"mesh": "[1]"}, "mesh.yaml:3:11: include[0]: expected the name of a file, got 1"),
        ({"mesh": "mesh.yaml"}, "mesh.yaml:3:10: include: mesh.yaml is part of the configuration "),
        (
            {"mesh": "a.yaml", "a": "include: [./mesh.yaml]"},
            "a.yaml:1:11: include[0]: mesh.yaml is part of the configuration already",
        ),
        (
            {"mesh": "[a.yaml, ./a.yaml]", "a": "routes: []"},
            "mesh.yaml:3:19: include[1]: a.yaml is part of the configuration already "
            "(include it once)",
        ),
        (
            {"mesh": "a.yaml", "a": "version: 1"},
            "a.yaml:1:1: version: unknown key (an included file has listeners, routes, upstreams "
            "and include)",
        ),
        ({"mesh": "a.yaml", "a": "- 1"}, "a.yaml:1:1: expected a mapping, got a list"),
        ({"mesh": "a.yaml", "a": "routes: {}"}, "a.yaml:1:1: routes: expected a list, got a mapp"),
        ({"mesh": "a.yaml", "a": "upstreams:"}, "a.yaml:1:1: upstreams: expected a mapping, got n"),
        ({"mesh": "a.yaml", "a": "\troutes"}, "a.yaml:1:1: a tab: lines are indented with spaces"),
        ({"mesh": "a.yaml", "a": ""}, "a.yaml:1:1: the document is empty"),
        (
            {"mesh": "a.yaml", "a": "listeners:\n  edge: {bind: 127.0.0.1:0}"},
            "a.yaml:2:3: listeners: duplicate name 'edge' (first in mesh.yaml, line 2)",
        ),
    ],
)
def test_what_cannot_be_included(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    texts = {**files, "mesh": f"{HEAD}include: {files['mesh']}\n"}
    (only,) = [line.replace(f"{tmp_path}: ", ".: ") for line in told(tmp_path, **texts)]
    assert problem in only


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"routes: []\n# \xff\n")
    (only,) = told(tmp_path, mesh=HEAD + "include: a.yaml\n")
    assert only == "a.yaml:2:1: not UTF-8 (save it as UTF-8)"


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"f{i}" for i in range(10)]
    chain = {name: f"include: f{i + 1}.yaml\n" for i, name in enumerate(names)} | {"f10": "{}"}
    (deep,) = told(tmp_path, mesh=HEAD + "include: f0.yaml\n", **chain)
    assert deep == "f7.yaml:1:10: include: included files include others more than 8 deep"
    monkeypatch.setattr(include, "MAX_FILES", 3)
    flat = {name: "routes: []\n" for name in names}
    many = told(tmp_path, mesh=HEAD + f"include: [{', '.join(f'{n}.yaml' for n in names)}]", **flat)
    assert many[0] == "mesh.yaml:3:38: include[3]: more than 3 files"
    monkeypatch.setattr(include, "MAX_BYTES", 100)
    large = told(tmp_path, mesh=HEAD + "include: f0.yaml\n", f0="#" * 100)
    assert large == ["f0.yaml: larger than 0 MiB"]


def test_variables_are_those_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGE", "test")
    monkeypatch.delenv("MISSING", raising=False)
    files = {
        "mesh": HEAD + "env: on\ninclude: '${STAGE}.yaml'\nroutes: [{name: r, respond: {}}]\n",
        "test": "routes:\n- name: ${STAGE}\n  respond:\n    body: ${WHO:-me}\n",
    }
    config = load_file(write(tmp_path, **files))
    assert config.routes[1].name == "test"
    files["test"] += "    content_type: ${MISSING}\n"
    assert told(tmp_path, **files) == [
        "test.yaml:5:19: routes[0].respond.content_type: the environment has no MISSING "
        "(${MISSING:-default} is for then)"
    ]
    files["mesh"] = files["mesh"].replace("env: on\n", "").replace("${STAGE}", "test")
    assert told(tmp_path, **files)[0].startswith(
        "test.yaml:2:9: routes[1].name: a name is one word"
    )
    assert "`env: on` at the top takes" in told(tmp_path, **files)[0]


def test_certificates_begin_at_the_folder_of_the_first_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    authority = trustme.CA()
    pair = authority.issue_cert("a.example")
    pair.private_key_pem.write_to_path(tmp_path / "edge.key")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "edge.pem")
    (tmp_path / "conf" / "tls.yaml").write_text(
        "listeners: {tls: {bind: 127.0.0.1:0, tls: {cert: edge.pem, key: edge.key}}}\n"
    )
    config = load_file(write(tmp_path, mesh=HEAD + "include: conf/tls.yaml\n"))
    tls = config.listeners["tls"].tls
    assert tls is not None
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)


def test_a_text_includes_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path, a="upstreams: {u: {endpoints: ['b:1']}}\n")
    assert list(load_text(HEAD + "include: a.yaml\n", folder=tmp_path).upstreams) == ["u"]


def test_a_configuration_of_python_includes_nothing() -> None:
    config = Config.model_validate(
        {"version": 1, "listeners": {"e": {"bind": "a:1"}}, "include": "a.yaml"}
    )
    with pytest.raises(ConfigError, match="include: only a file includes others"):
        check(config)


def test_what_is_kept_is_found_again() -> None:
    assert bundle(b"main", {}) == b"main"
    files = {"a": b"\n[]\n", "b\n": b"", "c": b"\0meshcore files 1\n"}
    assert unbundle(bundle(b"\xffmain", files)) == (b"\xffmain", files)
    assert unbundle(b"version: 1") == (b"version: 1", {})
