"""Traces from the view of a caller and a collector: one action with all its effects, and a pairing's whole life."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import httpx

from tests.journey.conditions import wait_until
from tests.journey.people import Json, Members, ok
from tests.journey.span_collector import Collector, Span

PRODUCER, CONSUMER = 4, 5


@dataclass
class Leg:
    """One human action and all its effects. The trace id is created here, as by a tracing browser."""

    collector: Collector
    prefix: str
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    caller: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def headers(self) -> Mapping[str, str]:
        return {"traceparent": f"00-{self.trace_id}-{self.caller}-01"}

    def spans(self) -> list[Span]:
        return [span for span in list(self.collector.spans) if span.trace_id == self.trace_id]

    def has(self, *chains: str) -> None:
        for chain in chains:
            wait_until(partial(self.chain, chain), f"{chain}; only {sorted(map(self._name, self.spans()))}", 10)

    def of_events(self, kind: int) -> list[Span]:
        return [span for span in self.spans() if span.kind == kind]

    def chain(self, chain: str) -> list[Span] | None:
        """The spans of the chain, if they exist.

        A first span that answers a request is a child of the caller's span.
        """
        inner = ("send", "process", "due")
        names = chain.split(" > ")
        parents: list[str] | None = [self.caller] if not names[0].split(": ")[1].startswith(inner) else None
        spans: list[Span] = []
        for name in names:
            spans = [
                span
                for span in self.spans()
                if self._name(span) == name and (parents is None or span.parent_id in parents)
            ]
            parents = [span.span_id for span in spans]
        return spans or None

    def _name(self, span: Span) -> str:
        return f"{span.service}: {span.name.replace(self.prefix, '')}"


def act(leg: Leg, client: httpx.Client, method: str, path: str, body: Json | None) -> Json:
    return dict(ok(client.request(method, path, json=body, headers=dict(leg.headers))))


@dataclass
class PairingTraces:
    """One pairing from proposal to end. Each step is a leg; legs that a deadline started have no caller."""

    members: Members
    collector: Collector
    id: str = ""
    legs: dict[str, Leg] = field(default_factory=dict)

    def step(self, name: str, client: httpx.Client, method: str, path: str, body: Json | None = None) -> Json:
        """Act, and wait for all effects."""
        leg = self.legs[name] = Leg(self.collector, self.members.stack.prefix)
        answer = act(leg, client, method, path, body)
        self.members.stack.rest()
        return answer

    def until(self, moment: datetime) -> None:
        self.members.stack.until(moment)
        self.members.stack.rest()

    def has(self, *chains: str) -> None:
        """Wait for these chains in any trace about this pairing."""
        for chain in chains:
            wait_until(partial(self._has, chain), f"{chain} in a trace of the pairing", 10)

    def traces(self) -> list[str]:
        """All traces about the pairing in the order of their start, without its lifecycle trace."""
        began: dict[str, int] = {}
        for span in self.spans():
            began[span.trace_id] = min(span.start, began.get(span.trace_id, span.start))
        return sorted(began, key=lambda trace: began[trace])

    def spans(self) -> list[Span]:
        about = {span.trace_id for span in list(self.collector.spans) if self._is_told_in(span)}
        about |= {leg.trace_id for leg in self.legs.values()}  # no service reads the draft of one side
        return [span for span in list(self.collector.spans) if span.trace_id in about]

    def phases(self) -> list[Span]:
        return [
            span
            for span in list(self.collector.spans)
            if span.attributes.get("mentoring.pairing.id") == self.id and not self._is_told_in(span)
        ]

    def _is_told_in(self, span: Span) -> bool:
        is_named = span.attributes.get("mentoring.pairing.id") == self.id
        return is_named and span.kind in (PRODUCER, CONSUMER)

    def _has(self, chain: str) -> bool:
        return any(Leg(self.collector, self.members.stack.prefix, trace).chain(chain) for trace in self.traces())
