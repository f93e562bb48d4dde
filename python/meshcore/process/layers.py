"""Runs Python layers for exchanges: at once when a hook is plain, as a task when it is async."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import inspect
import logging
import sys
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from meshcore._core import Answer, RequestHooks
from meshcore.config.layer_key import layer_name, parse_layer_key
from meshcore.errors import Diagnostic, LayerError
from meshcore.exchange.layers import Layer
from meshcore.exchange.phase import LAYERS, LOOKING
from meshcore.process.body_hooks import (
    ENDS,
    BodyHooks,
    begins_tunnel,
    has_body_hooks,
    is_awaitable,
)
from meshcore.process.layer_arguments import argument_problems
from meshcore.process.layer_counts import count_problems
from meshcore.process.layer_hooks import hook_problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from meshcore._core import Outcome, Request
    from meshcore._core import Prepared as CorePrepared
    from meshcore.errors import Diagnostic
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.flow import Flow
    from meshcore.process.body_hooks import Then

log = logging.getLogger("meshcore.layers")


def import_layer(key: str, given: Collection[str] = ()) -> object:
    """What the ``module:Class`` of a layer names: for a thread, as an import takes as long as it
    likes. ``given``: the names under which a program handed in others.

    Raises `LayerError`, saying what is wrong; so does `make_layer`.
    """
    module_name, _, attribute = layer_name(key).partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a layer's code: it may raise anything
        raise _unusable(key, error, given) from error


def look_beside(folder: Path) -> None:
    """Let layers be found in the configuration's folder, behind everything that is installed: a
    `json.py` there stands in for no module of Python's. Only where layers are imported."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.append(place)


def layer_problem(key: str) -> LayerError | None:
    """Why a worker could not use this layer; imports it, and makes no object of it."""
    try:
        _check(key, import_layer(key))
    except LayerError as error:
        return error
    return None


def make_layer(key: str, found: object) -> Layer:
    """The layer object of what was imported: on the loop, whose tasks, timers and clients of its
    own a constructor may make."""
    _check(key, found)
    if not isinstance(found, type):
        return cast("Layer", found)
    try:
        made: object = found(**parse_layer_key(key)[1])
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _unusable(key, error) from error
    return _checked(key, made)


def _check(key: str, found: object) -> None:
    """Raise `LayerError` for what makes no layer with these arguments."""
    if not isinstance(found, type):
        _checked(key, found)
        if parse_layer_key(key)[1]:
            raise _error(key, "with is for a class: this is an object, which was made")
        return
    if not issubclass(found, Layer):
        raise _error(key, "not a meshcore.Layer")
    _check_hooks(key, found)
    problems = argument_problems(found, parse_layer_key(key)[1])
    if problems:
        told = "; ".join(map(str, problems))
        raise _error(key, told, problems)


def _checked(key: str, layer: object) -> Layer:
    if not isinstance(layer, Layer):
        raise _error(key, "not a meshcore.Layer")
    _check_hooks(key, type(layer))
    return layer


def _check_hooks(key: str, kind: type[Layer]) -> None:
    problems = [*hook_problems(kind), *count_problems(kind)]
    if problems:
        raise _error(key, "; ".join(problems))


def _unusable(key: str, error: BaseException, given: Collection[str] = ()) -> LayerError:
    others = f"; handed in are {', '.join(sorted(given))}" if given else ""
    return _error(key, f"{str(error) or type(error).__name__}{others}")


def _error(key: str, message: str, problems: Iterable[Diagnostic] = ()) -> LayerError:
    return LayerError(f"python layer {layer_name(key)}: {message}", key, tuple(problems))


def load_layer(key: str, given: Collection[str] = ()) -> Layer:
    """Both at once, where no loop runs yet."""
    return make_layer(key, import_layer(key, given))


def keys_of(prepared: CorePrepared) -> list[str]:
    """The layers of a configuration."""
    return [key for key in prepared.python_layers() if key is not None]


def given_layers(given: Mapping[str, object]) -> dict[str, Layer]:
    """The layers that a program hands in, by name. Raises `LayerError` for what is none."""
    return {name: _given(name, layer) for name, layer in given.items()}


def refuse_arguments(keys: Iterable[str], given: Mapping[str, Layer]) -> None:
    """Raise `LayerError` for arguments of what a program hands in, which is made already."""
    for key in keys:
        if key not in given and layer_name(key) in given:
            raise _error(key, "with is for a class: an object is handed in under this name")


