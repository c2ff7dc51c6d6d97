"""What is asked of CBMC, in which order: programs of the model with some of its inputs left open."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct

from vfio_verify.prove.given import Bounds, Given, fields
from vfio_verify.subject.subject import Subject

SAME_REGION, SAME_DEVICE, OTHER_DEVICE = range(3)
SHAPES = {
    SAME_REGION: "another area of the region",
    SAME_DEVICE: "another region of the device",
    OTHER_DEVICE: "another device",
}
"""Where the second RAMBlock is, by ``VM_SHAPE``."""


class Part(Struct, frozen=True):
    """A program of the model's, and the clauses that it decides."""

    shape: int
    clauses: tuple[str, ...]
    segments: int
    calls: int = 1
    valid: bool = False
    """Whether it has only well-formed layouts of exactly so many segments."""

    @property
    def bounds(self) -> Bounds:
        return Bounds(segments=self.segments, calls=self.calls)

    def whole(self, given: Given) -> Given:
        """An input with what CBMC leaves out, since it is the same in all (``fix_shape()`` in cbmc.c) or has no part in
        what is asked."""
        fixed = {
            "region[0].device": 0,
            "region[1].device": self.shape == OTHER_DEVICE,
            "region[0].n_areas": 1 + (self.shape == SAME_REGION),
            "region[1].n_areas": 1,
            "block[1].region": self.shape != SAME_REGION,
            "block[1].area": self.shape == SAME_REGION,
            "second": self.calls > 1,
            **({"call[0].n": self.segments, "fault[0].used": 0} if self.valid else {}),
        }
        return dict.fromkeys(fields(self.bounds), 0) | given | {name: int(value) for name, value in fixed.items()}

    @property
    def name(self) -> str:
        """For the certificate."""
        which = f"{self.segments} segments, well-formed" if self.valid else f"up to {self.segments} segments"
        return f"{which}; {self.calls} calls; second block in {SHAPES[self.shape]}"


def plan(asked: Collection[str], segments: int, subject: Subject) -> Iterator[Part]:
    """The parts, those that take longest first; a small one before them, which soon refutes what maps nothing."""
    most = tuple(clause for clause in asked if clause not in ("ACCEPTS_VALID", "REPEATABLE"))
    if not subject.has_errp:
        most = tuple(clause for clause in most if clause != "ERROR_SET")
    accepts = [
        Part(shape, ("ACCEPTS_VALID",), n, valid=True)
        for n in range(segments, 0, -1)
        for shape in (SHAPES if n == 1 else (SAME_REGION,))
        if "ACCEPTS_VALID" in asked
    ]
    if accepts:
        accepts.insert(0, accepts.pop(-len(SHAPES)))
    twice = tuple(clause for clause in asked if clause in ("REPEATABLE", "SURVIVES"))
    again = [Part(OTHER_DEVICE, twice, 1, calls=2)] if twice else []
    whole = [Part(shape, most, segments) for shape in SHAPES if most]
    yield from (*whole[:1], *accepts[:1], *whole[1:], *again, *accepts[1:])
