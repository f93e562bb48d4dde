"""Layers change bodies: in order, one piece in each direction at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.exchange.phase import HOOKED
from meshcore.exchange.reading import Reading

if TYPE_CHECKING:
    from meshcore._core import Body
    from meshcore.exchange.flow import Flow
    from meshcore.exchange.ports import Driver, Passage


class Hooking(Reading):
    """Both bodies of an exchange, as far as layers change them; where there is no such layer,
    nothing of this is called."""

    __slots__ = ("driver", "layers")

    driver: Driver
    layers: Passage | None
    """Those that are to see the response, the bodies, and the end."""

    def on_hooked(self, flow: Flow, now_ns: int) -> None:
        """A hook that was awaited has done its part."""
        self._flow_on(flow, now_ns)

    def _put(self, flow: Flow, data: bytes, end: Body | None, now_ns: int) -> None:
        if flow.over:
            return
        shown = end is not None and flow.shows_trailers
        flow.put(data, end, self.ticket.trailers(end, flow.of_request) if end and shown else None)
        if flow.task is None:
            self._flow_on(flow, now_ns)

    def _flow_on(self, flow: Flow, now_ns: int) -> None:
        while flow.take():
            if not self.driver.run_body_hooks(self, flow):  # type: ignore[arg-type]  # an Exchange
                if flow.task is not None:
                    self._await_hook(flow, now_ns)
                return
            self._pass_on(flow, now_ns)
            if flow.over:
                return
        self._rest(flow, now_ns)

    def _pass_on(self, flow: Flow, now_ns: int) -> None:
        """Send what layers made of a piece."""
        raise NotImplementedError

    def _await_hook(self, flow: Flow, now_ns: int) -> None:
        """Its sender is not read meanwhile, and not blamed."""
        flow.waits = True
        self.ticket.at_work(flow.of_request, True, now_ns)
        if flow.of_request:
            self._pause_client(HOOKED, now_ns)
        else:
            self._set_endpoint_pauses(self.endpoint_pauses | HOOKED)
        if self.ticket.due_sooner:
            self.down.arm(self.ticket.arm())

    def _rest(self, flow: Flow, now_ns: int) -> None:
        """No hook has anything of it."""
        if not flow.waits:
            return
        flow.waits = False
        self.ticket.at_work(flow.of_request, False, now_ns)
        if flow.of_request:
            self._resume_client(HOOKED, now_ns)
        else:
            self._set_endpoint_pauses(self.endpoint_pauses & ~HOOKED)
        if self.ticket.due_sooner:
            self.down.arm(self.ticket.arm())

    def _leave_out_late(self) -> None:
        """A layer that had the request's body for too long does not see what is said for it."""
        layers = self.layers
        if layers is not None and layers.inward is not None and layers.inward.task is not None:
            layers.leave_out(layers.inward.at_work)

    @staticmethod
    def _stop_flows(layers: Passage) -> None:
        for flow in (layers.inward, layers.outward):
            if flow is not None:
                flow.stop()

    def _rest_flows(self, layers: Passage, now_ns: int) -> None:
        """Both are stopped, and the exchange goes on."""
        for flow in (layers.inward, layers.outward):
            if flow is not None:
                self._rest(flow, now_ns)