def _given(name: str, layer: object) -> Layer:
    if isinstance(layer, type) and issubclass(layer, Layer):
        raise _error(name, f"a class; hand in an object, {layer.__name__}()")
    return _checked(name, layer)


class Passage(list[Layer]):
    """What one request's layers share: those that are to see its response, and a context."""

    __slots__ = ("context", "ends", "inward", "outward", "streams")

    context: contextvars.Context
    ends: list[Layer] | None
    """Those that are to be told of its end."""
    streams: list[Layer] | None
    """Those that let it pass, and see bodies or trailers."""
    inward: Flow | None
    outward: Flow | None

    def __init__(self, context: contextvars.Context) -> None:
        self.context = context
        self.ends = self.streams = self.inward = self.outward = None

    def leave_out(self, layer: Layer | None) -> None:
        """What a layer answers or fails with is for others to see."""
        self[:] = [each for each in self if each is not layer]


class InForce:
    """A layer, and which hooks it has: its class is asked when a configuration begins, not for each
    request."""

    __slots__ = ("hears_end", "layer", "sees_bodies", "sees_response")

    def __init__(self, layer: Layer) -> None:
        kind = type(layer)
        self.layer = layer
        self.sees_response = kind.on_response is not Layer.on_response
        self.sees_bodies = has_body_hooks(kind)
        self.hears_end = kind.on_end is not Layer.on_end

    @property
    def sees_more(self) -> bool:
        """Than the request's head."""
        return self.sees_response or self.sees_bodies or self.hears_end


class Hooks(BodyHooks):
    """Layers by the number that the core pauses with, and what becomes of exchanges by them.

    Hooks run in their request's context, and nothing else does: what the exchange does next runs in
    none of a request's, for the connections that it opens live on.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._context = contextvars.copy_context()
        self._in_force: list[Any] = []
        self.request_hooks = RequestHooks(self._context, clock)
        """Of layers that see requests' heads and no more."""

    def put_in_force(self, layers: Iterable[Layer | None]) -> None:
        """Those of the configuration from now on, by number; `None` is no layer's number."""
        known = [None if layer is None else InForce(layer) for layer in layers]
        self._in_force = known
        self.request_hooks.put_in_force(
            [None if each is None or each.sees_more else each.layer for each in known]
        )

    def on_request(self, exchange: Exchange, number: int) -> None:
        """Run one layer; the exchange goes on, or is answered."""
        known: InForce = self._in_force[number]
        layer: Any = known.layer
        passage: Any = exchange.layers
        if passage is None:
            passage = exchange.layers = Passage(self._context.copy())
        if known.hears_end:
            _await_end(passage, layer)
        try:
            answer = passage.context.run(layer.on_request, exchange.request)
        except BaseException as error:
            self._failed_at_once(exchange, layer, error, exchange)
        else:
            self._take(known, exchange, layer, answer)

    def go_on_from(self, exchange: Exchange, ran: Any) -> None:
        """`request_hooks` ran some: all of them passed, and this is their context; or the last one
        did not, and this is its context, what it gave, and what it raised."""
        if type(ran) is not tuple:
            exchange.layers = Passage(ran)
            exchange.follow(exchange.ticket.verdict, self._now_ns())
            return
        context, answer, error = ran
        exchange.layers = Passage(context)
        known: InForce = self._in_force[exchange.ticket.layer]
        if error is not None:
            self._failed_at_once(exchange, known.layer, error, exchange)
        else:
            self._take(known, exchange, known.layer, answer)

    def _take(self, known: InForce, exchange: Exchange, layer: Layer, answer: Any) -> None:
        # Most are, and this takes no call.
        if type(answer) is CoroutineType or (answer is not None and is_awaitable(answer)):
            then = functools.partial(self._go_on, known)
            self._spawn(exchange, layer, answer, then, exchange)
        else:
            self._go_on(known, exchange, layer, answer)

    def _go_on(self, known: InForce, exchange: Exchange, layer: Layer, answer: object) -> None:
        if exchange.phase != LAYERS:
            return
        if answer is None:
            # One that answers or fails by itself does not see that: it is for those outside.
            passage: Any = exchange.layers
            if known.sees_response:
                passage.append(layer)
            if known.sees_bodies:
                passage.streams = [*(passage.streams or ()), layer]
            exchange.resume(self._now_ns())
        elif type(answer) is Answer and not begins_tunnel(exchange, answer):
            exchange.answer(answer, self._now_ns())
        else:
            self._returned(exchange, layer, answer)

    def on_end(self, exchange: Exchange) -> None:
        """Tell layers of the end."""
        passage: Any = exchange.layers
        request, outcome = exchange.request, exchange.ticket.outcome()
        told, passage.ends = passage.ends, None
        for layer in told:
            self._emit_end(passage.context, layer, request, outcome)

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
            except BaseException as error:
                self._failed_at_once(exchange, layer, error, exchange)
                return False
            if hook is None:
                continue
            if is_awaitable(hook):
                self._spawn(exchange, layer, hook, self._pass_on, exchange)
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
            exchange.on_looked(self._now_ns())

    def _replaces(self, exchange: Exchange, layer: Layer, result: object) -> bool:
        """A hook gave an answer instead of the response; false: the exchange goes on by itself."""
        if type(result) is not Answer or begins_tunnel(exchange, result):
            self._returned(exchange, layer, result)
            return False
        continues = exchange.local is not None
        exchange.replace(result, self._now_ns())
        return continues


