"""Cases read from blocks of bytes, for campaigns of many thousands: ten times as fast as drawing them by Hypothesis.

They are the same cases, made from the same decisions (vfio_verify/generate/layouts.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from vfio_verify.generate.layouts import OTHER_HOSTS, any_case, any_layout, on_host, well_formed
from vfio_verify.generate.sequences import with_sequence
from vfio_verify.values.case import Case

CASE_BYTES = 160
SEQUENCE_BYTES = 512

_ELSEWHERE = 7
"""One layout in so many is on another host than ours."""


class _Decoded:
    """Choices read from bytes. Where the bytes end, the simplest follow."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def integer(self, low: int, high: int) -> int:
        span = high - low + 1
        width = 1 if span <= 256 else 8
        word = self._data[self._at : self._at + width]
        self._at += width
        return low + int.from_bytes(word, "little") % span


def packed_case(data: bytes) -> Case:
    """The case that `CASE_BYTES` of data say."""
    return any_case(_Decoded(data))


def packed_sequence(case: Case, data: bytes) -> Case:
    """A case with actions after its call, made from `SEQUENCE_BYTES` of data."""
    return with_sequence(_Decoded(data), case)


def packed_cases(seed: int, examples: int) -> Iterator[Case]:
    """So many packed cases, the simplest first. The same seed makes the same cases.

    Those on another host than ours come last, those of a host together: a process stays on one host, and what fills up
    in it is to be seen. The first on each host is well-formed.
    """
    bits = random.Random(seed)
    elsewhere = examples // _ELSEWHERE
    for number in range(examples - elsewhere):
        yield any_layout(_Decoded(bits.randbytes(CASE_BYTES) if number else bytes(CASE_BYTES)))
    hosts = min(len(OTHER_HOSTS), elsewhere)
    for host in range(hosts):
        of_host = (host + 1) * elsewhere // hosts - host * elsewhere // hosts
        for number in range(of_host):
            choices = _Decoded(bits.randbytes(CASE_BYTES))
            case = any_layout(choices) if number else well_formed(choices)
            # A seed has each host as the first.
            yield on_host(choices, case, OTHER_HOSTS[(seed + host) % len(OTHER_HOSTS)])
