"""Lists of more entries than are drawn: as many as virtio-gpu takes, and as a world holds.

Nothing but virtio-gpu's limit of 16,384 bounds what a caller of such a helper may pass. A run of one takes a second,
so each is met once in a campaign, and under few faults (vfio_verify/generate/sweep.py).
"""

from __future__ import annotations

from pathlib import Path

from vfio_verify.values.case import MAX_SEGMENTS, PAGE, Case, Device, RamBlock, Region, Segment

_OWN_MAPPINGS = 1024
"""What the process has besides, with room to spare."""
_LISTS = {2: (1025, 1), 3: (16_384, 1), 4: (MAX_SEGMENTS, 16)}
"""By the shard that begins with it: how many entries, and how many neighbours at least are one mapping."""


def long_list(shard: int) -> Case | None:
    """The long list with which the shard of this number begins, if it does with one."""
    if shard not in _LISTS:
        return None
    count, neighbours = _LISTS[shard]
    return list_of(count, max(neighbours, fewest_neighbours(count, max_map_count())))


def list_of(count: int, neighbours: int) -> Case:
    """A well-formed list of so many pages, of which each `neighbours` continue each other and are one mapping."""
    pages = tuple(i + i // neighbours for i in range(count))
    region = Region(1, (pages[-1] + 1) * PAGE)
    iovec = tuple(Segment(0, page * PAGE, PAGE) for page in pages)
    return Case((Device((region,)),), (RamBlock(0, 1, 0),), iovec, count * PAGE)


def fewest_neighbours(count: int, limit: int) -> int:
    """How many entries one mapping must be of, so that two times `count` entries fit into `limit` mappings."""
    room = max((limit - _OWN_MAPPINGS) // 2, 1)
    return -(-count // room)


def limited(limit: int) -> str | None:
    """What a report says where the longest lists are made of more neighbours than elsewhere."""
    dense = [f"{count:,}" for count, neighbours in _LISTS.values() if fewest_neighbours(count, limit) > neighbours]
    if not dense:
        return None
    lists = f"Lists of {' and '.join(dense)} entries had"
    return f"{lists} more neighbours that are one mapping than elsewhere: vm.max_map_count is {limit:,} here."


def max_map_count() -> int:
    """How many mappings a process may have here."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return 65_530
