"""A case in words: what it lays out as a table, its calls and faults, and the command that runs it alone."""

from __future__ import annotations

import itertools
import shlex
import textwrap
from collections.abc import Iterator

import msgspec

from vfio_verify.report.report import Report
from vfio_verify.values.case import (
    PAGE,
    Action,
    Call,
    Case,
    Change,
    Device,
    Drop,
    End,
    Fault,
    Fork,
    RamBlock,
    Region,
    Segment,
)
from vfio_verify.values.conventions import conventions
from vfio_verify.values.words import has_errno, kernel_fault_text, kernel_texts, place, step_name

_ROWS_SHOWN = 12
_NAME_WIDTH = 12
_MAX_ARGUMENT = 100_000
"""Bytes of an argument; Linux takes no more than 128 KiB."""


def row_lines(
    name: str, text: str, width: int, indent: int = 3, *, break_long_words: bool = False
) -> Iterator[tuple[str, str]]:
    """A name in its column and a text beside it, as lines of at most `width`: the column, and the rest of each."""
    column = indent + _NAME_WIDTH
    blank = " " * (len(text) - len(text.lstrip()))
    lines = textwrap.wrap(
        text,
        width - column,
        break_on_hyphens=False,
        break_long_words=break_long_words,
        initial_indent=blank,
        subsequent_indent=blank + "  ",
    )
    for i, line in enumerate(lines or [""]):
        yield f"{' ' * indent}{'' if i else name}".ljust(column), line


def calls_of(case: Case) -> Iterator[tuple[str, Case]]:
    """The calls that a case makes in one process, each with its title; what is called again and again, once."""
    n, at = len(case.earlier) + 1, 0
    for before, group in itertools.groupby(case.earlier):
        first, at = at + 1, at + sum(1 for _ in group)
        numbers = f"call {at:,}" if first == at else f"calls {first:,} to {at:,}"
        yield f"{numbers} of {n:,} in one process", before
    yield f"call {n:,} of {n:,} in one process" if case.earlier else "", case


def case_rows(case: Case) -> Iterator[tuple[str, str]]:
    """A case as a small table: what is there, the iovec as it should lie, what fails."""
    for number, device in enumerate(case.devices):
        yield from _device_rows(number, device)
    for number, block in enumerate(case.ram_blocks):
        if block.device is None:
            yield f"block {number}", f"{case.block_size(number):#x} bytes of plain RAM{_touches(block)}"
        elif (area := case.area_of(number)) is not None and case.region_of(number) is not None:
            where = f"device {block.device}, {place(area.offset, f'region {block.region}')}"
            yield f"block {number}", f"{where}, {case.block_size(number):#x} bytes{_touches(block)}"
    calls: tuple[Case | Call, ...] = (case, *case.concurrent)
    for number, call in enumerate(calls, 1):
        thread = f"thread {number}" if case.concurrent else ""
        yield from _iovec_rows(call.iovec, thread)
        yield "total_size", f"{call.total_size:#x}"
    if case.errp == "null":
        yield "errp", "NULL"
    for fault in case.fault_plan:
        yield "fault", fault_text(fault)
    if case.kernel_fault is not None:
        yield "kernel", kernel_fault_text(case.kernel_fault)
    if case.page_size != PAGE:
        yield "host pages", f"{case.page_size:#x} bytes"
    for rule in kernel_texts(case.kernel):
        yield "kernel", rule
    if case.variables == "zero":
        yield "built with", "automatic variables that are zero until they are set"
    for assumed in case.assume:
        yield "assumed", conventions()[assumed].world
    calls_made = 0
    for number, action in enumerate(case.sequence, 1):
        calls_made += isinstance(action, Call)
        yield f"step {number}", action_text(action, calls_made)


def segment_base(segment: Segment) -> str:
    """Where a segment begins: ``block 1 + 0x1000``."""
    return "in no block" if segment.block is None else place(segment.offset, f"block {segment.block}")


def _touches(block: RamBlock) -> str:
    return ", directly after the block before it" if block.touches else ""


