"""Patches in the order in which they apply: one version, by the numbers of a series, else as each made the files that
the next one changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from vfio_verify.errors import InputError
from vfio_verify.subject.source.diff import Patch

_INDEX = re.compile(r"^index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})", re.MULTILINE)
_FILE = re.compile(r"^\+\+\+ (?:b/)?(\S+)", re.MULTILINE)


def in_order(patches: Sequence[Patch], name: str, version: int | None = None) -> list[Patch]:
    """A series in the order of its numbers; a mailing list's archive may hold it in any.

    Raises InputError if it holds several versions, unless `version` chooses one, or several series.
    """
    chosen = _of_version(dict.fromkeys(patches), name, version)
    numbered: dict[int, Patch] = {}
    others = [patch for patch in chosen if not patch.number]
    for patch in chosen:
        if not patch.number:
            continue
        earlier = numbered.get(patch.number)
        if earlier and _plain(earlier) != _plain(patch):
            raise InputError(
                f"{name} holds several series: both `{earlier.title}` and `{patch.title}`; give one of them"
            )
        if not earlier or (patch.date or 0) >= (earlier.date or 0):  # sent again
            numbered[patch.number] = patch
    return [*by_parents(others), *(numbered[number] for number in sorted(numbered))]


def versions_of(patches: Iterable[Patch]) -> list[int]:
    """The versions that are told, from the first on."""
    return sorted({patch.version for patch in patches if patch.version is not None})


def _plain(patch: Patch) -> str:
    return re.sub(r"^\[[^\]]*\]\s*", "", patch.title or "")


def _of_version(patches: Iterable[Patch], name: str, version: int | None) -> list[Patch]:
    found = list(patches)
    versions = versions_of(found)
    listed = ", ".join(f"v{one}" for one in versions)
    if version is not None:
        chosen = [patch for patch in found if patch.version == version]
        if not chosen:
            raise InputError(f"{name} holds no version {version} of a series (versions: {listed or 'none is told'})")
        return chosen
    if len(versions) > 1:
        raise InputError(
            f"{name} holds several versions of a series ({listed}); choose one with --version N, or give one of them"
        )
    return found


def by_parents(patches: Sequence[Patch], otherwise: Callable[[int], Any] = lambda position: position) -> list[Patch]:
    """Patches sorted so that each comes after those that left a file as it found it, by the hashes in their diffs.

    Where these do not tell, `otherwise` gives a key for a patch's position in the list.
    """
    before: list[set[int]] = [set() for _ in patches]
    makers: dict[str, list[tuple[str, int]]] = {}
    hashes = [_INDEX.findall(patch.diff) for patch in patches]
    for i, found in enumerate(hashes):
        for _, new in found:
            makers.setdefault(new[:4], []).append((new, i))
    for i, found in enumerate(hashes):
        for old, _ in found:
            before[i] |= {j for new, j in makers.get(old[:4], ()) if j != i and _same(new, old)}
    sorter = TopologicalSorter(dict(enumerate(before)))
    try:
        sorter.prepare()
    except CycleError:  # such as a revert
        return [patches[i] for i in sorted(range(len(patches)), key=otherwise)]
    ordered: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        ready.sort(key=otherwise)
        ordered.append(ready.pop(0))
        sorter.done(ordered[-1])
    return [patches[i] for i in ordered]


def _same(one: str, other: str) -> bool:
    """Whether two hashes, perhaps of unlike lengths, are those of one file. A file of zeros is none."""
    length = min(len(one), len(other))
    return one[:length] == other[:length] and one.strip("0") != ""


def commits_in_order(patches: Sequence[Patch], name: str) -> list[Patch]:
    """The commits of a log, which has the newest first unless it was asked otherwise, the oldest first.

    Raises InputError if neither hashes nor dates tell the order of two commits of one file.
    """
    dates = [patch.date for patch in patches]
    known = [date for date in dates if date is not None]
    rising = known == sorted(known) and len(set(known)) > 1
    if len(known) < len(patches) and _unordered(patches):
        raise InputError(
            f"{name} is a log without dates and hashes, which does not tell the order of its commits; "
            "give `git log -p --reverse` in its usual format, or `git format-patch --stdout`"
        )
    # Equal dates: a log without --reverse has the newest first.
    return by_parents(patches, lambda i: (dates[i] or 0, i if rising else -i))


def _unordered(patches: Sequence[Patch]) -> bool:
    files = [set(_FILE.findall(patch.diff)) for patch in patches]
    return any(
        files[i] & files[j] and not (_INDEX.search(patches[i].diff) and _INDEX.search(patches[j].diff))
        for i in range(len(patches))
        for j in range(i)
    )
