"""Which findings of different runs are one fault. Pure.

Each run is judged by itself, so one fault can show in several ways: by a wrong overlay where the device agrees to it,
and by a refusal where it does not. The rules here say which of two findings tells the same as the other, and less.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from vfio_verify.judge.attribution import Key
from vfio_verify.judge.facts import UNTOLD
from vfio_verify.judge.relations import OR


def absorbed(keys: Collection[Key]) -> dict[Key, Key]:
    """Those that tell nothing beside another, each with that other."""
    gone: dict[Key, Key] = {}
    sure = {key for key in keys if OR not in key[1]}
    for key in sorted(keys):
        same = next((other for other in _same_as(key, keys) if other != key and other not in gone), None)
        if same is not None:
            gone[key] = same
    for key, other in _decided([key for key in keys if OR in key[1] and key not in gone], sure).items():
        gone[key] = gone.get(other, other)
    return gone


def _parts(key: Key) -> list[Key]:
    """The sure causes that an ambiguous one may stand for."""
    head, colon, tail = key[1].partition(": ")
    if not colon or OR in head:
        head, colon, tail = "", "", key[1]
    return [(key[0], f"{head}{colon}{name}") for name in tail.split(OR)]


def _decided(ambiguous: list[Key], sure: set[Key]) -> dict[Key, Key]:
    """Each ambiguous cause with one that explains it, too: a sure one, or else the one that explains most of them."""
    gone: dict[Key, Key] = {}
    left = []
    for key in sorted(ambiguous):
        known = next((part for part in (*_parts(key), *_contents(key)) if part in sure), None)
        if known is not None:
            gone[key] = known
        else:
            left.append(key)
    while left:
        count = Counter(part for key in left for part in _parts(key))
        best = max(sorted(count), key=count.__getitem__)
        hit = sorted((key for key in left if best in _parts(key)), key=lambda key: (key[1].count(OR), key))
        gone |= dict.fromkeys(hit[1:], hit[0])
        left = [key for key in left if key not in hit]
    return gone


def _contents(key: Key) -> list[Key]:
    """The causes of CONTENTS for which a device refuses an overlay."""
    clause, cause = key
    if clause != "ACCEPTS_VALID" or not cause.startswith("refused: "):
        return []
    return [("CONTENTS", name) for name in cause.removeprefix("refused: ").split(OR)]


def _same_as(key: Key, keys: Collection[Key]) -> Iterable[Key]:
    """The findings that would make this one say nothing new."""
    clause, cause = key
    yield from (other for other in _contents(key) if other in keys)
    if clause == "ACCEPTS_VALID" and cause.startswith("refused: "):
        # What only a refusal shows is one thing, whatever the offset comes to.
        yield from sorted(other for other in keys if other[0] == "CONTENTS")
        yield from sorted(o for o in keys if o[0] == clause and o[1].startswith("refused: ") and o < key)
    if cause.startswith("at once: ") and clause != "REPEATABLE":
        yield from ({("REPEATABLE", "at once: disturbed")} & set(keys))
    if cause.endswith(UNTOLD):
        yield from sorted(other for other in keys if other[0] == clause and other[1].startswith(cause[:-1]))
    if clause == "SURVIVES" and cause.startswith("signal ") and _PLACELESS.search(cause):
        yield from _with_a_place(key, keys)
    if clause == "CONTENTS" and OR in cause:
        yield from ({("CONTIGUOUS", "order")} & set(keys))
    if clause == "NO_LEAK" and not cause.endswith(": success"):
        yield from ({(clause, _on_success(cause))} & set(keys))
    if clause == "FAULT_REPORTED" and cause == "find_block":
        yield from ({("SAME_BLOCK", "no block")} & set(keys))
    if clause == "FAULT_REPORTED" and cause in ("find_region", "find_index", "find_device"):
        yield from ({("SAME_BLOCK", "plain RAM")} & set(keys))
    if clause == "REPEATABLE":
        yield from _needs_no_others(cause, keys)


def _with_a_place(key: Key, keys: Collection[Key]) -> Iterable[Key]:
    """Where the stack is overwritten, nobody can tell whence a crash came: it is none beside those that can be told."""
    crashes = sorted(other for other in keys if other[0] == "SURVIVES" and other[1].startswith("signal "))
    yield from (other for other in crashes if not _PLACELESS.search(other[1]))
    yield from (other for other in crashes if _PLACELESS.search(other[1]) and other < key)


_PLACELESS = re.compile(r" after \w+$")


def _on_success(cause: str) -> str:
    """What stays behind on every way, stays behind on success."""
    return f"{cause.partition(': ')[0]}: success"


_OTHERS_MEMORY = ("CONTENTS: ", "ACCEPTS_VALID: refused: ")
"""What a call shows of the memory that it remembers from another: how that relates to its own is chance."""


def _first_told(key: Key) -> tuple[bool, Key]:
    return not key[1].startswith("CONTENTS"), key


_SECOND = ("second fails", "unlike", "damaged")
"""What the second of two calls shows; a sequence shows it with more to tell."""
_DAMAGE = ("gone", "replaced", "overlap", "contents", "CONFINED: ", "not gone", "pages", "unlike", "damaged", "fork")
"""How it shows that a call touches another call's mapping, the most telling first."""


def _needs_no_others(cause: str, keys: Collection[Key]) -> Iterable[Key]:
    """What goes wrong in one call anyway is no matter of several; and one piece of memory that outlives a call shows in
    many ways: the first of these is told."""
    head, colon, tail = cause.removeprefix("at once: ").partition(": ")
    if colon:
        yield from (one for one in ((head, tail), (head, _on_success(tail))) if one in keys)
        # What is removed or kept wrongly stands in other calls' way.
        alone = ("CONFINED", "UNMAP_ON_ERROR") if head in ("CONFINED", "UNMAP_ON_ERROR") else ()
        yield from sorted(one for one in keys if one[0] in alone)
    others = sorted(other for clause, other in keys if clause == "REPEATABLE" and other != cause)
    if cause == "NO_LEAK: twice":  # of a descriptor that was kept, by which calls map, too
        yield from (("REPEATABLE", other) for other in others)
    if cause.startswith(_OTHERS_MEMORY):
        alike = [o for o in keys if o[0] == "REPEATABLE" and o[1].startswith(_OTHERS_MEMORY)]
        yield from (o for o in sorted(alike, key=_first_told) if _first_told(o) < _first_told(("REPEATABLE", cause)))
    if cause.startswith("at once: "):
        yield from (("REPEATABLE", other) for other in others if not other.startswith("at once: "))
    elif cause in _SECOND[:1]:
        yield from (("REPEATABLE", other) for other in others if other.startswith("ACCEPTS_VALID: "))
    for i, name in enumerate(_DAMAGE):
        if cause.startswith(name):
            yield from (("REPEATABLE", o) for before in _DAMAGE[:i] for o in others if o.startswith(before))


def counted(runs: Mapping[Key, int], gone: Mapping[Key, Key]) -> dict[Key, int]:
    """How many runs showed each finding, those that tell the same included."""
    total: Counter[Key] = Counter()
    for key, n in runs.items():
        total[gone.get(key, key)] += n
    return dict(total)
