"""What is asked of CBMC, in which order: programs of the model with some of its inputs left open."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct

from vfio_verify.prove.given import Bounds, Given, fields
from vfio_verify.prove.proof import provable
from vfio_verify.subject.subject import Subject
from vfio_verify.values.words import number_of

SAME_REGION, SAME_DEVICE, OTHER_DEVICE = range(3)
SHAPES = {
    SAME_REGION: "another area of the region",
    SAME_DEVICE: "another region of the device",
    OTHER_DEVICE: "another device",
}
"""Where the second RAMBlock is, by ``enum vm_shape``."""
ANY = 2**32 - 1
"""As many segments as there may be: ``VM_ANY``."""


class Part(Struct, frozen=True):
    """A program of the model's, and the clauses that it decides."""

    shape: int
    clauses: tuple[str, ...]
    segments: int
    """Of the call, which has exactly so many; each of two calls has so many at most."""
    calls: int = 1
    valid: bool = False
    """Whether the last call has well-formed layouts only, of exactly so many segments, and is judged by ACCEPTS_VALID
    alone. Otherwise a second one is judged by all the other clauses."""

    @property
    def bounds(self) -> Bounds:
        return Bounds(segments=max(1, self.segments), calls=self.calls)

    @property
    def unsaid(self) -> frozenset[str]:
        """What REPEATABLE does not say of a second call, since another part does."""
        accepts = frozenset({"ACCEPTS_VALID"})
        return (frozenset(provable()) - accepts if self.valid else accepts) if self.calls > 1 else frozenset()

    @property
    def question(self) -> dict[str, int]:
        """Fields of ``struct vm_question``: what is asked, where `bounds` say of which model."""
        return {
            "shape": self.shape,
            "exactly": self.segments if self.calls == 1 else ANY,
            "valid": self.segments if self.valid else 0,
            "aligned": self.valid or self.calls > 1,
        }

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
        }
        if self.valid:
            fixed[f"call[{self.calls - 1}].n"] = self.segments
        if self.calls == 1:
            fixed["call[0].n"] = self.segments
            fixed |= {"fault[0].used": 0} if self.valid else {}
        return dict.fromkeys(fields(self.bounds), 0) | given | {name: int(value) for name, value in fixed.items()}

    @property
    def name(self) -> str:
        """For the certificate."""
        each = "up to " if self.calls > 1 and not self.valid else ""
        segments = f"{each}{number_of(self.segments, 'segment')}{', well-formed' * self.valid}"
        return f"{number_of(self.calls, 'call')}; {segments}; second block in {SHAPES[self.shape]}"


def plan(asked: Collection[str], segments: int, subject: Subject) -> Iterator[Part]:
    """The parts, those that take longest first; small ones before them, which soon refute most."""
    most = tuple(clause for clause in asked if clause not in ("ACCEPTS_VALID", "REPEATABLE"))
    if not subject.has_errp:
        most = tuple(clause for clause in most if clause != "ERROR_SET")
    twice = tuple(clause for clause in asked if clause in ("REPEATABLE", "SURVIVES"))
    parts = []
    for n in range(segments, 0, -1):
        if most:
            parts += [Part(shape, most, n) for shape in SHAPES]
        if "ACCEPTS_VALID" in asked:
            shapes = SHAPES if n == 1 else (SAME_REGION,)
            parts += [Part(shape, ("ACCEPTS_VALID",), n, valid=True) for shape in shapes]
    small = [part for part in parts if (part.segments, part.shape) == (1, SAME_REGION)]
    yield from small
    if "REPEATABLE" in asked:
        yield Part(OTHER_DEVICE, ("REPEATABLE",), 1, calls=2, valid=True)
    if twice:
        yield Part(OTHER_DEVICE, twice, 1, calls=2)
    yield from (part for part in parts if part not in small)
    if most:
        yield Part(SAME_REGION, most, 0)