def _iovec_rows(iovec: tuple[Segment, ...], thread: str) -> Iterator[tuple[str, str]]:
    if not iovec:
        yield thread or "iovec", "an empty iovec" if thread else "empty"
    at = 0
    rows = []
    for number, segment in enumerate(iovec):
        rows.append(f"{number:>3}  {place(at):<10} {segment_base(segment):<22} {segment.length:#x} bytes")
        at += segment.length
    if len(rows) > _ROWS_SHOWN:
        rows[_ROWS_SHOWN - 2 : -2] = [f"...  {len(rows) - _ROWS_SHOWN} more"]
    for i, row in enumerate(rows):
        yield "" if i else thread or "iovec", row


def action_text(action: Action, call: int) -> str:
    """A step of a sequence; `call` numbers the calls, of which the case's own is number 0."""
    match action:
        case Call(iovec, total_size, fault_plan):
            pieces = [f"{segment_base(segment)}, {segment.length:#x} bytes" for segment in iovec]
            if len(pieces) > _ROWS_SHOWN:
                pieces[_ROWS_SHOWN - 2 : -2] = [f"... {len(pieces) - _ROWS_SHOWN} more"]
            text = f"call {call}: {'; '.join(pieces) or 'an empty iovec'}"
            if total_size != sum(s.length for s in iovec):
                text += f"; total_size {total_size:#x}"
            return "; ".join([text, *(f"fault: {fault_text(fault)}" for fault in fault_plan)])
        case End(mapping):
            return f"the caller ends mapping {mapping}"
        case Change(block, offset):
            return f"the device changes the word at {place(offset, f'block {block}')}"
        case Drop(block):
            return f"block {block} is removed, and its host address with it"
        case Fork():
            return "the process forks"


def _device_rows(number: int, device: Device) -> Iterator[tuple[str, str]]:
    traits = [
        *(["its driver maps nothing outside the sparse areas"] if device.mmap_rule == "areas" else []),
        *(["any page of its file can be mapped"] if device.mmap_rule == "file" else []),
        *(["a file for each region"] if device.region_files else []),
        *(["a descriptor for each region"] if device.region_fds and not device.region_files else []),
    ]
    yield f"device {number}", "; ".join([*map(_region_text, device.regions), *traits]) or "no regions"


def _region_text(region: Region) -> str:
    text = f"region {region.index}, {region.size:#x} bytes"
    if region.areas is not None:
        areas = ", ".join(f"[{a.offset:#x}, {a.offset + a.size:#x})" for a in region.areas)
        text += f", sparse: {areas}" if region.msix is None else f", without its MSI-X table: {areas}"
    if region.msix == "mappable":
        text += ", its MSI-X table may be mapped"
    if region.offset is not None:
        text += f", at {region.offset:#x} of its file"
    if not region.writable:
        text += ", read-only"
    return text if region.mappable else text + ", not mappable"


def fault_text(fault: Fault) -> str:
    """A planned failure in words."""
    late = ", after MAP_FIXED has removed what was there" if fault.when == "late" else ""
    since = " and all later ones fail" if fault.persistent else " fails"
    reason = f" with {fault.errno}" if has_errno(fault.step) else ""
    return f"{step_name(fault.step)} number {fault.nth}{since}{reason}{late}"


def reproduce_line(case: Case, report: Report) -> str:
    """The command that judges this case alone, or where the case is if no command line can hold it."""
    name = shlex.join((report.subject.name, *report.subject.arguments))
    function = f" --function {report.subject.function}" if report.subject.kind == "C" else ""
    policy = "" if report.policy == "same-block" else f" --policy {report.policy}"
    text = shlex.quote(_short_json(case))
    if len(text) > _MAX_ARGUMENT:
        text = "FILE  # the case is in the JSON of this report, and in what --corpus keeps"
    return f"vfio-verify check {name}{function}{policy} --case {text}"


def _short_json(case: Case) -> str:
    """A case without the fields that have their usual values."""
    fields = msgspec.to_builtins(case)
    usual = {"errp": "object", "earlier": (), "mmap_rule": "region", "region_fds": False}
    for record in (fields, *fields["devices"]):
        for name in [name for name, value in record.items() if name in usual and value == usual[name]]:
            del record[name]
    return msgspec.json.encode(fields).decode()
