"""From addresses in a compiled subject to lines of the text that it was compiled from, by its DWARF; and the names that
it leaves to others to define.

A subject's text can put anything into its debug information. What cannot be read, or is larger than a compiler makes
it, is taken for none.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
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

from vfio_verify.values.source_line import SourceLine, SourceText

_MOST_BYTES = 32 << 20
"""The most debug information that is read, all sections together."""
_MOST_SYMBOLS = 1 << 16
_DEEPEST = 64
_SCOPES = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine", "DW_TAG_lexical_block")
_HOOK = "__sanitizer_cov_trace_pc"
_BEFORE_OPERAND = {"EM_X86_64": 1, "EM_AARCH64": 0}
"""Bytes of a call's instruction before what the linker fills in, which is 4 bytes long."""
_NAME = re.compile(r"[A-Za-z_]\w{0,200}", re.ASCII)

FileNames = Callable[[int], "str | None"]
"""The names of a unit's files, as the compiler was told them, by their numbers."""


class _Row(NamedTuple):
    """From this address on the code is a line's. No file: the sequence ends."""

    address: int
    file: str | None
    line: int
    is_statement: bool


class _Hook(NamedTuple):
    """The call with which a block of code begins, and the address that it returns to."""

    start: int
    back: int


class _Scope(NamedTuple):
    """A function's code, or that of one that is inlined there, and the line that calls it."""

    start: int
    end: int
    depth: int = 0
    name: str | None = None
    call_file: str | None = None
    call_line: int = 0


class Lines:
    """The lines of one library, which was made of a text."""

    def __init__(self, rows: list[_Row], scopes: list[_Scope], hooks: list[_Hook], text: SourceText) -> None:
        self._hooks = sorted(hooks)
        self._rows = sorted(rows, key=lambda row: (row.address, row.file is not None))
        self._starts = [row.address for row in self._rows]
        self._scopes = scopes
        self._text = text

    @classmethod
    def of(cls, library: Path, text: SourceText) -> Lines:
        """The lines of a shared object; none where it has no debug information that can be read."""
        rows: list[_Row] = []
        scopes: list[_Scope] = []
        hooks: list[_Hook] = []
        try:
            with library.open("rb") as file:
                elf = ELFFile(file)
                if elf.has_dwarf_info() and _is_small(elf):
                    info = elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
                    for unit in info.iter_CUs():
                        if program := info.line_program_for_CU(unit):
                            names = _file_names(program, unit)
                            rows += _read_rows(program, names)
                            scopes += _read_scopes(info, unit, names)
                    hooks += _read_hooks(elf)
        # A library that no compiler has made can raise anything.
        except Exception:  # noqa: BLE001
            return cls([], [], [], text)
        return cls(rows, scopes, hooks, text)

    def at(self, address: int) -> SourceLine | None:
        """The innermost of the subject's own lines whose code is at an address of the library."""
        at = bisect_right(self._starts, address) - 1
        if at < 0 or self._rows[at].file is None:
            return None
        file, line = self._rows[at].file, self._rows[at].line
        around = sorted((s for s in self._scopes if s.start <= address < s.end), key=lambda scope: -scope.depth)
        for scope in around or [_Scope(0, 0)]:
            if (own := self._own_name(file, line)) is not None:
                return SourceLine(own, line, scope.name, self._text.line(own, line))
            file, line = scope.call_file, scope.call_line
        return None

    def _own_name(self, file: str | None, line: int) -> str | None:
        return self._text.own(file) if file is not None and line > 0 else None

    def reached(self, covered: bytes) -> tuple[list[SourceLine], list[SourceLine]]:
        """The own lines that have code, in their order: those of which some ran, and those of which none did.

        `covered` is not 0 at the address that the call at the beginning of each block returns to. A line whose code
        lies in several blocks was reached when one of them ran; what a compiler has put where no block is known to
        begin, such as at the end of another one, is taken for reached with it.
        """
        ran: set[tuple[str, int]] = set()
        lines: dict[tuple[str, int], SourceLine] = {}
        # Rows with one address share the code up to the next one.
        ends = dict(pairwise(sorted(set(self._starts))))
        for row in self._rows if self._hooks else ():
            own = self._own_name(row.file, row.line)
            if own is None or row.address not in ends:
                continue
            key = own, row.line
            if any(back < len(covered) and covered[back] for back in self._blocks(row.address, ends[row.address])):
                ran.add(key)
            if row.is_statement and key not in lines and (found := self.at(row.address)) is not None:
                lines[key] = found

        def of(keys: set[tuple[str, int]]) -> list[SourceLine]:
            return sorted({lines[key] for key in keys}, key=lambda line: (line.file, line.line))

        return of(lines.keys() & ran), of(lines.keys() - ran)

    def _blocks(self, start: int, end: int) -> Iterator[int]:
        """Where the hooks return to of the blocks that [start, end) meets. What a function does before its first block
        belongs to that one."""
        first = bisect_right(self._hooks, (start, 1 << 64)) - 1
        scope = next((s for s in self._scopes if s.depth == 0 and s.start <= start < s.end), None)
        if scope is not None and (first < 0 or self._hooks[first].start < scope.start):
            first += 1
        for number, hook in enumerate(self._hooks[max(first, 0) :]):
            if number and hook.start >= end:
                break
            yield hook.back


