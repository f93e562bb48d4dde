"""Layers that are made with arguments of the configuration: which uses share an object, over
reloads too."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from meshcore import Answer, Layer, LayerError, Proxy, Request
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run


class Tenant(Layer):
    """Tells which object it is."""

    made: list[weakref.ref[Tenant]] = []  # noqa: RUF012 - of each test

    def __init__(self, name: str = "-", rules: dict[str, list[int]] | None = None) -> None:
        self.name = name
        self.rules = rules
        self.made.append(weakref.ref(self))
        self.number = len(self.made)

    def on_request(self, request: Request) -> Answer:
        return Answer(200, [], f"{self.number} {self.name} {json.dumps(self.rules)}".encode())


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    found: Any = types.ModuleType("tenants_of_a_test")
    found.Tenant, found.made = Tenant, Tenant("made")
    Tenant.made.clear()
    monkeypatch.setitem(sys.modules, "tenants_of_a_test", found)
    yield "tenants_of_a_test"
    Tenant.made.clear()


def use(name: str | None = None, **more: Any) -> Any:
    given = ({} if name is None else {"name": name}) | more
    return {"class": "tenants_of_a_test:Tenant", "with": given}


def mesh(*uses: Any) -> str:
    """A route for each use of a layer."""
    routes = [
        {"name": f"r{n}", "match": {"path": {"prefix": f"/{n}"}}, "respond": {}}
        | ({} if each is None else {"layers": [{"python": each}]})
        for n, each in enumerate(uses)
    ]
    listeners = {"edge": {"bind": "127.0.0.1:0"}}
    return json.dumps({"version": 1, "listeners": listeners, "routes": routes, "drain": "1s"})


async def said(proxy: Proxy, number: int) -> list[str]:
    async with Client(proxy.addresses["edge"]) as client:
        return [(await client.get(f"/{n}")).body.decode() for n in range(number)]


def test_equal_ones_share_an_object_and_others_do_not(run: Run) -> None:
    text = mesh(
        use("a"), use("b"), use("a"), "tenants_of_a_test:Tenant", use(), use("a", rules={"x": [1]})
    )

    async def go() -> None:
        async with Proxy(load_text(text)) as proxy:
            first, b, again, plain, empty, rules = await said(proxy, 6)
            assert (first, again) == ("1 a null",) * 2
            assert (plain, empty) == (plain, plain)
            assert plain.endswith(" - null")
            assert b.endswith(" b null")
            assert rules.endswith(' a {"x": [1]}')
            assert len(Tenant.made) == 4

    run(go())


def test_a_reload_makes_what_has_changed(run: Run) -> None:
    async def go() -> None:
        async with Proxy(load_text(mesh(use("a"), use("b")))) as proxy:
            assert await said(proxy, 2) == ["1 a null", "2 b null"]
            await proxy.reload(load_text(mesh(use("c"), use("b"))))
            assert await said(proxy, 2) == ["3 c null", "2 b null"]
            with pytest.raises(LayerError, match=r"Tenant: nane: unknown argument \(did you mean"):
                await proxy.reload(load_text(mesh(use(nane="c"))))
            assert await said(proxy, 2) == ["3 c null", "2 b null"]

    run(go())


def test_objects_of_earlier_arguments_are_not_kept(run: Run) -> None:
    async def go() -> None:
        async with Proxy(load_text(mesh(use("0"), use("stays")))) as proxy:
            for number in range(1, 20):
                await proxy.reload(load_text(mesh(use(str(number)), use("stays"))))
            gc.collect()
            alive = {each.name for ref in Tenant.made if (each := ref()) is not None}
            # And of the one before, which requests under way may still come to.
            assert {"19", "stays"} <= alive <= {"18", "19", "stays"}
            worker: Any = proxy._worker
            assert len(worker._engine.python_layers()) <= 4
            assert await said(proxy, 2) == ["21 19 null", "2 stays null"]
            # What went comes again as another.
            await proxy.reload(load_text(mesh(use("0"), use("stays"))))
            assert (await said(proxy, 2))[0] == "22 0 null"

    run(go())


def test_an_object_takes_no_arguments(run: Run) -> None:
    name = "tenants_of_a_test:Tenant"
    handed = {name: Tenant("handed in")}

    async def go() -> None:
        with pytest.raises(LayerError, match="an object is handed in under this name"):
            Proxy(load_text(mesh(use("a"))), layers=handed)
        with pytest.raises(LayerError, match="with is for a class: this is an object"):
            Proxy(load_text(mesh({"class": "tenants_of_a_test:made", "with": {"name": "a"}})))
        async with Proxy(load_text(mesh(name)), layers=handed) as proxy:
            assert await said(proxy, 1) == ["1 handed in null"]
            with pytest.raises(LayerError, match="an object is handed in under this name"):
                await proxy.reload(load_text(mesh(use("a"))))
            # It is there for good, whatever the configuration names meanwhile.
            for text in (mesh(None), mesh(None), mesh(name)):
                await proxy.reload(load_text(text))
            assert await said(proxy, 1) == ["1 handed in null"]
        assert len(Tenant.made) == 1

    run(go())


def test_what_a_constructor_raises_is_told_with_the_name_alone(run: Run) -> None:
    """Not with its arguments, which may be secret."""

    async def go() -> None:
        async with Proxy(load_text(mesh(None))) as proxy:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Tenant, "made", None)
                with pytest.raises(LayerError) as caught:
                    await proxy.reload(load_text(mesh(use("s3cret"))))
            told = (
                "python layer tenants_of_a_test:Tenant: 'NoneType' object has no attribute 'append'"
            )
            assert str(caught.value) == told

    run(go())


def test_a_request_under_way_comes_to_the_layer_that_it_began_with(run: Run) -> None:
    class Gate(Layer):
        def __init__(self) -> None:
            self.reached, self.go = asyncio.Event(), asyncio.Event()

        async def on_request(self, request: Request) -> None:
            self.reached.set()
            await self.go.wait()

    def behind(gate: str, name: str) -> str:
        listener = {"bind": "127.0.0.1:0", "layers": [{"python": gate}, {"python": use(name)}]}
        route = {"name": "all", "respond": {}}
        keys = {"version": 1, "listeners": {"edge": listener}, "routes": [route], "drain": "1s"}
        return json.dumps(keys)

    async def go() -> None:
        gate = Gate()
        async with (
            Proxy(load_text(behind("a:Gate", "first")), layers={"a:Gate": gate}) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            asking = asyncio.create_task(client.get())
            await gate.reached.wait()
            for name in ("second", "third", "fourth"):
                await proxy.reload(load_text(behind("a:Gate", name)))
            gate.go.set()
            assert (await asking).body == b"1 first null"
            # Once it is over the object is nobody's, and its number another's.
            await client.get()
            for name in ("fifth", "sixth", "seventh", "eighth"):
                await proxy.reload(load_text(behind("a:Gate", name)))
            gc.collect()
            assert Tenant.made[0]() is None
            assert (await client.get()).body == b"8 eighth null"
            worker: Any = proxy._worker
            assert len(worker._engine.python_layers()) <= 5

    run(go())
