"""Runs Python layers for exchanges: at once when a hook is plain, as a task when it is async."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from typing import TYPE_CHECKING, Any, cast

from meshcore._core import Answer, Reason, now_ns
from meshcore.errors import LayerError
from meshcore.exchange.layers import Layer
from meshcore.exchange.phase import OVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from meshcore._core import Response
    from meshcore.exchange.exchange import Exchange

log = logging.getLogger("meshcore.layers")


def import_layer(name: str) -> object:
    """What ``module:Class`` names: for a thread, as an import takes as long as it likes.

    Raises `LayerError`, saying what is wrong; so does `make_layer`.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # somebody else's code: it may raise anything
        raise _unusable(name, error) from error


def make_layer(name: str, found: object) -> Layer:
    """The layer object of what was imported: on the loop, whose tasks, timers and clients of its
    own a constructor may make."""
    try:
        made = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise _unusable(name, error) from error
    if not isinstance(made, Layer):
        raise LayerError(f"python layer {name}: not a meshcore.Layer")
    return made


def _unusable(name: str, error: BaseException) -> LayerError:
    return LayerError(f"python layer {name}: {error or type(error).__name__}")


def load_layer(name: str) -> Layer:
    """Both at once, where no loop runs yet."""
    return make_layer(name, import_layer(name))


class LayerRunner:
    """The layers of a worker, by the number that the core pauses with."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.layers: list[Layer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def on_request(self, exchange: Exchange, number: int) -> None:
        """Run one layer; the exchange goes on, or is answered."""
        layer = self.layers[number]
        if type(layer).on_response is not Layer.on_response:
            if exchange.layers is None:
                exchange.layers = []
            exchange.layers.append(layer)
        try:
            answer = layer.on_request(exchange.request)
        except Exception:
            self._failed(exchange, layer)
            return
        if inspect.isawaitable(answer):
            self._spawn(exchange, answer, self._await_request(exchange, layer, answer))
        else:
            self._go_on(exchange, layer, answer)

    def _go_on(self, exchange: Exchange, layer: Layer, answer: object) -> None:
        if exchange.phase == OVER:
            return
        if answer is None:
            exchange.resume(now_ns())
        elif isinstance(answer, Answer):
            exchange.answer(answer, now_ns())
        else:
            log.error("layer %s returned %r, not an Answer or None", type(layer).__name__, answer)
            exchange.answer(Answer.for_reason(Reason.LAYER_ERROR, type(layer).__name__), now_ns())

    async def _await_request(
        self, exchange: Exchange, layer: Layer, answer: Awaitable[Answer | None]
    ) -> None:
        try:
            found = await answer
        except Exception:
            self._failed(exchange, layer)
        else:
            exchange.task = None
            self._go_on(exchange, layer, found)

    def on_response(self, exchange: Exchange) -> bool:
        """Run the layers that saw the request, last first; false: one of them is still at it."""
        layers = cast("list[Layer]", exchange.layers)
        response = cast("Response", exchange.response)
        while layers:
            layer = layers.pop()
            try:
                waiting = layer.on_response(exchange.request, response)
            except Exception:
                self._failed(exchange, layer)
                return False
            if inspect.isawaitable(waiting):
                self._spawn(exchange, waiting, self._await_response(exchange, layer, waiting))
                return False
        return True

    async def _await_response(
        self, exchange: Exchange, layer: Layer, waiting: Awaitable[None]
    ) -> None:
        try:
            await waiting
        except Exception:
            self._failed(exchange, layer)
            return
        exchange.task = None
        if exchange.phase != OVER and self.on_response(exchange):
            exchange.commit(now_ns())

    def _failed(self, exchange: Exchange, layer: Layer) -> None:
        log.exception("layer %s failed", type(layer).__name__)
        exchange.task = None
        exchange.answer(Answer.for_reason(Reason.LAYER_ERROR, type(layer).__name__), now_ns())

    def _spawn(
        self, exchange: Exchange, hook: Awaitable[Any], work: Coroutine[Any, Any, None]
    ) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if inspect.iscoroutine(hook):
            # A task that is cancelled before its first step has not begun to await it.
            task.add_done_callback(lambda _: hook.close())
        exchange.task = task

    async def close(self) -> None:
        """End every hook that still runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
