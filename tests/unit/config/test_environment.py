"""`${NAME}` in values: only when asked for, never more than a value, and missing with its line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from meshcore.cli import main
from meshcore.config.load import load_file, load_text
from meshcore.errors import ConfigError

ON = "version: 1\nenv: on\nlisteners:\n  edge:\n    bind: ${BIND:-127.0.0.1:0}\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "A": "one",
        "NUMBER": "4",
        "VERSION": "1.10",
        "EMPTY": "",
        "SNEAKY": "x\n  more: {bind: 0.0.0.0:1}\n# ${A}",
        "ANCHOR": "*a",
        "BYTES": "\udcff",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MISSING", raising=False)


def body(value: str) -> str:
    config = load_text(f"{ON}routes:\n- name: r\n  respond:\n    body: {value}\n")
    assert config.routes[0].respond is not None
    return config.routes[0].respond.body


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("${A}", "one"),
        ("a ${A} b ${A}", "a one b one"),
        ("${MISSING:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${A:-two}", "one"),
        ("${MISSING:-}x", "x"),
        ('"${MISSING:-}"', ""),
        ('"${EMPTY}"', ""),
        ('"${NUMBER}"', "4"),
        ("'${VERSION}'", "1.10"),
        ("v${VERSION}", "v1.10"),
        ("$A", "$A"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("${ANCHOR}", "*a"),
        # What a variable holds is not looked through for variables, and is no YAML.
        ("${SNEAKY}", "x\n  more: {bind: 0.0.0.0:1}\n# ${A}"),
        ("${MISSING:-a: [b]}", "a: [b]"),
        ("&x ${A}", "one"),
    ],
)
def test_what_a_value_becomes(written: str, read: str) -> None:
    if ": [" in written:
        written = f"'{written}'"
    assert body(written) == read


def test_a_value_without_quotes_is_read_as_yaml_reads_it() -> None:
    text = f"{ON}workers: ${{NUMBER}}\nwatch: ${{WATCH:-on}}\ndrain: ${{NUMBER}}s\n"
    config = load_text(text)
    assert (config.workers, config.watch, config.drain.timeout) == (4, True, 4_000_000_000)
    with pytest.raises(ConfigError) as caught:
        load_text(f"{ON}routes:\n- name: ${{VERSION}}\n  respond: {{}}\n", "m")
    assert [str(problem) for problem in caught.value.problems] == [
        'm:7:9: routes[0].name: expected a text, got 1.1 (write "${VERSION}")'
    ]


def test_an_alias_has_the_value_too() -> None:
    config = load_text(
        f"{ON}upstreams:\n  u: {{endpoints: [&e '${{A}}:1']}}\n  v: {{endpoints: [*e]}}\n"
    )
    assert str(config.upstreams["v"].endpoints[0].address) == "one:1"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            "${MISSING}",
            "m:8:9: routes[0].name: the environment has no MISSING "
            "(${MISSING:-default} is for then)",
        ),
        (
            "a ${1}",
            "m:8:9: routes[0].name: ${ does not begin a variable (write ${NAME}, "
            "${NAME:-default}, or $${ for the characters themselves)",
        ),
        ("${A", "${ does not begin a variable"),
        ("${A-b}", "${ does not begin a variable"),
        ("${BYTES}", "m:8:9: routes[0].name: the value of BYTES is not UTF-8"),
    ],
)
def test_what_cannot_be_put_in(value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"{ON}routes:\n-\n  name: {value}\n  respond: {{}}\n", "m")
    assert problem in str(caught.value.problems[0])


def test_what_is_put_in_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshcore.config.environment.MAX_BYTES", 10)
    with pytest.raises(ConfigError, match="the values of all variables are larger than"):
        body("${A} ${A} ${A} ${A}")


OFF = "version: 1\nlisteners: {edge: {bind: '127.0.0.1:0'}}\nroutes:\n- name: r\n"


def test_nothing_is_put_in_unless_asked_for(tmp_path: Path) -> None:
    text = f"{OFF}  respond:\n    body: ${{A}} ${{MISSING}} ${{1}}\n"
    config = load_text(text)
    assert config.routes[0].respond is not None
    assert config.routes[0].respond.body == "${A} ${MISSING} ${1}"
    file = tmp_path / "mesh.yaml"
    file.write_text(text.replace("${MISSING} ${1}", "two"))
    read = load_file(file, env=True)
    assert read.routes[0].respond is not None
    assert read.routes[0].respond.body == "one two"


def test_who_forgot_to_ask_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"{OFF}  upstream: u\nupstreams:\n  u:\n    endpoints:\n    - ${{A}}:80\n", "m")
    assert [str(p) for p in caught.value.problems] == [
        "m:9:7: upstreams.u.endpoints[0].address: '${A}' is not a host name "
        "(`env: on` at the top takes ${NAME} from the environment)"
    ]


def test_a_key_has_no_variables() -> None:
    with pytest.raises(ConfigError, match="a name is one word"):
        load_text(f"{ON}upstreams:\n  ${{A}}: {{endpoints: ['b:1']}}\n")


def test_the_option_of_check(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(f"{OFF}  respond:\n    body: ${{MISSING}}\n")
    assert CliRunner().invoke(main, ["check", str(file)]).exit_code == 0
    told = CliRunner().invoke(main, ["check", "--env", str(file)])
    assert (told.exit_code, told.stderr) == (
        2,
        f"{file}:6:11: routes[0].respond.body: the environment has no MISSING "
        "(${MISSING:-default} is for then)\n",
    )
