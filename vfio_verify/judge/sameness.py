"""Which findings of different runs are one fault. Pure.

Each run is judged by itself, so one fault can show in several ways: by a wrong overlay where the device agrees to it,
and by a refusal where it does not. The rules here say which of two findings tells the same as the other, and less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from vfio_verify.values.cause import (
    SUCCESS,
    UNTOLD,
    Cause,
    Key,
    alternatives,
    concurrent,
    is_ambiguous,
    is_crash,
    lacks_a_place,
    names_of,
    of_kind,
    take_apart,
)


def absorbed(keys: Collection[Key]) -> dict[Key, Key]:
    """The findings that another one makes redundant, each with that other."""
    gone: dict[Key, Key] = {}
    for key in sorted(keys):
        same = next((other for other in _same_as(key, keys) if other != key and other not in gone), None)
        if same is not None:
            gone[key] = same
    sure = {key for key in keys if not is_ambiguous(key)}
    for key, other in _decided([key for key in keys if key not in sure and key not in gone], sure).items():
        gone[key] = gone.get(other, other)
    return gone


def _decided(ambiguous: list[Key], sure: set[Key]) -> dict[Key, Key]:
    """Each ambiguous cause with one that also explains it: a sure one, or else the one that explains most of them."""
    gone: dict[Key, Key] = {}
    left = []
    for key in sorted(ambiguous):
        known = next((one for one in (*alternatives(key), *_contents(key)) if one in sure), None)
        if known is not None:
            gone[key] = known
        else:
            left.append(key)
    while left:
        count = Counter(one for key in left for one in alternatives(key))
        best = max(sorted(count), key=count.__getitem__)
        hit = sorted((key for key in left if best in alternatives(key)), key=lambda key: (len(alternatives(key)), key))
        gone |= dict.fromkeys(hit[1:], hit[0])
        left = [key for key in left if key not in hit]
    return gone


def _is_refused(key: Key) -> bool:
    """Whether it is an overlay that the device has refused."""
    return key[0] == "ACCEPTS_VALID" and take_apart(key).kind == "refused"


def _contents(key: Key) -> list[Key]:
    """The causes of CONTENTS for which a device refuses an overlay."""
    return [("CONTENTS", name) for name in names_of(take_apart(key).detail)] if _is_refused(key) else []


def _same_as(key: Key, keys: Collection[Key]) -> Iterable[Key]:
    """The findings beside which this one says nothing new."""
    clause, cause = key
    told = take_apart(key)
    same = _contents(key)
    if told.origin == "concurrent" and clause != "REPEATABLE":
        same.append(("REPEATABLE", concurrent("disturbed")))
    if clause == "CONTENTS" and is_ambiguous(key):
        same.append(("CONTIGUOUS", "order"))
    if clause == "NO_LEAK" and told.detail != SUCCESS:
        same.append((clause, _on_success(told)))
    if key == ("FAULT_REPORTED", "find_block"):
        same.append(("SAME_BLOCK", "no block"))
    if clause == "FAULT_REPORTED" and cause in ("find_region", "find_index", "find_device"):
        same.append(("SAME_BLOCK", "plain RAM"))
    yield from (other for other in same if other in keys)
    if _is_refused(key):
        # What only a refusal shows is one thing, whatever the offset comes to.
        yield from sorted(other for other in keys if other[0] == "CONTENTS")
        yield from sorted(other for other in keys if _is_refused(other) and other < key)
    if UNTOLD in (told.kind, told.detail):
        yield from sorted(o for o in keys if o[0] == clause and o[1].startswith(cause.removesuffix(UNTOLD)))
    if clause == "SURVIVES" and is_crash(cause) and lacks_a_place(cause):
        yield from _with_a_place(key, keys)
    if clause == "REPEATABLE":
        yield from _needs_no_others(key, keys)


def _with_a_place(key: Key, keys: Collection[Key]) -> Iterable[Key]:
    """Where the stack is overwritten, the place of a crash is unknown: it tells nothing beside a crash with a place."""
    crashes = sorted(other for other in keys if other[0] == "SURVIVES" and is_crash(other[1]))
    yield from (other for other in crashes if not lacks_a_place(other[1]))
    yield from (other for other in crashes if lacks_a_place(other[1]) and other < key)


def _on_success(told: Cause) -> str:
    """The cause on success: what stays behind on every way out stays behind on success, too."""
    return of_kind(told.kind, SUCCESS)


_DAMAGE = ("gone", "replaced", "overlap", "contents", "CONFINED", "not gone", "pages", "unlike", "damaged", "fork")
"""How it shows that a call touches another call's mapping, the most telling first."""


def _needs_no_others(key: Key, keys: Collection[Key]) -> Iterable[Key]:
    """What goes wrong in a single call anyway does not need several; and memory that outlives a call shows in many
    ways, of which the first is told."""
    told = take_apart(key)
    others = [(other, take_apart(other)) for other in sorted(keys) if other[0] == "REPEATABLE" and other != key]
    if told.origin == "after others":
        yield from (one for one in ((told.clause, told.text), (told.clause, _on_success(told))) if one in keys)
        # What is removed or kept wrongly stands in other calls' way.
        if told.clause in ("CONFINED", "UNMAP_ON_ERROR"):
            yield from sorted(one for one in keys if one[0] in ("CONFINED", "UNMAP_ON_ERROR"))
        if (told.clause, told.text) == ("NO_LEAK", "twice"):  # of a descriptor that was kept, by which calls map, too
            yield from (other for other, _ in others)
        if _shows_others_memory(told):
            # Contents first: there is less chance in them than in a refusal.
            alike = sorted((c.clause != "CONTENTS", other) for other, c in others if _shows_others_memory(c))
            yield from (other for rank, other in alike if (rank, other) < (told.clause != "CONTENTS", key))
    elif told.origin == "concurrent":
        yield from (other for other, c in others if c.origin != "concurrent")
    elif told.kind == "second fails":
        yield from (other for other, c in others if c.clause == "ACCEPTS_VALID")
    if _damage(told) in _DAMAGE:
        for more_telling in _DAMAGE[: _DAMAGE.index(_damage(told))]:
            yield from (other for other, c in others if _damage(c) == more_telling)


def _damage(told: Cause) -> str:
    """How REPEATABLE is violated: in a kind of its own, or by a clause that only holds without other calls."""
    return {"alone": told.kind, "after others": told.clause, "concurrent": ""}[told.origin]


def _shows_others_memory(told: Cause) -> bool:
    """Whether a call shows the memory that it remembers from another: how that relates to its own is chance."""
    return told.clause == "CONTENTS" or (told.clause, told.kind) == ("ACCEPTS_VALID", "refused")


def counted(runs: Mapping[Key, int], gone: Mapping[Key, Key]) -> dict[Key, int]:
    """How many runs showed each finding, those that tell the same included."""
    total: Counter[Key] = Counter()
    for key, n in runs.items():
        total[gone.get(key, key)] += n
    return dict(total)
