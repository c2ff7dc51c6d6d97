"""Concurrent calls made from a well-formed layout: on one block, on several, and with refused ones among them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vfio_verify.values.case import MAX_DEVICES, PAGE, Call, Case, Device, RamBlock, Region, Segment

MAX_SEGMENTS = 24
MAX_BYTES = 64 << 20
"""Larger layouts show nothing more here, and take longer."""

_OTHER_PAGES = 8


def suits(case: Case) -> bool:
    """Whether a well-formed layout is small enough to be mapped many times at once."""
    return (
        0 < len(case.iovec) <= MAX_SEGMENTS
        and case.total_size <= MAX_BYTES
        and not case.concurrent
        and case.page_size == PAGE
    )


def concurrent_cases(case: Case) -> Iterator[Case]:
    """Cases of two to four concurrent calls, the first of them that of `case`."""
    plain = replace(case, fault_plan=(), errp="object", earlier=(), sequence=(), kernel_fault=None)
    own = Call(plain.iovec, plain.total_size)
    (same_block, smaller), wider = _of_the_same_block(plain), _with_another_block(plain)
    yield replace(plain, concurrent=(own,))
    yield replace(plain, concurrent=(same_block, smaller))
    if wider is not None:
        yield wider
    nowhere = Segment(None, 0, PAGE)
    yield replace(plain, concurrent=(_call(*plain.iovec, nowhere), same_block, _call(nowhere, *plain.iovec)))
    # Two that fail, with few steps between: what they do with their errors meets often.
    refused = _call(nowhere)
    yield replace(plain, iovec=refused.iovec, total_size=refused.total_size, concurrent=(refused,))


def _call(*iovec: Segment) -> Call:
    return Call(iovec, sum(segment.length for segment in iovec))


def _of_the_same_block(case: Case) -> tuple[Call, Call]:
    """Other iovecs of the block: the segments backwards and one more, and a single page."""
    first = case.iovec[0]
    assert first.block is not None  # a well-formed layout has a block for each segment
    pages = case.block_size(first.block) // PAGE
    # The page after the first segment's start, or the block's first: another one, where the block has two.
    other = Segment(first.block, (first.offset // PAGE + 1) % max(pages, 1) * PAGE, PAGE)
    backwards = [replace(s, length=-(-s.length // PAGE) * PAGE) for s in reversed(case.iovec)]
    fits = all(s.offset + s.length <= case.block_size(first.block) for s in backwards)
    return (_call(*backwards, other) if fits else _call(other, other)), _call(other)


def _with_another_block(case: Case) -> Case | None:
    """Two threads on the case's block, two on another one, which is made if there is none."""
    used = {segment.block for segment in case.iovec}
    own = Call(case.iovec, case.total_size)
    for number, block in enumerate(case.ram_blocks):
        if number not in used and block.device is not None and case.block_size(number) >= 2 * PAGE:
            break
    else:
        if len(case.devices) == MAX_DEVICES:
            return None
        number = len(case.ram_blocks)
        case = replace(
            case,
            devices=(*case.devices, Device((Region(1, _OTHER_PAGES * PAGE),))),
            ram_blocks=(*case.ram_blocks, RamBlock(len(case.devices), 1, 0)),
        )
    pages = [Segment(number, PAGE, PAGE), Segment(number, 0, PAGE)]
    return replace(case, concurrent=(_call(*pages), own, _call(*pages, *pages)))
