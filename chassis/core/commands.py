"""Operation keys: what makes an operation the same one when it is tried again.

An aggregate remembers its last operations (see ``chassis.storage.aggregates``). There are three kinds, and each has
its own room there, so that one kind never displaces another:

* ``command``: a client's request. The client may repeat it with the same Idempotency-Key.
* ``step``: a step of a service whose key is derived from its cause: an event and its handler, or a due time. The event
  may be delivered again, and the sweep may call again.
* ``once``: a step with a key of its own. Only the update call itself repeats it, when the acknowledgement of its write
  was lost.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from chassis.core.ids import derived_id, new_id
from contracts.envelope import Envelope

OpKind: TypeAlias = Literal["command", "step", "once"]


@dataclass(frozen=True)
class Op:
    """The identity of an operation.

    ``key`` identifies it. ``request`` is a hash of the request; the same key with another hash is rejected. Keys are
    stored, so the text of a key must never change.
    """

    key: str
    request: str = ""
    kind: OpKind = "step"

    @classmethod
    def once(cls) -> "Op":
        """An operation that is never repeated after the update call."""
        return cls(new_id(), kind="once")

    @classmethod
    def handling(cls, envelope: Envelope, name: str) -> "Op":
        """The reaction ``name`` to one event. The name is stored: it stays when the handler is renamed."""
        return cls(f"{envelope.id}/{name}")


def request_op(subject: str, method: str, path: str, idempotency_key: str | None, request_hash: str) -> Op:
    """The operation of an HTTP command: the same for the same person, route and Idempotency-Key.

    Without a key, every request is an operation of its own. Quotes around the key are not part of it.
    """
    key = derived_id("http", subject, method, path, (idempotency_key or new_id()).strip('"'))
    return Op(key, request_hash, kind="command")
