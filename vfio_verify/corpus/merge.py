"""The smallest set of kept cases that exercises what all of them do: the same features, clauses and causes."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from vfio_verify.corpus.entry import Entry
from vfio_verify.values.cost import cost
from vfio_verify.values.features import features


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """The entries to keep, by name. First the smallest case of each way of violating a clause is taken; then, one after
    the other, the case that adds the most features, the smaller one of two; then superfluous ones are left out."""
    known = {entry.name: entry for entry in entries}
    costs = {name: (cost(entry.case), name) for name, entry in known.items()}
    items = {name: exercised(entry) for name, entry in known.items()}
    kept = _smallest_of_each_cause(known, costs)
    covered = set[Hashable]().union(*(items[name] for name in kept))
    # What an entry adds only shrinks as others are taken: the old count is a bound, looked at again when it leads.
    heap = [(-len(items[name] - covered), costs[name], name) for name in known]
    heapq.heapify(heap)
    while heap:
        _, price, name = heapq.heappop(heap)
        adds = len(items[name] - covered)
        if adds and heap and (-adds, price, name) > heap[0]:
            heapq.heappush(heap, (-adds, price, name))
        elif adds:
            kept.add(name)
            covered |= items[name]
    return [known[name] for name in sorted(_needed(kept, items, costs))]


def exercised(entry: Entry) -> frozenset[Hashable]:
    """What an entry exercises: the features of its case, the lines that it was the first to reach, and the clause that
    it was found to violate, with the cause. In a world with other conventions all of it is something else."""
    found = () if entry.origin is None else ((entry.origin.clause, entry.origin.cause),)
    items = (*features(entry.case), *found, *entry.lines)
    return frozenset((item, entry.case.assume) for item in items) if entry.case.assume else frozenset(items)


def _smallest_of_each_cause(known: dict[str, Entry], costs: dict[str, Any]) -> set[str]:
    smallest: dict[tuple[str, str, tuple[str, ...]], str] = {}
    for name in sorted(known, key=costs.__getitem__):
        origin = known[name].origin
        if origin is not None:
            smallest.setdefault((origin.clause, origin.cause, known[name].case.assume), name)
    return set(smallest.values())


def _needed(kept: set[str], items: dict[str, frozenset[Hashable]], costs: dict[str, Any]) -> set[str]:
    """Leave out entries that exercise nothing of their own, the largest case first."""
    times = Counter(item for name in kept for item in items[name])
    needed = set(kept)
    for name in sorted(kept, key=costs.__getitem__, reverse=True):
        if all(times[item] > 1 for item in items[name]):
            needed.discard(name)
            times.subtract(items[name])
    return needed
