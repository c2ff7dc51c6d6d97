"""Concurrent calls, as the world's memory holds them: the request, the reply, and the log that outlives a crash.

The request holds an ordinary one, whose iovec is the first thread's.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable

from msgspec.structs import replace

from vfio_verify.values.case import Case
from vfio_verify.values.observation import EVENT, STEPS, Event, Observation, Taken, Threads
from vfio_verify.worker import native
from vfio_verify.worker.answers import End
from vfio_verify.worker.wire import (
    DamageError,
    pack_layout,
    reading,
    segment_words,
    signed,
    unpack_head,
    unpack_record,
)

ReadLog = Callable[[int, int], bytes]
"""Reads so many bytes of the log, from an offset on: `SharedMemory.log`."""

_SHOWN_STEPS = 4096
_SHIFT = 0x9E3779B97F4A7C15


def pack(case: Case, flags: int, rounds: int, attempt: int) -> bytes:
    """The request for a case with concurrent calls. Another attempt has other plans of who goes on when."""
    seed = (zlib.crc32(case.to_json()) + attempt * _SHIFT) % (1 << 64)
    head = native.ThreadsHead(magic=native.THREADS_MAGIC, rounds=rounds, seed=seed, n_calls=1 + len(case.concurrent))
    calls = (native.pack_words((len(c.iovec), c.total_size, *segment_words(c.iovec))) for c in case.concurrent)
    return b"".join((native.pack_words(head), pack_layout(case, flags, 0), *calls))


def unpack(reply: memoryview, read_log: ReadLog, case: Case) -> Observation:
    """What was seen of all calls. Raises DamageError if the reply is damaged."""
    with reading():
        head = unpack_head(reply)
        told = native.ThreadsReply._make(native.THREADS_REPLY.unpack_from(reply, head.size))
        at = head.size + native.THREADS_REPLY.size
        calls = []
        for _ in range(told.n_records):
            seen, size = unpack_record(reply[at:], head, 0)
            calls.append(replace(seen, pages_after=signed(seen.pages_after), pages_end=signed(seen.pages_end)))
            at += max(size, native.RECORD.size)
        n_threads = 1 + len(case.concurrent)
        if told.n_threads != n_threads or len(calls) not in (n_threads, 2 * n_threads):
            raise DamageError("the worker's reply is damaged: other calls than were asked for")
        control, last = tuple(calls[:n_threads]), tuple(calls[-n_threads:])
        threads = _threads(read_log, case, None if told.differs == native.NONE else told.differs)
    return Observation(
        mapped=last[0].mapped,
        base=last[0].base,
        block_hosts=head.hosts,
        device_fds=head.fds,
        pages_end=sum(abs(seen.pages_end) for seen in calls),
        threads=replace(threads, control=control, calls=last, rounds=told.rounds),
    )


def unfinished(end: End, read_log: ReadLog, case: Case) -> Observation:
    """What is known when the process died in the middle of a round."""
    head = unpack_head(end.data)
    threads = _threads(read_log, case, None)
    return Observation(
        mapped=False,
        death=end.death,
        block_hosts=head.hosts,
        device_fds=head.fds,
        threads=replace(threads, round=threads.rounds, rounds=threads.rounds + 1),
    )


def _threads(read_log: ReadLog, case: Case, differs: int | None) -> Threads:
    log = native.Log._make(native.LOG.unpack(read_log(0, native.LOG.size)))
    hole = Taken(log.hole_thread, log.hole_start, log.hole_end, at=log.hole_at, length=0, order=log.hole_order)
    at, length = log.grab_at, log.grab_bytes
    grab = Taken(log.grab_thread, log.grab_start, log.grab_end, at=at, length=length, order=log.grab_order)
    steps: list[tuple[int, int, Event]] = []
    fits = log.max_events * (8 + EVENT.size) <= log.slice <= native.LOG_AT // max(log.n_threads, 1)
    if log.n_threads == 1 + len(case.concurrent) and fits:
        for number in range(log.n_threads):
            steps += _steps(read_log, native.LOG_BYTES + number * log.slice, number, log.max_events)
    steps.sort(key=lambda step: step[0])
    return Threads(
        rounds=log.round,
        round=differs,
        policy=log.policy,
        dead=None if log.dead == native.NONE else log.dead,
        hole=hole if log.holes else None,
        grab=grab if log.grabs else None,
        clobbered=log.clobbered,
        steps=tuple(steps),
        bases=_first_reservations(steps, log.n_threads),
    )


def _steps(read_log: ReadLog, start: int, number: int, max_events: int) -> list[tuple[int, int, Event]]:
    shown = min(max_events, _SHOWN_STEPS)
    orders = list(itertools.takewhile(bool, struct.unpack(f"={shown}Q", read_log(start, shown * 8))))
    events = map(Event._make, EVENT.iter_unpack(read_log(start + max_events * 8, len(orders) * EVENT.size)))
    # The subject may have written there: what cannot be a step ends the trace.
    known = itertools.takewhile(lambda event: event.step < len(STEPS), events)
    return [(order, number, event) for order, event in zip(orders, known, strict=False)]


def _first_reservations(steps: list[tuple[int, int, Event]], n_threads: int) -> tuple[int, ...]:
    bases = [0] * min(n_threads, 64)
    for _, number, event in steps:
        if event.step == 0 and not event.errno and not bases[number]:
            bases[number] = event.result
    return tuple(bases)
