"""From addresses in a compiled subject to lines of the text that it was compiled from, by its DWARF.

A subject's text can put anything into its debug information. What cannot be read, or is larger than a compiler makes
it, tells nothing; it does no harm.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.lineprogram import LineProgram
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from vfio_verify.values.source_line import SourceLine

_MOST_BYTES = 32 << 20
"""Of all debug information together."""
_DEEPEST = 64
_SCOPES = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine", "DW_TAG_lexical_block")
_HOOK = "__sanitizer_cov_trace_pc"
_BEFORE_OPERAND = {"EM_X86_64": 1, "EM_AARCH64": 0}
"""Bytes of a call's instruction before what the linker fills in, which is 4 bytes long."""
_NAME = re.compile(r"[A-Za-z_]\w{0,200}", re.ASCII)

FileName = Callable[[str], "str | None"]
"""What the user calls a file that the compiler has named, or None where it is not the subject's own."""


class _Row(NamedTuple):
    """From this address on the code is a line's. No file: the sequence ends."""

    address: int
    file: str | None
    line: int
    statement: bool


class _Hook(NamedTuple):
    """The call with which a block of code begins, and the address that it returns to."""

    start: int
    back: int


class _Scope(NamedTuple):
    """A function's code, or that of one that is inlined there, by whom it is called."""

    start: int
    end: int
    depth: int
    name: str | None
    call_file: str | None
    call_line: int


class Lines:
    """The lines of one library. Files are named as the compiler was told; `own` says which are of interest."""

    def __init__(self, rows: list[_Row], scopes: list[_Scope], hooks: list[_Hook], own: FileName) -> None:
        self._hooks = sorted(hooks)
        self._rows = sorted(rows, key=lambda row: (row.address, row.file is not None))
        self._starts = [row.address for row in self._rows]
        self._scopes = scopes
        self._own = own

    @classmethod
    def of(cls, library: Path, own: FileName) -> Lines:
        """Those of a shared object; none where it has no debug information that can be read."""
        rows: list[_Row] = []
        scopes: list[_Scope] = []
        hooks: list[_Hook] = []
        try:
            with library.open("rb") as file:
                elf = ELFFile(file)
                if elf.has_dwarf_info() and _is_small(elf):
                    info = elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
                    for unit in info.iter_CUs():
                        _read_unit(info, unit, rows, scopes)
                    hooks += _read_hooks(elf)
        # Whatever a library that is no compiler's makes of it.
        except Exception:  # noqa: BLE001
            return cls([], [], [], own)
        return cls(rows, scopes, hooks, own)

    def at(self, address: int) -> SourceLine | None:
        """The innermost of the subject's own lines whose code is at an address of the library."""
        at = bisect_right(self._starts, address) - 1
        if at < 0 or self._rows[at].file is None:
            return None
        around = sorted((s for s in self._scopes if s.start <= address < s.end), key=lambda scope: -scope.depth)
        file, line = self._rows[at].file, self._rows[at].line
        for scope in around or [_Scope(0, 0, 0, None, None, 0)]:
            if file is not None and line > 0 and (own := self._own(file)) is not None:
                return SourceLine(own, line, scope.name)
            file, line = scope.call_file, scope.call_line
        return None

    def reached(self, covered: bytes) -> tuple[set[SourceLine], set[SourceLine]]:
        """The own lines that have code, without their text: those of which some ran, and those of which none did.

        `covered` is not 0 at the address that the call at the beginning of each block returns to. A line whose code
        lies in several blocks was reached when one of them ran; what a compiler has put where no block is known to
        begin, such as at the end of another one, is taken for reached with it.
        """
        reached: set[tuple[str, int]] = set()
        others: dict[tuple[str, int], SourceLine] = {}
        if self._hooks:
            for start, end, file, line, statement in self._code():
                if any(at < len(covered) and covered[at] for at in self._blocks(start, end)):
                    reached.add((file, line))
                if statement and (file, line) not in others and (found := self.at(start)) is not None:
                    others[file, line] = found
        return {v for k, v in others.items() if k in reached}, {v for k, v in others.items() if k not in reached}

    def _code(self) -> Iterator[tuple[int, int, str, int, bool]]:
        """Each stretch of code of an own line, as [start, end). Rows with one address share what follows."""
        end = None
        stretches = []
        for row, after in zip(reversed(self._rows[:-1]), reversed(self._rows[1:]), strict=True):
            if end is None or row.address < after.address:
                end = after.address
            if row.file is not None and row.line > 0 and (own := self._own(row.file)) is not None:
                stretches.append((row.address, end, own, row.line, row.statement))
        yield from reversed(stretches)

    def _blocks(self, start: int, end: int) -> Iterator[int]:
        """Where the hooks return to of the blocks that [start, end) meets. What a function does before its first block
        belongs to that one."""
        first = bisect_right(self._hooks, (start, 1 << 64)) - 1
        scope = next((s for s in self._scopes if s.depth == 0 and s.start <= start < s.end), None)
        if scope is not None and (first < 0 or self._hooks[first].start < scope.start):
            first += 1
        for hook in self._hooks[max(first, 0) :]:
            if hook.start >= end and hook is not self._hooks[max(first, 0)]:
                break
            yield hook.back


