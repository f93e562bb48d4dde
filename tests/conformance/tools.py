"""Programs in Go that a suite needs, built once into a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.conformance.programs import ProgramError


class Tool(NamedTuple):
    """A command, the module that has it, and everything whose version is chosen here."""

    name: str
    package: str
    requires: tuple[str, ...]

    @property
    def file(self) -> str:
        """The name in the folder; another version is another file."""
        return f"{self.name}-{self.requires[0].rpartition('@')[2]}"


# h2spec's module tells no versions of what it needs: these are what it was tried with.
H2SPEC = Tool(
    "h2spec",
    "github.com/summerwind/h2spec/cmd/h2spec",
    (
        "github.com/summerwind/h2spec@v2.2.1+incompatible",
        "golang.org/x/net@v0.30.0",
        "github.com/spf13/cobra@v1.8.1",
        "github.com/fatih/color@v1.18.0",
    ),
)
GRPC_CLIENT = Tool(
    "grpc-interop-client",
    "google.golang.org/grpc/interop/client",
    ("google.golang.org/grpc@v1.85.0",),
)
GRPC_SERVER = Tool(
    "grpc-interop-server",
    "google.golang.org/grpc/interop/server",
    ("google.golang.org/grpc@v1.85.0",),
)
TOOLS = (H2SPEC, GRPC_CLIENT, GRPC_SERVER)


def built(tool: Tool, folder: Path) -> Path:
    """The tool's file, built if it is not there."""
    file = folder / "bin" / tool.file
    if not file.exists():
        if shutil.which("go") is None:
            raise ProgramError("missing: Go (Debian: apt-get install golang)")
        print(f"building {tool.file}", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as module:
            _build(tool, Path(module))
            # At once: a build that is cut leaves nothing that looks whole.
            (Path(module) / "built").replace(file)
    return file


def _build(tool: Tool, module: Path) -> None:
    """In a module of its own: `go install` of a package takes its module's versions alone."""
    for command in (
        ["mod", "init", "conformance"],
        ["get", tool.package, *tool.requires],
        ["build", "-o", "built", tool.package],
    ):
        ended = subprocess.run(
            ["go", *command],
            cwd=module,
            env={**os.environ, "GOWORK": "off"},
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            raise ProgramError(f"go {' '.join(command)}\n{ended.stderr}")
