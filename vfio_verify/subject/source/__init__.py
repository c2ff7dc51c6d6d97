"""From what a reviewer has in hand to the C text of a subject.

formats.py      what the input is: tracker page, JSON, mail, diff, C text
patch.py        diffs to the lines they leave behind
text.py         comments, strings, preprocessor lines
items.py        the definitions in a piece of text, with exact bounds
declarations.py what one declaration is, and which names it brings
signatures.py   the shapes such a function has had
includes.py     which files beside a C file it may include
cut.py          find the function, and what it reaches
world_names.py  what the world declares, and what of it stays the world's
unit.py         the text to compile, with the adapter that calls the function
branches.py     what of the function a condition leaves out
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from vfio_verify.errors import InputError
from vfio_verify.subject.source import branches, cut, formats, includes, items, patch, text, unit, world_names
from vfio_verify.subject.source.signatures import Signature
from vfio_verify.values.source_line import LeftOut, Piece, SourceText

__all__ = ["Signature", "Source", "read_source"]


class Source(msgspec.Struct, frozen=True):
    """A subject ready to be compiled."""

    name: str
    """What the user gave: a path, or "-"."""
    title: str | None
    """The subject line of the patch that brings the function, if there is one."""
    function: str
    signature: Signature
    file: str
    """The file that defines the function: the user's path, or the target path in the patch."""
    line: int
    """The line in that file where its definition begins."""
    unit: str
    """The C text to compile; it ends with `vfio_verify_entry()` (call.h)."""
    include_dirs: tuple[str, ...] = ()
    """Where `#include "..."` looks first: the directory of a C file given by path."""
    text: SourceText = SourceText(())
    """The files of which the unit is made."""
    branches: tuple[LeftOut, ...] = ()
    """What of its functions a condition can leave out."""

    @property
    def takes_total_size(self) -> bool:
        """Whether the function is told the total size."""
        return self.signature.takes_total_size

    @property
    def has_errp(self) -> bool:
        """Whether the function can set an error."""
        return self.signature.has_errp


def read_source(path: str, function: str | None = None, *, any_include: bool = False) -> Source:
    """Read a patch, a series, a mail or a C file ("-": standard input), and cut out the function.

    `function` is its name; else it is `vfio_device_mmap_dmabuf`, else the one function whose
    types make a known signature. Raises InputError if the input cannot be read, or the function
    cannot be told, is there only in part, or has an unknown signature; also if a C file includes what is no
    source of C in its own directory or below, unless `any_include` allows it.
    """
    name = "standard input" if path == "-" else path
    if function is not None and not re.fullmatch(r"[A-Za-z_]\w*", function, re.ASCII):
        raise InputError(f"{function!r} is not the name of a C function")
    content = formats.interpret(formats.decode(formats.read_bytes(path), name), name)
    patches = [] if isinstance(content, formats.CText) else content
    if isinstance(content, formats.CText):
        fragments = _with_headers(path, content.text, any_include)
    else:
        fragments = patch.post_image(content, name)
    sources = [items.read(fragment) for fragment in fragments]
    target = cut.find(sources, function, name)
    chosen = cut.reach(target, sources, world_names.read_names())
    include_dir = str(Path(path).resolve().parent) if not patches and path != "-" else None
    return Source(
        name=path,
        title=_title(patches, target.name),
        function=target.name,
        signature=target.signature,
        file=target.item.fragment.file,
        line=target.item.line,
        unit=unit.write(chosen, sources),
        include_dirs=() if include_dir is None else (include_dir,),
        text=_text_of(chosen, include_dir, path),
        branches=branches.branches_of(chosen.kept, sources),
    )


def _text_of(chosen: cut.Cut, include_dir: str | None, path: str) -> SourceText:
    """The files from which something is compiled."""
    fragments = dict.fromkeys(item.fragment for item in chosen.kept)
    pieces = tuple(Piece(fragment.file, fragment.first_line, fragment.text) for fragment in fragments)
    return SourceText(pieces, include_dir, os.path.dirname(path) if include_dir is not None else "")


def _with_headers(path: str, content: str, any_include: bool) -> list[patch.Fragment]:
    """The C file, after the headers beside it that it includes; those are cut like the file itself.

    A header of a QEMU tree includes more of QEMU, so to compile it whole would not do.
    """
    if path == "-":
        return [patch.Fragment("<standard input>", 1, content)]
    found: dict[Path, patch.Fragment] = {}
    root = None if any_include else Path(path).resolve().parent
    _add_headers(path, content, found, {Path(path).resolve()}, root)
    return [*found.values(), patch.Fragment(path, 1, content)]


def _add_headers(
    path: str, content: str, found: dict[Path, patch.Fragment], seen: set[Path], root: Path | None
) -> None:
    pre = text.preprocess(content)
    for directive in pre.directives:
        written = re.match(r'\s*"([^"\n]+)"', content[directive.end - len(directive.rest) : directive.end])
        if directive.word != "include" or not written or pre.is_dead(directive.start):
            continue
        header = Path(path).parent / written.group(1)
        if root is not None and includes.beside(Path(path).parent, written.group(1), root) is None:
            continue
        resolved = header.resolve()
        if resolved in seen or len(seen) > 100 or not header.is_file():
            continue
        seen.add(resolved)
        inner = formats.decode(formats.read_bytes(str(header)), str(header))
        _add_headers(str(header), inner, found, seen, root)
        found[resolved] = patch.Fragment(str(header), 1, inner)


def _title(patches: list[formats.Patch], function: str) -> str | None:
    """The title of the last patch that adds a line with the function's name; else of the last."""
    added = re.compile(rf"^\+(?!\+\+).*\b{function}\b", re.MULTILINE)
    bringing = [one for one in patches if added.search(one.diff)] or patches
    return bringing[-1].title if bringing else None
