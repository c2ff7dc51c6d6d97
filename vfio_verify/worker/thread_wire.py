"""Concurrent calls, as the world's memory holds them: the request, the reply, and the log that outlives a crash.

The layout is that of pyx/world/threads.c. The request holds an ordinary one, whose iovec is the first thread's.
"""

from __future__ import annotations

import struct
import zlib

from msgspec.structs import replace

from vfio_verify.values.case import Call, Case
from vfio_verify.values.observation import EVENT, STEPS, Death, Event, Observation, Taken, Threads
from vfio_verify.worker.wire import (
    NONE,
    RECORD_BYTES,
    DamageError,
    pack_layout,
    reading,
    segment_words,
    signed,
    unpack_head,
    unpack_record,
)

MAGIC = 0x3171726874696676

_REPLY = struct.Struct("=4Q")
_LOG = struct.Struct("=20Q")
_LOG_BYTES = 32 * 8
_SHOWN_STEPS = 4096
_SHIFT = 0x9E3779B97F4A7C15


def pack(case: Case, flags: int, rounds: int, attempt: int) -> bytes:
    """The request for a case with concurrent calls. Another attempt has other plans of who goes on when."""
    seed = (zlib.crc32(case.to_json()) + attempt * _SHIFT) % (1 << 64)
    parts = [struct.pack("=4Q", MAGIC, rounds, seed, 1 + len(case.concurrent)), pack_layout(case, flags, 0)]
    parts += map(_pack_call, case.concurrent)
    return b"".join(parts)


def _pack_call(call: Call) -> bytes:
    words = (len(call.iovec), call.total_size, *segment_words(call.iovec))
    return struct.pack(f"={len(words)}Q", *words)


def unpack(reply: memoryview, case: Case) -> Observation:
    """What was seen of all calls. Raises DamageError if the reply is damaged."""
    with reading():
        head = unpack_head(reply)
        n_threads, rounds, differs, n_records = _REPLY.unpack_from(reply, head.size)
        at = head.size + _REPLY.size
        calls = []
        for _ in range(n_records):
            seen, size = unpack_record(reply[at:], head, 0)
            calls.append(replace(seen, pages_after=signed(seen.pages_after), pages_end=signed(seen.pages_end)))
            at += max(size, RECORD_BYTES)
        if n_threads != 1 + len(case.concurrent) or len(calls) not in (n_threads, 2 * n_threads):
            raise DamageError("the worker's reply is damaged: other calls than were asked for")
        control, last = tuple(calls[:n_threads]), tuple(calls[-n_threads:])
        threads = _threads(reply, case, None if differs == NONE else differs)
    return Observation(
        mapped=last[0].mapped,
        base=last[0].base,
        block_hosts=head.hosts,
        device_fds=head.fds,
        pages_end=sum(abs(seen.pages_end) for seen in calls),
        threads=replace(threads, control=control, calls=last, rounds=rounds),
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
    log = reply[len(reply) // 2 // 4096 * 4096 :]
    n_threads, at_round, policy, dead, size, max_events, *rest = _LOG.unpack_from(log)
    holes, hole_thread, hole_start, hole_end, hole_at, hole_order = rest[:6]
    grabs, grab_thread, grab_start, grab_end, grab_at, grab_bytes, grab_order, clobbered = rest[6:]
    steps: list[tuple[int, int, Event]] = []
    if n_threads == 1 + len(case.concurrent) and max_events * (8 + EVENT.size) <= size <= len(log) // n_threads:
        for number in range(n_threads):
            start = _LOG_BYTES + number * size
            steps += _steps(log[start : start + size], number, max_events)
    steps.sort(key=lambda step: step[0])
    return Threads(
        rounds=at_round,
        round=differs,
        policy=policy,
        dead=None if dead == NONE else dead,
        hole=Taken(hole_thread, hole_start, hole_end, hole_at, 0, hole_order) if holes else None,
        grab=Taken(grab_thread, grab_start, grab_end, grab_at, grab_bytes, grab_order) if grabs else None,
        clobbered=clobbered,
        steps=tuple(steps),
        bases=_first_reservations(steps, n_threads),
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
