"""The least layouts that break one rule in one place, made one by one.

What is drawn breaks a list in the middle alone, or in its second half, once in hundreds of layouts. A campaign meets
each of these whatever its seed is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from vfio_verify.generate.layouts import U64
from vfio_verify.values.case import PAGE, Area, Case, Device, RamBlock, Region, Segment

_WHOLE = Region(1, 16 * PAGE)
_SPARSE = Region(2, 40 * PAGE, (Area(0, 16 * PAGE), Area(18 * PAGE, 16 * PAGE)))
_DEVICES = (Device((_WHOLE, _SPARSE)), Device((_WHOLE,)))
_SAME, _AREA, _OTHER_AREA, _OTHER_DEVICE, _PLAIN = range(5)
_BLOCKS = (
    RamBlock(0, 1, 0),
    RamBlock(0, 2, 0, touches=True),
    RamBlock(0, 2, 1),
    RamBlock(1, 1, 0),
    RamBlock(size=16 * PAGE),
)
_LIST = tuple(Segment(_SAME, at * PAGE, n * PAGE) for at, n in ((4, 2), (0, 1), (8, 2), (2, 1)))
_ALONE = _LIST[:1]
_LAST, _FIRST, _MIDDLE, _SECOND_HALF, _ALL = (3,), (0,), (1,), (2, 3), (0, 1, 2, 3)


def malformed() -> tuple[Case, ...]:
    """All of them. What most helpers get wrong comes first, each rule in turn."""
    kinds = [list(kind) for kind in (_total(), _blocks(), _alignment(), _bounds(), _empty())]
    turns = max(map(len, kinds))
    return tuple(kind[turn] for turn in range(turns) for kind in kinds if turn < len(kind))


def _case(iovec: Sequence[Segment], off_by: int = 0, total: int | None = None) -> Case:
    """A list with a total that is the sum of its lengths, or off by so many bytes."""
    right = sum(segment.length for segment in iovec) + off_by
    return Case(_DEVICES, _BLOCKS, tuple(iovec), right % U64 if total is None else total)


def _moved(block: int | None, places: Sequence[int], iovec: Sequence[Segment] = _LIST) -> Case:
    return _case([replace(s, block=block) if i in places else s for i, s in enumerate(iovec)])


def _longer(by: int, places: Sequence[int], iovec: Sequence[Segment] = _LIST) -> Case:
    return _case([replace(s, length=s.length + by) if i in places else s for i, s in enumerate(iovec)])


def _later(by: int, places: Sequence[int], iovec: Sequence[Segment] = _LIST) -> Case:
    return _case([replace(s, offset=s.offset + by) if i in places else s for i, s in enumerate(iovec)])


def _total() -> Iterator[Case]:
    yield _case(_LIST, -_LIST[-1].length)
    yield _case(_LIST, PAGE)
    yield _case(_LIST, -_LIST[-1].length - _LIST[-2].length)
    yield _case(_LIST, 1)
    yield _case(_LIST, -1)
    yield _case(_ALONE, PAGE)
    yield _case(_ALONE, -PAGE)
    yield _case(_LIST, 1 << 32)
    yield _case((*_LIST, Segment(_SAME, 0, U64 - PAGE), Segment(_SAME, 0, PAGE)))
    yield _case(_LIST, total=0)
    yield _case(_LIST, -PAGE // 2)


def _blocks() -> Iterator[Case]:
    yield _moved(_AREA, _LAST)
    yield _moved(_AREA, _SECOND_HALF)
    yield _moved(_PLAIN, _ALL)
    yield _moved(None, _LAST)
    yield _moved(_OTHER_DEVICE, _LAST)
    yield _moved(_AREA, _MIDDLE)
    yield _moved(_OTHER_DEVICE, _SECOND_HALF)
    yield _moved(_PLAIN, _LAST)
    yield _moved(None, _FIRST)
    yield _case([replace(s, block=_OTHER_AREA if i == 3 else _AREA) for i, s in enumerate(_LIST)])
    yield _moved(_PLAIN, _MIDDLE)
    yield _moved(None, _ALL)
    yield _moved(_PLAIN, _FIRST, _ALONE)
    yield _moved(None, _MIDDLE)
    yield _moved(_AREA, _FIRST)
    yield _moved(_OTHER_DEVICE, _MIDDLE)


def _alignment() -> Iterator[Case]:
    yield _later(PAGE // 2, _MIDDLE)
    yield _longer(-1, _FIRST)
    yield _later(1, _LAST)
    yield _case([replace(s, length=s.length + {0: -PAGE // 2, 1: PAGE // 2}.get(i, 0)) for i, s in enumerate(_LIST)])
    yield _longer(1, _MIDDLE)
    yield _later(PAGE // 2, _ALL)
    yield _later(8, _FIRST)
    yield _longer(-1, _FIRST, _ALONE)
    yield _later(PAGE // 2, _FIRST, _ALONE)
    yield _longer(-PAGE // 2, _LAST)


def _bounds() -> Iterator[Case]:
    far = Segment(_PLAIN, 0, PAGE)
    alone = [replace(s, block=_AREA) for s in _ALONE]
    last = replace(_LIST[3], offset=15 * PAGE, length=2 * PAGE)
    yield _case((*_LIST[:3], replace(last, block=_SAME)))
    yield _case([replace(s, block=_OTHER_AREA) for s in (*_LIST[:3], last)])
    yield _case([replace(s, block=_AREA) for s in (last, *_LIST[1:])])
    yield _case((_LIST[0], last, *_LIST[2:]))
    yield _case((*_LIST[:3], replace(_LIST[3], length=U64 - PAGE)))
    yield _case([replace(alone[0], length=13 * PAGE)])
    yield _case((*_LIST[:3], replace(_LIST[3], length=U64 - 2 * PAGE)))
    yield _case([replace(far, block=_SAME, length=17 * PAGE)])


def _empty() -> Iterator[Case]:
    nothing = replace(_LIST[0], length=0)
    yield _case((*_LIST, nothing))
    yield _case(())
    yield _case((_LIST[0], nothing, *_LIST[1:]))
    yield _case((nothing, *_LIST))
    yield _case((nothing,))
    yield _case((), total=PAGE)
    yield _case((*_LIST, nothing, nothing))