def _is_small(elf: ELFFile) -> bool:
    sections = [s for s in elf.iter_sections() if s.name.startswith((".debug_", ".zdebug_"))]
    return sum(max(s.data_size, s["sh_size"]) for s in sections) <= _MOST_BYTES


def _read_hooks(elf: ELFFile) -> Iterator[_Hook]:
    """Where the blocks begin, by the relocations that the linker has kept."""
    before = _BEFORE_OPERAND.get(elf["e_machine"])
    if before is None:
        return
    for section in elf.iter_sections():
        # Those that the loader applies, of the procedure linkage table, have an address.
        if isinstance(section, RelocationSection) and not section["sh_addr"]:
            symbols = elf.get_section(section["sh_link"])
            if not isinstance(symbols, SymbolTableSection):
                continue
            numbers = {n for n, symbol in enumerate(symbols.iter_symbols()) if symbol.name.split("@")[0] == _HOOK}
            for relocation in section.iter_relocations():
                if relocation["r_info_sym"] in numbers:
                    at = relocation["r_offset"]
                    yield _Hook(at - before, at + 4)


def _read_unit(info: DWARFInfo, unit: CompileUnit, rows: list[_Row], scopes: list[_Scope]) -> None:
    program = info.line_program_for_CU(unit)
    if program is None:
        return
    names = _file_names(program, unit)
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        file = None if state.end_sequence else names(state.file)
        rows.append(_Row(state.address, file, state.line, bool(state.is_stmt)))
    _read_scopes(info, unit, names, scopes)


def _file_names(program: LineProgram, unit: CompileUnit) -> Callable[[int], str | None]:
    """The names of a unit's files by their number, relative to where it was compiled if they lie there."""
    header = program.header
    modern = header["version"] >= 5
    directory = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    here = _text(directory.value) if directory else ""
    folders = [_text(folder) for folder in header["include_directory"]]
    if not modern:
        folders.insert(0, here)

    def name(number: int) -> str | None:
        files = header["file_entry"]
        position = number if modern else number - 1
        if not 0 <= position < len(files):
            return None
        entry = files[position]
        folder = folders[entry.dir_index] if entry.dir_index < len(folders) else ""
        return os.path.normpath(os.path.join("" if folder == here else folder, _text(entry.name)))

    return name


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _read_scopes(info: DWARFInfo, unit: CompileUnit, names: Callable[[int], str | None], scopes: list[_Scope]) -> None:
    """The functions of a unit, and what is inlined into them, without the blocks between."""
    waiting = [(die, 0) for die in unit.get_top_DIE().iter_children()]
    while waiting:
        die, depth = waiting.pop()
        if die.tag not in _SCOPES or depth > _DEEPEST:
            continue
        called = die.attributes.get("DW_AT_call_file"), die.attributes.get("DW_AT_call_line")
        file = names(called[0].value) if called[0] else None
        line = called[1].value if called[1] else 0
        if die.tag != "DW_TAG_lexical_block":
            for start, end in _ranges(info, unit, die):
                scopes.append(_Scope(start, end, depth, _function_name(die), file, line))
        waiting += [(child, depth + 1) for child in die.iter_children()] if die.has_children else []


def _function_name(die: DIE) -> str | None:
    for _ in range(4):
        if found := die.attributes.get("DW_AT_name"):
            name = _text(found.value)
            return name if _NAME.fullmatch(name) else None
        origin = next((a for a in ("DW_AT_abstract_origin", "DW_AT_specification") if a in die.attributes), None)
        if origin is None:
            return None
        die = die.get_DIE_from_attribute(origin)
    return None


def _ranges(info: DWARFInfo, unit: CompileUnit, die: DIE) -> Iterator[tuple[int, int]]:
    low, high, several = (die.attributes.get(f"DW_AT_{name}") for name in ("low_pc", "high_pc", "ranges"))
    if low and high:
        yield low.value, high.value if high.form == "DW_FORM_addr" else low.value + high.value
    elif several:
        lists = info.range_lists()
        top = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        base = top.value if top else 0
        if lists is None:
            return
        for entry in lists.get_range_list_at_offset(several.value, unit):
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
            else:
                shift = 0 if entry.is_absolute else base
                yield entry.begin_offset + shift, entry.end_offset + shift
