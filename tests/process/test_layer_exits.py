"""What a layer raises to end the program ends it, in whichever hook, protocol and loop."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
import meshcore

how, hook, raised, protocol, loop = sys.argv[1:]
ERRORS = {"exit": SystemExit(7), "interrupt": KeyboardInterrupt()}
MESH = '''
version: 1
listeners:
  edge: {bind: "127.0.0.1:0", layers: [{python: "own:Own"}]}
routes:
  - name: hello
    respond: {status: 200, body: "hello"}
'''

class Own(meshcore.Layer):
    pass

def plain(*arguments):
    raise ERRORS[raised]

async def later(*arguments):
    await asyncio.sleep(0)
    raise ERRORS[raised]

setattr(Own, f"on_{hook}", lambda self, *rest: (plain if how == "plain" else later)(*rest))

HEAD = {
    "h1": b"GET / HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n",
    "h2": b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes.fromhex(
        "000000040000000000" "000006010500000001" "82848641" "0161"
    ),
}

async def main():
    layers = {"own:Own": Own()}
    async with meshcore.Proxy(meshcore.load_text(MESH), layers=layers) as proxy:
        port = int(proxy.addresses["edge"].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD[protocol])
        while await reader.read(1024):
            pass
        await asyncio.sleep(20)
    print("went on")

run = asyncio.run if loop == "asyncio" else __import__("uvloop").run
run(main())
"""

CODES = {"exit": 7, "interrupt": 130}
CASES = [
    *itertools.product(("plain", "async"), ("request", "response"), ("exit",), ("h1", "h2")),
    ("plain", "request", "interrupt", "h1"),
    ("async", "response", "interrupt", "h2"),
]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("how", "hook", "raised", "protocol"), CASES)
def test_it_ends_the_program(how: str, hook: str, raised: str, protocol: str, loop: str) -> None:
    command = [sys.executable, "-c", PROGRAM, how, hook, raised, protocol, loop]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    code = {-2: 130}.get(ended.returncode, ended.returncode)
    assert (code, ended.stdout) == (CODES[raised], ""), ended.stderr
