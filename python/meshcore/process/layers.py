"""Runs Python layers for exchanges: at once when a hook is plain, as a task when it is async."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import inspect
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import Answer, Reason, now_ns
from meshcore.errors import LayerError
from meshcore.exchange.layers import Layer
from meshcore.exchange.phase import LAYERS, LOOKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from meshcore.exchange.exchange import Exchange

    Then = Callable[[Exchange, Layer, Any], None]

log = logging.getLogger("meshcore.layers")

# What ends the program, and not a request alone.
ENDS: Final = (KeyboardInterrupt, SystemExit)


def import_layer(name: str) -> object:
    """What ``module:Class`` names: for a thread, as an import takes as long as it likes.

    Raises `LayerError`, saying what is wrong; so does `make_layer`.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # somebody else's code: it may raise anything
        raise _unusable(name, error) from error


def look_beside(folder: Path) -> None:
    """Let layers be found in the configuration's folder, behind everything that is installed: a
    `json.py` there stands in for no module of Python's. Only where layers are imported."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.append(place)


def layer_fault(name: str) -> str | None:
    """Why a worker could not use this layer; imports it, and makes no object of it."""
    try:
        found = import_layer(name)
    except LayerError as error:
        return str(error)
    is_layer = issubclass(found, Layer) if isinstance(found, type) else isinstance(found, Layer)
    return None if is_layer else f"python layer {name}: not a meshcore.Layer"


def make_layer(name: str, found: object) -> Layer:
    """The layer object of what was imported: on the loop, whose tasks, timers and clients of its
    own a constructor may make."""
    try:
        made = found() if isinstance(found, type) else found
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _unusable(name, error) from error
    if not isinstance(made, Layer):
        raise LayerError(f"python layer {name}: not a meshcore.Layer")
    return made


def _unusable(name: str, error: BaseException) -> LayerError:
    return LayerError(f"python layer {name}: {str(error) or type(error).__name__}")


def load_layer(name: str) -> Layer:
    """Both at once, where no loop runs yet."""
    return make_layer(name, import_layer(name))


def given_layer(name: str, layer: object) -> Layer:
    """A layer that a program hands in. Raises `LayerError` for what is none."""
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, type) and issubclass(layer, Layer):
        raise LayerError(f"python layer {name}: a class; hand in an object, {layer.__name__}()")
    raise LayerError(f"python layer {name}: not a meshcore.Layer")


class Passage(list[Layer]):
    """What one request's layers share: those that are to see its response, and a context."""

    __slots__ = ("context",)

    context: contextvars.Context


