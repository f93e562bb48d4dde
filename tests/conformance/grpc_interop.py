"""The interop cases of grpc-go, its client before the proxy and its server behind it."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.programs import Program
from tests.conformance.proxies import PROXIES, Certificate, Place, Speech, certificate
from tests.conformance.score import Case, full
from tests.conformance.tools import GRPC_CLIENT, GRPC_SERVER, built

# What grpc-go itself runs (its interop_test.sh): all cases that need no cloud credentials.
SOAK = (
    *("--soak_iterations", "1000", "--soak_num_threads", "4"),
    *("--soak_overall_timeout_seconds", "60", "--soak_min_time_ms_between_rpcs", "0"),
)
ORCA = (
    "--service_config_json",
    '{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}',
)
CASES: dict[str, tuple[str, ...]] = {
    "empty_unary": (),
    "large_unary": (),
    "client_streaming": (),
    "server_streaming": (),
    "ping_pong": (),
    "empty_stream": (),
    "timeout_on_sleeping_server": (),
    "cancel_after_begin": (),
    "cancel_after_first_response": (),
    "status_code_and_message": (),
    "special_status_message": (),
    "custom_metadata": (),
    "unimplemented_method": (),
    "unimplemented_service": (),
    "orca_per_rpc": ORCA,
    "orca_oob": ORCA,
    "rpc_soak": SOAK,
    "channel_soak": SOAK,
}
# More than a soak may take by its own account.
LIMIT_S = 90


class Setup(NamedTuple):
    """How the client speaks to the proxy, and the proxy to the server."""

    tls: bool
    speech: Speech


SETUPS = {
    "h2c-h2c": Setup(tls=False, speech="h2"),
    "TLS-TLS": Setup(tls=True, speech="h2-tls"),
    "TLS-h2c": Setup(tls=True, speech="h2"),
}


@contextmanager
def server(tool: Path, of: Certificate, speech: Speech, folder: Path) -> Iterator[int]:
    """The port of an interop server; it can only listen on all addresses."""
    command = [str(tool), "--port", "0"]
    if speech == "h2-tls":
        command += ["--use_tls", "--tls_cert_file", str(of.chain), "--tls_key_file", str(of.key)]
    log = folder / "grpc-server.log"
    # Its port is told at this level.
    with Program("grpc server", command, log, {"GRPC_GO_LOG_SEVERITY_LEVEL": "info"}) as program:
        yield int(program.said(r"server listening on \S*:(\d+)")[1])


def call(client: list[str], name: str) -> Case:
    """One case."""
    command = [*client, "--test_case", name, *CASES[name]]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return Case(name, "failed", f"not over after {LIMIT_S} s")
    if ended.returncode:
        last = "\n".join((ended.stdout + ended.stderr).splitlines()[-3:])
        return Case(name, "failed", last)
    return Case(name, "passed")


def client_of(tool: Path, port: int, trusted: Path | None) -> list[str]:
    """The client's command, without the case; with an authority it speaks TLS."""
    command = [str(tool), "--server_host", "127.0.0.1", "--server_port", str(port)]
    if trusted is not None:
        command += ["--use_tls", "--use_test_ca", "--ca_file", str(trusted)]
        command += ["--server_host_override", "localhost"]
    return command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of this suite alone."""
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--setup", nargs="+", choices=list(SETUPS), default=list(SETUPS))


def run(asked: argparse.Namespace, folder: Path) -> bool:
    """Every case in every setup."""
    client, behind = built(GRPC_CLIENT, asked.tools), built(GRPC_SERVER, asked.tools)
    made = certificate(folder)
    good = True
    for name in asked.setup:
        tls, speech = SETUPS[name]
        with (
            server(behind, made, speech, folder) as origin,
            PROXIES[asked.proxy](Place(folder, made, origin, speech)) as ports,
        ):
            command = client_of(client, ports.tls if tls else ports.plain, made.ca if tls else None)
            cases = [call(command, case) for case in asked.only]
        good = full(f"grpc {name}", cases, len(asked.only)) and good
    return good
