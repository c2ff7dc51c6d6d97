"""Concurrent calls, as the world's memory holds them: the request, the reply, and the log that outlives a crash.

The request holds an ordinary one, whose iovec is the first thread's.
"""

from __future__ import annotations

import struct
import zlib

from msgspec.structs import replace

from vfio_verify.values.case import Case
from vfio_verify.values.observation import EVENT, STEPS, Death, Event, Observation, Taken, Threads
from vfio_verify.worker import native
from vfio_verify.worker.wire import (
    DamageError,
    pack_layout,
    reading,
    segment_words,
    signed,
    unpack_head,
    unpack_record,
)

_SHOWN_STEPS = 4096
_SHIFT = 0x9E3779B97F4A7C15


def pack(case: Case, flags: int, rounds: int, attempt: int) -> bytes:
    """The request for a case with concurrent calls. Another attempt has other plans of who goes on when."""
    seed = (zlib.crc32(case.to_json()) + attempt * _SHIFT) % (1 << 64)
    head = native.ThreadsHead(magic=native.THREADS_MAGIC, rounds=rounds, seed=seed, n_calls=1 + len(case.concurrent))
    calls = (native.pack_words((len(c.iovec), c.total_size, *segment_words(c.iovec))) for c in case.concurrent)
    return b"".join((native.pack_words(head), pack_layout(case, flags, 0), *calls))


def unpack(reply: memoryview, case: Case) -> Observation:
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
        threads = _threads(reply, case, None if told.differs == native.NONE else told.differs)
    return Observation(
        mapped=last[0].mapped,
        base=last[0].base,
        block_hosts=head.hosts,
        device_fds=head.fds,
        pages_end=sum(abs(seen.pages_end) for seen in calls),
        threads=replace(threads, control=control, calls=last, rounds=told.rounds),
    )


def unfinished(reply: memoryview, case: Case, death: Death) -> Observation:
    """What is known when the process died in the middle of a round."""
    head = unpack_head(reply)
    threads = _threads(reply, case, None)
    return Observation(
        mapped=False,
        death=death,
        block_hosts=head.hosts,
        device_fds=head.fds,
        threads=replace(threads, round=threads.rounds, rounds=threads.rounds + 1),
    )


def _threads(reply: memoryview, case: Case, differs: int | None) -> Threads:
    data = reply[len(reply) // 2 // 4096 * 4096 :]
    log = native.Log._make(native.LOG.unpack_from(data))
    hole = Taken(log.hole_thread, log.hole_start, log.hole_end, at=log.hole_at, length=0, order=log.hole_order)
    at, length = log.grab_at, log.grab_bytes
    grab = Taken(log.grab_thread, log.grab_start, log.grab_end, at=at, length=length, order=log.grab_order)
    steps: list[tuple[int, int, Event]] = []
    fits = log.max_events * (8 + EVENT.size) <= log.slice <= len(data) // max(log.n_threads, 1)
    if log.n_threads == 1 + len(case.concurrent) and fits:
        for number in range(log.n_threads):
            start = native.LOG_BYTES + number * log.slice
            steps += _steps(data[start : start + log.slice], number, log.max_events)
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


def _steps(log: memoryview, number: int, max_events: int) -> list[tuple[int, int, Event]]:
    orders = struct.unpack_from(f"={min(max_events, _SHOWN_STEPS)}Q", log)
    steps = []
    for i, order in enumerate(orders):
        event = Event._make(EVENT.unpack_from(log, max_events * 8 + i * EVENT.size)) if order else None
        # The subject may have written there: what cannot be a step ends the trace.
        if event is None or event.step >= len(STEPS):
            break
        steps.append((order, number, event))
    return steps


def _first_reservations(steps: list[tuple[int, int, Event]], n_threads: int) -> tuple[int, ...]:
    bases = [0] * min(n_threads, 64)
    for _, number, event in steps:
        if event.step == 0 and not event.errno and not bases[number]:
            bases[number] = event.result
    return tuple(bases)
