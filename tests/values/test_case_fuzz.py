"""Case files that nobody wrote: whatever they hold, they are read whole or refused in a sentence.

As `test_request_fuzz.py` does with what a worker is sent. `HYPOTHESIS_PROFILE=nightly` tries thousands.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import changed, places
from places import TESTS

from vfio_verify.corpus.entry import read_entry
from vfio_verify.errors import HarnessError, InputError
from vfio_verify.report import drawing
from vfio_verify.values.case import Case
from vfio_verify.values.case import check as check_values
from vfio_verify.values.features import features
from vfio_verify.values.model import expect
from vfio_verify.worker import wire
from vfio_verify.worker.worker import Worker

KEPT = [path.read_bytes() for path in sorted((TESTS / "corpus").glob("*.json"))]
MANY = max(300, settings.default.max_examples if settings.default else 0)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 64, 256, 4095, 4096, 4097, 65536, 2**31, 2**32, 2**40, 2**63, 2**64 - 1])
LARGE = st.sampled_from([2**64, -(2**63) - 1, 10**400, 0.5, 1e300])
ODD = st.sampled_from(
    [None, True, "", "x", "\x1b[31m\n::error::", [], {}, [[]], "\ud800", "late", "mmap", "vfio-verify/case@1"]
)
JUNK = st.one_of(NUMBERS, LARGE, ODD)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    value = json.loads(draw(st.sampled_from(KEPT)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))))
        value = changed(value, path, draw(st.sampled_from(["replace", "replace", "remove", "repeat"])), draw(JUNK))
    return json.dumps(value).encode()


@st.composite
def damaged_texts(draw: st.DrawFn) -> bytes:
    text = bytearray(draw(st.sampled_from(KEPT)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text) - 1))
        text[at : at + draw(st.integers(0, 8))] = draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b"{" * 3000, b"[" * 3000]))
        )
    return bytes(text)


def read(data: bytes) -> Case | None:
    """As the commands read one; None if it is refused: any other exception would be a traceback."""
    with contextlib.suppress(InputError):
        case = read_entry(data, "a file").case
        check_values(case)
        return case
    return None


@settings(max_examples=MANY, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.one_of(documents(), damaged_texts()))
def test_a_case_is_read_whole_or_refused(data: bytes) -> None:
    case = read(data)
    if case is None:
        return
    assert read(case.to_json()) == case
    expect(case)
    assert features(case)
    for entry_line in drawing.shown(read_entry(data, "a file")):
        assert entry_line.isascii()
        assert entry_line.isprintable()
    assert len(wire.pack_request(case, [case.fault_plan], 0)) % 8 == 0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@settings(max_examples=MANY // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=documents())
def test_a_case_that_is_read_can_be_run_or_the_machine_says_why_not(worker: Worker, data: bytes) -> None:
    case = read(data)
    if case is None or case.concurrent:
        return
    with contextlib.suppress(HarnessError):
        assert all(seen.death is None for seen in worker.run(case))  # of the core