def undefined_names(library: Path) -> list[str]:
    """The names that a shared object needs others to define; none where they cannot be read."""
    try:
        with library.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".dynsym")
            if not isinstance(table, SymbolTableSection) or table.num_symbols() > _MOST_SYMBOLS:
                return []
            return [
                symbol.name
                for symbol in table.iter_symbols()
                if symbol["st_shndx"] == "SHN_UNDEF"
                and symbol["st_info"]["bind"] == "STB_GLOBAL"
                and _NAME.fullmatch(symbol.name)
            ]
    except Exception:  # noqa: BLE001  # as above
        return []


def _is_small(elf: ELFFile) -> bool:
    sections = [s for s in elf.iter_sections() if s.name.startswith((".debug_", ".zdebug_"))]
    return sum(max(s.data_size, s["sh_size"]) for s in sections) <= _MOST_BYTES


def _read_hooks(elf: ELFFile) -> Iterator[_Hook]:
    """Where the blocks begin, by the relocations that the linker has kept."""
    before = _BEFORE_OPERAND.get(elf["e_machine"])
    if before is None:
        return
    hooks: dict[int, set[int]] = {}  # the numbers of its symbol, by the table
    for section in elf.iter_sections():
        # Those that the loader applies, of the procedure linkage table, have an address.
        if isinstance(section, RelocationSection) and not section["sh_addr"]:
            table = section["sh_link"]
            if table not in hooks:
                symbols = elf.get_section(table)
                named = symbols.iter_symbols() if isinstance(symbols, SymbolTableSection) else ()
                hooks[table] = {n for n, symbol in enumerate(named) if symbol.name.split("@")[0] == _HOOK}
            for relocation in section.iter_relocations() if hooks[table] else ():
                if relocation["r_info_sym"] in hooks[table]:
                    at = relocation["r_offset"]
                    yield _Hook(at - before, at + 4)


def _read_rows(program: LineProgram, names: FileNames) -> Iterator[_Row]:
    for entry in program.get_entries():
        if (state := entry.state) is not None:
            file = None if state.end_sequence else names(state.file)
            yield _Row(state.address, file, state.line, bool(state.is_stmt))


def _file_names(program: LineProgram, unit: CompileUnit) -> FileNames:
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


def _read_scopes(info: DWARFInfo, unit: CompileUnit, names: FileNames) -> Iterator[_Scope]:
    """The functions of a unit, and what is inlined into them, without the blocks between."""
    waiting = [(die, 0) for die in unit.get_top_DIE().iter_children()]
    while waiting:
        die, depth = waiting.pop()
        if die.tag not in _SCOPES or depth > _DEEPEST:
            continue
        call_file, call_line = (die.attributes.get(f"DW_AT_call_{name}") for name in ("file", "line"))
        file, line = names(call_file.value) if call_file else None, call_line.value if call_line else 0
        if die.tag != "DW_TAG_lexical_block":
            for start, end in _ranges(info, unit, die):
                yield _Scope(start, end, depth, _function_name(die), file, line)
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
