"""Requests that no parent sends: whatever they hold, the world answers and lives, and reads nothing outside of them.

Under `tox -e asan` a read past a request's end, or a write past a reply's, ends the process that made it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import vfio_verify
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.worker.native import PARSE_MAPS, REQUEST_MAGIC, TWICE
from vfio_verify.worker.wire import pack_request

REPLY = 8 << 20
HEAD_WORDS = 10
COUNTS = range(2, 8)  # devices, regions, areas, blocks, segments, plans: words of a request's head
BAD_REQUEST = errno.EBADMSG
ANSWERED, REFUSED = 0, 1

SERVER = """
import struct, sys
sys.path.insert(0, sys.argv[1])
from vfio_verify import _world
_world.use_core()
ask, answer = sys.stdin.buffer, sys.stdout.buffer
while head := ask.read(16):
    size, room = struct.unpack("=2Q", head)
    try:
        reply, finished, _ = _world.run(ask.read(size), room)
        words = (0, finished, len(reply))
    except OSError as error:
        words = (1, error.errno, 0)
    answer.write(struct.pack("=3Q", *words))
    answer.flush()
"""


class World:
    """A process that runs requests on the core, replaced when it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def run(self, request: bytes, room: int = REPLY) -> tuple[int, int, int]:
        """(ANSWERED, finished runs, bytes of the reply), or (REFUSED, errno, 0)."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVER, str(Path(vfio_verify.__file__).parent.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Each request is a block of its own, so that a sanitizer knows where it ends.
                env=os.environ | {"PYTHONMALLOC": "malloc"},
            )
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(struct.pack("=2Q", len(request), room) + request)
            self._process.stdin.flush()
        answer = self._process.stdout.read(24)
        if len(answer) != 24:
            raise AssertionError(f"the world ended, with status {self._end()}, on {request.hex()}")
        kind, value, size = struct.unpack("=3Q", answer)
        return kind, value, size


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def real_requests() -> list[bytes]:
    """Every array is in use: sparse and whole regions, two devices, plain RAM, nowhere, faults early and late."""
    devices = (
        Device((Region(0, 8 * PAGE), Region(2, 64 * PAGE, areas=(Area(0, 4 * PAGE), Area(8 * PAGE, 8 * PAGE))))),
        Device((Region(1, 16 * PAGE, writable=False),), mmap_rule="areas"),
    )
    blocks = (RamBlock(0, 2, 0), RamBlock(0, 2, 1), RamBlock(1, 1, 0), RamBlock(size=4 * PAGE))
    faults = (Fault("mmap", 2, "ENOMEM", "late"), Fault("find_block", 1, persistent=True))
    shapes = [
        (Segment(1, 0, PAGE), Segment(1, 4 * PAGE, 2 * PAGE)),
        (Segment(0, 0, 4 * PAGE),),
        (Segment(2, PAGE, PAGE), Segment(2, PAGE, PAGE), Segment(2, 0, 100)),
        (Segment(3, 0, PAGE), Segment(None, 0, PAGE)),
        (),
    ]
    return [
        pack_request(Case(devices, blocks, iovec, sum(part.length for part in iovec)), plans, flags)
        for iovec in shapes
        for plans, flags in (([(), faults], TWICE), ([faults[:1], ()], PARSE_MAPS), ([()], 0))
    ]


REAL = real_requests()
FAR = st.sampled_from(
    [0, 1, 2, 255, 256, 4095, 4096, 65536, 65537, *(1 << n for n in (31, 32, 40, 43, 47, 60, 61, 63))]
)
WORDS = st.one_of(
    st.integers(0, 8),
    FAR,
    FAR.map(lambda word: -word % (1 << 64)),
    st.integers(0, (1 << 64) - 1),
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("bit"), st.integers(0), st.integers(0, 63)),
        st.tuples(st.just("word"), st.integers(0), WORDS),
        st.tuples(st.just("count"), st.sampled_from(COUNTS), WORDS),
        st.tuples(st.just("drop"), st.integers(0), st.integers(1, 6)),
        st.tuples(st.just("again"), st.integers(0), st.integers(1, 6)),
        st.tuples(st.just("cut"), st.integers(0), st.just(0)),
    ),
    min_size=1,
    max_size=4,
)


def changed(request: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """A request after bits were turned, words replaced, left out or repeated, or its end cut off."""
    for kind, where, value in changes:
        words = list(struct.unpack(f"={len(request) // 8}Q", request[: len(request) // 8 * 8]))
        at = where % max(len(words), 1)
        if kind == "cut":
            request = request[: where % (len(request) + 1)]
            continue
        if not words:
            continue
        if kind == "bit":
            words[at] ^= 1 << value
        elif kind in ("word", "count"):
            words[at] = value
        elif kind == "drop":
            del words[at : at + value]
        else:
            words[at:at] = words[at : at + value]
        request = struct.pack(f"={len(words)}Q", *words)
    return request


@given(st.sampled_from(REAL), CHANGES)
@example(REAL[0], [("count", 6, 1 << 61)])  # times 24 bytes: wraps to nothing
@example(REAL[9], [("word", HEAD_WORDS + 2 * 2 + 3 * 5 + 3 * 4 + 2 * 4 + 3 + 1, (1 << 64) - PAGE)])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_request_ends_the_world(world: World, real: bytes, changes: list[tuple[str, int, int]]) -> None:
    kind, value, size = world.run(changed(real, changes))
    assert kind == ANSWERED or value in errno.errorcode
    assert size <= REPLY


@pytest.mark.parametrize("number", range(len(REAL)))
def test_a_request_cut_short_is_a_bad_message(world: World, number: int) -> None:
    """A plan that is cut off is one, too, and so is what ends within a word."""
    request = REAL[number]
    kind, finished, _ = world.run(request)
    assert (kind, finished) == (ANSWERED, struct.unpack_from("=Q", request, 7 * 8)[0])
    for end in (*range(0, len(request), 8), len(request) - 1):
        assert world.run(request[:end]) == (REFUSED, BAD_REQUEST, 0), end


@pytest.mark.parametrize("position", COUNTS)
@pytest.mark.parametrize("count", [257, 65537, 1 << 32, 1 << 61, (1 << 61) + 1, (1 << 64) - 1])
def test_a_count_beyond_what_the_request_holds_is_a_bad_message(world: World, position: int, count: int) -> None:
    words = bytearray(REAL[0])
    struct.pack_into("=Q", words, 8 * position, count)
    assert world.run(bytes(words)) == (REFUSED, BAD_REQUEST, 0)


@pytest.mark.parametrize("room", [0, 1, 8, 48, 79, 80, 4096, 1 << 20])
def test_a_reply_without_room_for_a_run_holds_none(world: World, room: int) -> None:
    kind, value, size = world.run(REAL[0], room)
    assert size <= room
    assert (kind, value) in ((ANSWERED, 0), (REFUSED, errno.ENOBUFS))


def test_what_is_no_request_is_a_bad_message(world: World) -> None:
    for request in (b"", b"\0", bytes(80), struct.pack("=10Q", REQUEST_MAGIC + 1, *bytes(9))):
        assert world.run(request) == (REFUSED, BAD_REQUEST, 0)
