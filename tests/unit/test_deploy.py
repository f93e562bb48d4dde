"""What `deploy/` holds fits the program: its files, ports, times and commands."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshcore import Config
from meshcore.cli import main
from meshcore.config.process import Drain
from meshcore.config.units import SECOND
from meshcore.testing.parts import load

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))


def documents(path: Path) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}


def configured(path: Path, folder: Path) -> Config:
    """The mesh of a manifest; its certificates, which the cluster has, are not opened."""
    file = folder / "mesh.yaml"
    file.write_text(documents(path)["ConfigMap"]["data"]["mesh.yaml"])
    return load(file, env=False)[0]


def proxy(path: Path) -> dict[str, Any]:
    pod = documents(path)["Deployment"]["spec"]["template"]["spec"]
    containers = pod.get("initContainers", []) + pod["containers"]
    return next(each for each in containers if each["name"] == "meshcore")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_opens_the_ports_that_its_mesh_binds(path: Path, tmp_path: Path) -> None:
    config = configured(path, tmp_path)
    binds = [listener.bind for listener in config.listeners.values()]
    assert config.admin is not None
    reached = [str(bind) for bind in [*binds, config.admin.bind] if "127.0.0.1" not in str(bind)]
    ports = {int(bind.rpartition(":")[2]) for bind in reached}
    assert {port["containerPort"] for port in proxy(path)["ports"]} == ports


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_pod_lives_as_long_as_its_drain(path: Path, tmp_path: Path) -> None:
    drain = configured(path, tmp_path).drain
    pod = documents(path)["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > (drain.delay + drain.timeout) / SECOND


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy" / "meshcore.service")
    return parser


def test_the_unit_calls_commands_that_there_are() -> None:
    service = unit()["Service"]
    commands = [service[key].split()[1] for key in ("ExecStartPre", "ExecStart", "ExecReload")]
    assert commands == ["check", "run", "reload"]
    assert set(commands) <= set(main.commands)


def test_the_unit_waits_for_the_drain_and_for_no_wrong_configuration() -> None:
    service = unit()["Service"]
    drain = Drain()
    assert int(service["TimeoutStopSec"]) > (drain.delay + drain.timeout) / SECOND
    assert service["RestartPreventExitStatus"] == "2"


def test_the_image_runs_a_command_that_there_is() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["meshcore"]' in text
    command = re.search(r'^CMD \["(\w+)"', text, re.MULTILINE)
    assert command is not None
    assert command[1] in main.commands


def test_what_the_image_copies_is_let_in() -> None:
    """The ignore file lets in what builds a wheel; each line names something that is there."""
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    named = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in named)
    project = (ROOT / "pyproject.toml").read_text()
    assert {"LICENSE", "README.md", "python", "rust"} <= set(named)
    assert 'license-files = ["LICENSE"]' in project
