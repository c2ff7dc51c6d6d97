"""How a worker ended, and what is known of the run in which it did, as its parent and its memory tell."""

from __future__ import annotations

import functools
import itertools
import operator
import os
import signal

from msgspec.structs import replace

from vfio_verify.values.case import PAGE
from vfio_verify.values.observation import DEATH_CODES, EVENT, NOWHERE, STEPS, Death, Event, Observation
from vfio_verify.worker import native, wire
from vfio_verify.worker.answers import End, Kind
from vfio_verify.worker.memory import SharedMemory

_SHOWN_EVENTS = 4096
_NEAR_NULL = 1 << 16
_HOW = {Kind.HANG: "hang", Kind.STOPPED: "stop", Kind.TOO_MUCH: "excess"}


def death(kind: Kind, memory: SharedMemory, *, status: int = 0, note: str = "") -> Death:
    """How the worker ended, and where its subject's code was then. `status` is the wait status of one that ended by
    itself, `note` what another one took too much of."""
    if kind.damage:
        return Death("damage", note=kind.damage)
    seen = _by_itself(status, memory) if kind is Kind.BY_ITSELF else Death(_HOW.get(kind, "damage"), note=note)
    places = memory.places()
    return replace(
        seen,
        frames=places.frames,
        error_at=tuple(at for at in places.error_at if at not in (0, NOWHERE)),
        code=DEATH_CODES.get(places.death_code, "") if seen.how == "abort" else "",
    )


def _by_itself(status: int, memory: SharedMemory) -> Death:
    if not os.WIFSIGNALED(status):
        return Death("exit", status=os.waitstatus_to_exitcode(status))
    number, progress = os.WTERMSIG(status), memory.progress()
    if number == signal.SIGABRT and (note := memory.note()):
        return Death("abort", signal=number, note=note)
    return Death("signal", signal=number, note=_address_text(progress, memory) if progress.signal == number else "")


def _address_text(progress: native.Progress, memory: SharedMemory) -> str:
    """Where a signal came from, as far as it is the same in every run."""
    address = progress.signal_address
    if address == native.NONE:
        return "at no valid address: an uninitialised pointer?"
    if address < _NEAR_NULL:
        return f"at NULL + {address:#x}" if address else "at NULL"
    if 0 <= address - progress.iov_end < PAGE:
        return "just past the end of the iovec"
    hosts = wire.unpack_head(memory.reply(wire.HEAD_BYTES)).hosts
    if any(host <= address < host + (1 << 40) for host in hosts):
        return "in or near a RAM block"
    return "elsewhere"


def bytes_left(progress: native.Progress) -> int:
    """How long a reply is with the record that was begun at its end."""
    begun = native.RECORD.size + min(progress.n_events, _SHOWN_EVENTS) * EVENT.size
    return max(wire.HEAD_BYTES, progress.reply_bytes + begun)


def unfinished(end: End) -> Observation:
    """What is known of the run in which a worker ended."""
    at = end.progress.reply_bytes + native.RECORD.size
    events = bytes(end.data[at : at + min(end.progress.n_events, _SHOWN_EVENTS) * EVENT.size])
    whole = EVENT.iter_unpack(events[: len(events) // EVENT.size * EVENT.size])
    # The subject may have written there: what cannot be a step ends the trace.
    trace = list(itertools.takewhile(lambda event: event.step < len(STEPS), map(Event._make, whole)))
    if end.kind.damage:
        trace = []
    head = wire.unpack_head(end.data)
    return Observation(
        mapped=False,
        base=end.progress.reservation,
        events=events[: len(trace) * EVENT.size],
        flags_union=functools.reduce(operator.or_, (event.flags for event in trace), 0),
        counts=tuple(sum(event.step == step for event in trace) for step in range(len(STEPS))),
        death=end.death,
        block_hosts=head.hosts,
        device_fds=head.fds,
    )