class LayerRunner:
    """The layers of a worker, by the number that the core pauses with.

    Hooks run in their request's context, and nothing else does: what the exchange does next runs in
    none of a request's, for the connections that it opens live on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()
        self.layers: list[Layer] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def on_request(self, exchange: Exchange, number: int) -> None:
        """Run one layer; the exchange goes on, or is answered."""
        layer = self.layers[number]
        passage: Any = exchange.layers
        if passage is None:
            passage = exchange.layers = Passage()
            passage.context = self._context.copy()
        try:
            answer = passage.context.run(layer.on_request, exchange.request)
        except (Exception, asyncio.CancelledError, *ENDS) as error:
            self._failed_at_once(exchange, layer, error)
            return
        if answer is not None and inspect.isawaitable(answer):
            self._spawn(exchange, layer, answer, self._go_on)
        else:
            self._go_on(exchange, layer, answer)

    def _go_on(self, exchange: Exchange, layer: Layer, answer: object) -> None:
        if exchange.phase != LAYERS:
            return
        if answer is None:
            # One that answers or fails by itself does not see that: it is for those outside.
            if type(layer).on_response is not Layer.on_response:
                passage: Any = exchange.layers
                passage.append(layer)
            exchange.resume(now_ns())
        elif isinstance(answer, Answer) and not _begins_tunnel(exchange, answer):
            exchange.answer(answer, now_ns())
        else:
            self._returned(exchange, layer, answer)

    def on_response(self, exchange: Exchange) -> bool:
        """Run the layers that saw the request, last first; false: one of them is still at it."""
        passage: Any = exchange.layers
        while passage:
            layer = passage.pop()
            if exchange.local is not None and not layer.local_answers:
                continue
            response: Any = exchange.response
            try:
                hook = passage.context.run(layer.on_response, exchange.request, response)
            except (Exception, asyncio.CancelledError, *ENDS) as error:
                self._failed_at_once(exchange, layer, error)
                return False
            if hook is None:
                continue
            if inspect.isawaitable(hook):
                self._spawn(exchange, layer, hook, self._pass_on)
                return False
            if not self._replaces(exchange, layer, hook):
                return False
        return True

    def _pass_on(self, exchange: Exchange, layer: Layer, result: object) -> None:
        if exchange.phase != LOOKING:
            return
        if result is not None and not self._replaces(exchange, layer, result):
            return
        if self.on_response(exchange):
            exchange.on_looked(now_ns())

    def _replaces(self, exchange: Exchange, layer: Layer, result: object) -> bool:
        """A hook gave an answer instead of the response; false: the exchange goes on by itself."""
        if not isinstance(result, Answer) or _begins_tunnel(exchange, result):
            self._returned(exchange, layer, result)
            return False
        goes_on = exchange.local is not None
        exchange.replace(result, now_ns())
        return goes_on

    def _returned(self, exchange: Exchange, layer: Layer, result: object) -> None:
        name = type(layer).__name__
        if isinstance(result, Answer):
            log.error("layer %s answered CONNECT with %s: no tunnel begins", name, result.status)
        else:
            log.error("layer %s returned %r, not an Answer or None", name, result)
        exchange.answer(Answer.for_reason(Reason.LAYER_ERROR, name), now_ns())

    def _failed(self, exchange: Exchange, layer: Layer, error: BaseException) -> None:
        name = type(layer).__name__
        log.error("layer %s failed", name, exc_info=error)
        exchange.answer(Answer.for_reason(Reason.LAYER_ERROR, name), now_ns())

    def _failed_at_once(self, exchange: Exchange, layer: Layer, error: BaseException) -> None:
        self._failed(exchange, layer, error)
        if isinstance(error, ENDS):
            # By the loop itself, as when a task raises it: a connection would take it for its own.
            self._loop.call_soon(_raise, error)

    def _spawn(self, exchange: Exchange, layer: Layer, hook: Awaitable[Any], then: Then) -> None:
        passage: Any = exchange.layers
        coroutine = hook if inspect.iscoroutine(hook) else _awaited(hook)
        task = self._loop.create_task(coroutine, context=passage.context)
        self._tasks.add(task)
        exchange.task = task
        task.add_done_callback(
            functools.partial(self._done, exchange, layer, then), context=self._context
        )

    def _done(self, exchange: Exchange, layer: Layer, then: Then, task: asyncio.Task[Any]) -> None:
        """A hook has returned, or failed: as one does that is cancelled by itself, or by what it
        waits for. The exchange may have gone on without it, be it that the hook was over already
        or that it took no notice: then nothing of it counts any more."""
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if exchange.task is not task:
            if error is not None and not task.cancelled():
                log.error("layer %s failed, too late", type(layer).__name__, exc_info=error)
            return
        exchange.task = None
        if error is None:
            then(exchange, layer, task.result())
        else:
            self._failed(exchange, layer, error)

    async def close(self, within_s: float) -> None:
        """End every hook that still runs; one that takes no notice of it is waited for so long."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, deaf = await asyncio.wait(tasks, timeout=within_s)
            if deaf:
                log.error("%d hooks of layers take no notice of being cancelled", len(deaf))


def _begins_tunnel(exchange: Exchange, answer: Answer) -> bool:
    """Whether its client would take it for the beginning of one (RFC 9110 §9.3.6)."""
    return 200 <= answer.status < 300 and exchange.request.method == "CONNECT"


def _raise(error: BaseException) -> None:
    raise error


async def _awaited(hook: Awaitable[Any]) -> Any:
    return await hook
