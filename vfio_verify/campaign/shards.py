"""Which shards a campaign is cut into, and which layouts each of them begins with.

A shard's seed and size follow from the campaign's alone, so the result is the same with any number of jobs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.campaign.options import Options
from vfio_verify.generate.layouts import ends_past_4_gib, larger_than, off_by_4_gib, sums_past_4_gib
from vfio_verify.generate.long_lists import long_list
from vfio_verify.generate.malformed import malformed
from vfio_verify.values.case import Case

_FIRST_SIZES, _SIZE, _LAST_SIZE = (10, 40, 100, 100), 250, 80
_MALFORMED = {1: (0, 19), 2: (19, None)}
"""Which of the malformed layouts a shard has, by its number."""


class Shard(Struct, frozen=True):
    """A part of a campaign: so many layouts, from a seed of its own."""

    number: int
    seed: int
    examples: int


def shards(options: Options) -> Iterator[Shard]:
    """The first shards are small, so that a subject that fails often is known to fail soon. The last ones are small so
    that several processes end at about the same time."""
    left = options.examples
    for number in itertools.count():
        if left <= 0:
            return
        whole = whole_shard(options.seed, number)
        size = whole.examples if number < len(_FIRST_SIZES) else min(whole.examples, max(_LAST_SIZE, left // 3))
        yield replace(whole, examples=min(size, left))
        left -= size


def whole_shard(seed: int, number: int) -> Shard:
    """A shard of the campaign with this seed, as if it had no end."""
    size = _FIRST_SIZES[number] if number < len(_FIRST_SIZES) else _SIZE
    return Shard(number, seed * 1_000_003 + number, size)


def made_by_hand(part: Shard) -> tuple[Case, ...]:
    """The layouts with which a shard begins: what every check must run, and what is hardly ever drawn. At most half of
    its layouts are of these."""
    first: tuple[Case | None, ...] = (_of_large_numbers(part.number), long_list(part.number))
    start, end = _MALFORMED.get(part.number, (0, 0))
    made = (*(case for case in first if case is not None), *malformed()[start:end])
    return made[: part.examples // 2]


def _of_large_numbers(number: int) -> Case | None:
    match number:
        case 0:
            return larger_than(2 * _memory_and_swap())
        case 1:
            return off_by_4_gib()
        case 2:
            return sums_past_4_gib()
        case 3:
            return ends_past_4_gib()
        case _:
            return None


def _memory_and_swap() -> int:
    """Bytes that this machine has, beyond which the kernel refuses to charge more."""
    with Path("/proc/meminfo").open() as lines:
        sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
    return sizes["MemTotal"] + sizes.get("SwapTotal", 0)
