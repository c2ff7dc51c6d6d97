"""Which file the memory of a region lies in, and where: the numbers by which the world, the model and reports name it.

A number below 15 is that of a device whose regions lie in one file; from `FIRST_FILE` on they are those of regions that
have a file of their own, counted in the order of the case. The numbers are those of ``enum vv_memory`` in
pyx/world/base/base.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vfio_verify.values.case import FIRST_FILE, MAX_DEVICES, REGION_SHIFT, Case, Region


class Backing(NamedTuple):
    """A region, the number of the file that it lies in, and the offset at which it begins there."""

    device: int
    region: Region
    memory: int
    offset: int


def backings(case: Case) -> Iterator[Backing]:
    """The backings of all regions of a case, in its order."""
    own_files = 0
    for number, device in enumerate(case.devices):
        for region in device.regions:
            if device.region_files:
                yield Backing(number, region, FIRST_FILE + own_files, region.offset or 0)
                own_files += 1
            else:
                usual = region.index << REGION_SHIFT
                yield Backing(number, region, number, usual if region.offset is None else region.offset)


def backing(case: Case, device: int, index: int) -> Backing:
    """The backing of one region, which the case has."""
    return next(b for b in backings(case) if b.device == device and b.region.index == index)


def memory_of(slot: int) -> int:
    """The number of a file by its place among those of the world: the devices', then those of regions."""
    return slot if slot < MAX_DEVICES else FIRST_FILE + slot - MAX_DEVICES


def region_at(case: Case, memory: int, offset: int) -> tuple[int, int, int] | None:
    """Whose memory a place in a file is: the device, the index of its region, and the offset in that; None if it lies
    in no region."""
    for device, region, own_memory, start in backings(case):
        pages = -(-region.size // case.page_size)
        if own_memory == memory and 0 <= offset - start < pages * case.page_size:
            return device, region.index, offset - start
    return None
