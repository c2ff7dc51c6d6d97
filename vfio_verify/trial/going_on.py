"""Finds the conventions under which a subject goes on that maps nothing in QEMU's own world."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from vfio_verify.trial.hangs import hung
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import PAGE, Area, Case, Device, RamBlock, Region, Segment, in_world
from vfio_verify.values.conventions import conventions


def _layout(region: Region, *segments: tuple[int, int], region_fds: bool = False) -> Case:
    """Segments of the region's last mmap area: each its first page, and how many it has."""
    iovec = tuple(Segment(0, first * PAGE, pages * PAGE) for first, pages in segments)
    block = RamBlock(0, region.index, len(region.mmap_areas()) - 1)
    return Case((Device((region,), region_fds=region_fds),), (block,), iovec, sum(s.length for s in iovec))


_LAYOUTS = (
    _layout(Region(0, PAGE), (0, 1)),
    _layout(Region(2, 16 * PAGE), (0, 16)),
    _layout(Region(0, 4 * PAGE), (0, 1), (2, 2)),
    _layout(Region(2, 4 * PAGE), (3, 1), (0, 2), (3, 1)),
    _layout(Region(0, 8 * PAGE, (Area(0, PAGE), Area(4 * PAGE, 4 * PAGE))), (1, 2)),
    _layout(Region(0, 2 * PAGE), (0, 2), region_fds=True),
)
"""Well-formed layouts, of which a subject that goes on maps one at least."""


def goes_on(runner: Runner, assume: tuple[str, ...]) -> bool:
    """Whether the subject maps something in a world with these conventions, which are QEMU's own where there are
    none."""
    runner.worker.renew()
    runner.worker.hurry(on=True)
    try:
        for case in _LAYOUTS:
            (seen,) = runner.worker.run(in_world(runner.subject.adapt(case), assume))
            if seen.mapped or hung(seen):
                return seen.mapped
        return False
    finally:
        runner.worker.hurry(on=False)


def found_conventions(runner: Runner) -> tuple[str, ...] | None:
    """The fewest conventions under which the subject goes on, and of as many the first ones of the document; None where
    there are none, and where it needs none: it refuses what it does for another reason then."""
    if goes_on(runner, ()):
        return None
    return next((assume for assume in _combinations() if goes_on(runner, assume)), None)


def _combinations() -> Iterator[tuple[str, ...]]:
    known = conventions()
    for number in range(1, len(known) + 1):
        for assume in itertools.combinations(known, number):
            if len({known[one].name for one in assume}) == number:
                yield assume