class LayerRunner(Hooks):
    """The layers of a worker: those that are async run as tasks of its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def _failed_at_once(
        self, exchange: Exchange, layer: Layer, error: BaseException, holder: Exchange | Flow
    ) -> None:
        self._failed(exchange, layer, error, holder)
        if isinstance(error, ENDS):
            # By the loop itself, as when a task raises it: a connection would take it for its own.
            self._loop.call_soon(_raise, error)

    def _spawn(
        self,
        exchange: Exchange,
        layer: Layer,
        hook: Awaitable[Any],
        then: Then,
        holder: Exchange | Flow,
    ) -> None:
        passage: Any = exchange.layers
        coroutine = hook if type(hook) is CoroutineType else awaited(hook)
        task = self._loop.create_task(coroutine, context=passage.context)
        self._tasks.add(task)
        holder.task = task
        task.add_done_callback(
            functools.partial(self._done, exchange, layer, then, holder), context=self._context
        )

    def _done(
        self,
        exchange: Exchange,
        layer: Layer,
        then: Then,
        holder: Exchange | Flow,
        task: asyncio.Task[Any],
    ) -> None:
        """A hook has returned, or failed: as one does that is cancelled by itself, or by what it
        waits for. The exchange may have gone on without it, be it that the hook was over already
        or that it took no notice: then nothing of it counts any more."""
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if holder.task is not task:
            if error is not None and not task.cancelled():
                log.error("layer %s failed, too late", type(layer).__name__, exc_info=error)
            return
        holder.task = None
        if error is None:
            then(exchange, layer, task.result())
        else:
            self._failed(exchange, layer, error, holder)

    def _emit_end(
        self, context: contextvars.Context, layer: Layer, request: Request, outcome: Outcome
    ) -> None:
        # Once the loop comes to it: it holds up nothing of the end.
        self._loop.call_soon(call_on_end, layer, request, outcome, context=context)

    async def close(self, within_s: float) -> None:
        """End every hook that still runs; one that takes no notice of it is waited for that
        long."""
        await asyncio.sleep(0)  # what is to be told of ends is told
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, deaf = await asyncio.wait(tasks, timeout=within_s)
            if deaf:
                log.error("%d hooks of layers ignore that they were cancelled", len(deaf))


def _await_end(passage: Passage, layer: Layer) -> None:
    """One that stands in several stacks is told once."""
    ends = passage.ends = passage.ends or []
    if not any(each is layer for each in ends):
        ends.append(layer)


def call_on_end(layer: Layer, request: Request, outcome: Outcome) -> None:
    """Tell one layer of the end of a request; what it raises is logged."""
    try:
        result: object = layer.on_end(request, outcome)  # type: ignore[func-returns-value]
    except ENDS:
        raise  # by the loop itself
    except BaseException:
        log.exception("layer %s failed at the end of a request", type(layer).__name__)
        return
    if inspect.iscoroutine(result):
        result.close()
        log.error("layer %s: on_end is async, and is not awaited", type(layer).__name__)


def _raise(error: BaseException) -> None:
    raise error


async def awaited(hook: Awaitable[Any]) -> Any:
    """A coroutine of whatever can be awaited."""
    return await hook
