"""From what a reviewer has in hand to the C text of a subject. Each step makes a value out of the one before.

formats.py      what the input is: tracker page, JSON, mail, diff or C text; its diffs (`Patch`)
patch.py        diffs to the lines that they leave behind (`Fragment`)
text.py         comments, strings, preprocessor lines (`Preprocessed`)
includes.py     which files beside a C file it may include, and what they hold
items.py        the definitions in a piece of text, with exact bounds (`Item`)
declarations.py what one declaration is, and which names it brings
signatures.py   the shapes such a function has had
cut.py          the function, and what it reaches (`Target`, `Cut`)
world_names.py  what the world declares, and what of it stays the world's
unit.py         the text to compile, with the adapter that calls the function
branches.py     what of the function a condition leaves out
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.subject.source import cut, formats, includes, items, patch, unit, world_names
from vfio_verify.subject.source.cut import Cut, Target
from vfio_verify.subject.source.formats import Patch
from vfio_verify.subject.source.text import Fragment, preprocess
from vfio_verify.values.source_line import Piece, SourceText

__all__ = ["Source", "read_source"]


class Source(Struct, frozen=True):
    """A subject ready to be compiled."""

    name: str
    """What the user gave: a path, or "-"."""
    title: str | None
    """The subject line of the patch that brings the function, if there is one."""
    cut: Cut
    unit: str
    """The C text to compile; it ends with `vfio_verify_entry()` (call.h)."""
    text: SourceText
    """The files that were read."""
    readable: tuple[Path, ...] = ()
    """A C file given by path, and the headers that it includes: what the compiler may read of the user's files."""

    @property
    def target(self) -> Target:
        return self.cut.target


def read_source(path: str, function: str | None = None, *, any_include: bool = False) -> Source:
    """Read a patch, a series, a mail or a C file ("-": standard input), and cut out the function.

    `function` is its name; else it is `vfio_device_mmap_dmabuf`, else the one function whose
    types make a known signature. Raises InputError if the input cannot be read, or the function
    cannot be told, is there only in part, or has an unknown signature; also if a C file includes
    what is not a source of C, unless `any_include` allows it.
    """
    name = formats.name_of(path)
    if function is not None and not re.fullmatch(r"[A-Za-z_]\w*", function, re.ASCII):
        raise InputError(f"{function!r} is not the name of a C function")
    content = formats.read_text(path)
    patches = formats.interpret(content, name)
    directory: str | None = None
    readable: tuple[Path, ...] = ()
    if patches:
        fragments = [preprocess(fragment) for fragment in patch.post_image(patches, name)]
    elif path == "-":
        fragments = [preprocess(Fragment("<standard input>", 1, content))]
    else:
        own = preprocess(Fragment(path, 1, content))
        headers = includes.headers_of(own, any_include=any_include)
        fragments = [*headers.values(), own]
        readable = (Path(path).resolve(), *headers)
        directory = str(Path(path).parent.resolve())
    sources = [items.read(fragment) for fragment in fragments]
    world = world_names.read_names()
    chosen = cut.reach(cut.find(sources, function, name), sources, world)
    files = (source.fragment for source in fragments)
    pieces = tuple(Piece(file.file, file.first_line, file.text) for file in files)
    return Source(
        name=path,
        title=_title(patches, chosen.target),
        cut=chosen,
        unit=unit.write(chosen, world),
        text=SourceText(pieces, directory, os.path.dirname(path) if directory else ""),
        readable=readable,
    )


def _title(patches: Sequence[Patch], target: Target) -> str | None:
    """The title of the patch that brings the function's first changed line; else of the last."""
    item = target.item
    changed = item.source.fragment.changed
    last = item.source.fragment.line(item.end)
    titles = [changed[line] for line in range(item.line, last + 1) if line in changed]
    return next(iter(titles), patches[-1].title if patches else None)
