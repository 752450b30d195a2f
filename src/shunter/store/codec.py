"""How jobs and phases look in Redis: one text head that the scripts read, then JSON that only Python reads.

The head of a phase is `PHASE ATTEMPT ALLOCATION REV`. ALLOCATION is `-`, or the allocation's id, `@`, and for each
share, in rank order, the node's incarnation that it is on: `3.17@n1/0000000012,n2/0000000009`. Versions before this one
wrote the id alone; such a value is read like any other, but cannot be claimed (`claim.lua`), and leaders place it anew.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from shunter.domain.event import Event
from shunter.domain.ids import JobId
from shunter.domain.job import Job, Launch, Submission
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, Phase, allocation_id, phase_tag

_encode: Final = msgspec.json.Encoder().encode
_decode_phase: Final = msgspec.json.Decoder(Phase).decode
_decode_event: Final = msgspec.json.Decoder(Event).decode
_decode_job: Final = msgspec.json.Decoder(Job).decode
_decode_launch: Final = msgspec.json.Decoder(Launch).decode
_decode_node: Final = msgspec.json.Decoder(Node).decode


class Record(Struct, frozen=True):
    """A job's phase as stored: *rev* counts its transitions, from 1 at submission; *value* is the stored text."""

    phase: Phase
    rev: int
    value: bytes


def record(phase: Phase, rev: int) -> Record:
    """Return *phase* as it is stored at revision *rev*."""
    head = f"{phase_tag(phase)} {phase.attempt} {_allocation(phase)} {rev}\n"
    return Record(phase, rev, head.encode() + _encode(phase))


def _allocation(phase: Phase) -> str:
    if not isinstance(phase, HOLDS_GPUS):
        return allocation_id(phase)
    shares = ",".join(f"{share.node}/{share.incarnation}" for share in phase.allocation.shares)
    return f"{phase.allocation.id}@{shares}"


def names_shares(record: Record) -> bool:
    """Return whether the head of *record* says where its shares are, which versions before this one did not."""
    return b"@" in record.value.partition(b"\n")[0]


def read_record(value: bytes) -> Record:
    """Raises ValueError for text that no version of Shunter wrote."""
    head, _, body = value.partition(b"\n")
    return Record(_decode_phase(body), int(head.rpartition(b" ")[2]), value)


def write_spec(submission: Submission) -> tuple[bytes, bytes]:
    """Return (job JSON, launch JSON); their order in `specs` is job, newline, launch."""
    return _encode(submission.job), _encode(submission.launch)


def read_job(job_id: JobId, text: bytes) -> Job:
    return msgspec.structs.replace(_decode_job(text.partition(b"\n")[0]), id=job_id)


def read_launch(text: bytes) -> Launch:
    return _decode_launch(text.partition(b"\n")[2])


def write_event(event: Event) -> bytes:
    return _encode(event)


def read_event(text: bytes) -> Event:
    event: Event = _decode_event(text)
    return event


def write_node(node: Node) -> bytes:
    return _encode(node)


def read_node(text: bytes) -> Node:
    return _decode_node(text)


class Entry(Struct, frozen=True):
    """One entry of the event stream, decoded only as far as it is asked. *id* is `MS-N` by the store's clock.

    A job's entry has *job_id*, `event()`, `record()` and, at submission, `job()`; a node's or a leader's has *node*
    (the name) and *value* (what it says).
    """

    id: str
    kind: str
    job_id: JobId | None
    node: str
    value: bytes
    event_text: bytes
    spec_text: bytes

    @property
    def at_s(self) -> float:
        return int(self.id.partition("-")[0]) / 1000

    @property
    def rev(self) -> int:
        """The revision that the entry's transition led to."""
        return int(self.value.partition(b"\n")[0].rpartition(b" ")[2])

    def event(self) -> Event:
        return read_event(self.event_text)

    def record(self) -> Record:
        return read_record(self.value)

    def job(self) -> Job | None:
        return read_job(self.job_id, self.spec_text) if self.job_id is not None and self.spec_text else None


def read_entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """Return what is stored under *entry_id*; one that no version of Shunter wrote has a kind that nobody knows."""
    job_id = fields.get(b"j", b"")
    return Entry(
        entry_id.decode(),
        fields.get(b"k", b"").decode(errors="replace"),
        JobId(int(job_id)) if job_id.isdigit() else None,
        fields.get(b"n", b"").decode(errors="replace"),
        fields.get(b"v", b""),
        fields.get(b"e", b""),
        fields.get(b"s", b""),
    )


def pairs(flat: list[Any]) -> dict[Any, Any]:
    """Return a dict of a flat [key, value, ...] reply (RESP2)."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
