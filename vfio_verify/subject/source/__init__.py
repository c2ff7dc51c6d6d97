"""From what a reviewer has in hand to the C text of a subject. Each step makes a value out of the one before.

given.py        what a user says beside it: a version, a tree, definitions and directories
raw.py          files, standard input and addresses to text
formats.py      what an input is, told by its content; its diffs (`Patch`, in diff.py)
page.py, mail.py, log.py    the diffs in web pages, in mails, and in what `git log` prints
order.py        patches in the order in which they apply
languages.py    other languages, which are not parsed as C
kconfig.py      symbols that a patch turns on by default
tree.py         a source tree beside the subject: a directory, or a commit
patch.py        diffs to the lines that they leave behind (`Fragment`)
text.py         comments, strings, preprocessor lines (`Preprocessed`)
includes.py     which files beside a C file it may include, and what they hold
reading.py      what the user named, as files (`Files`)
items.py        the definitions in a piece of text, with exact bounds (`Item`)
declarations.py what one declaration is, and which names it brings
signatures.py   the shapes such a function has had
cut.py          the function, and what it reaches (`Target`, `Cut`)
compile_commands.py    how the tree's own build compiles a file
linked.py       what of it other files of the tree define
world_names.py  what the world declares, and what of it stays the world's
unit.py         the text to compile, with the entry that calls the function
branches.py     what of the function a condition leaves out
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.errors import InputError
from vfio_verify.subject.source import (
    compile_commands,
    cut,
    items,
    kconfig,
    raw,
    reading,
    unit,
    world_names,
)
from vfio_verify.subject.source.compile_commands import Flags
from vfio_verify.subject.source.cut import Cut, Target
from vfio_verify.subject.source.diff import Patch
from vfio_verify.subject.source.given import Given
from vfio_verify.subject.source.items import Parsed
from vfio_verify.subject.source.linked import Linked, Linker
from vfio_verify.subject.source.tree import Directory, Tree, open_tree
from vfio_verify.values.source_line import Piece, SourceText

__all__ = ["Given", "Source", "read_source"]


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
    defines: tuple[str, ...] = ()
    """``NAME`` or ``NAME=VALUE`` each: what the compiler is told with `-D`."""
    missing: tuple[str, ...] = ()
    """Headers that are included and were not found."""
    notes: tuple[str, ...] = ()
    """How patches were applied, and what a tree defines more than once."""
    taken: tuple[str, ...] = ()
    """What comes from the tree, and where it is there."""
    linker: Linker | None = None
    """Finds further names, if there is a tree."""
    given: tuple[Parsed, ...] = ()
    """The subject's own files, without those of the tree."""
    offered: Mapping[str, str] = {}
    """Macros that its patches turn on by default, each with the Kconfig file."""

    @property
    def target(self) -> Target:
        return self.cut.target

    def with_names(self, names: Collection[str]) -> Source | None:
        """This subject with further names from its tree; None if that has none of them."""
        if self.linker is None:
            return None
        linked = self.linker.link(self.target, self.given, names)
        found = _linked(self, linked)
        return None if found.unit == self.unit else found


def read_source(
    path: str | Sequence[str],
    function: str | None = None,
    *,
    any_include: bool = False,
    given: Given = Given(),  # noqa: B008  a frozen value
    system: Callable[[], frozenset[str]] = frozenset,
) -> Source:
    """Read a patch, a series, a mail or a C file ("-": standard input), and cut out the function.

    Several paths, or a folder, are one series. `function` is its name; else it is `vfio_device_mmap_dmabuf`, else the
    one function whose types make a known signature. `system` gives the words of the system's headers: no tree is
    searched for those. Raises InputError if the input cannot be read, or the function cannot be told, is there only in
    part, or has an unknown signature; also if a C file includes what is not a source of C, unless `any_include` allows
    it.
    """
    paths = [path] if isinstance(path, str) else list(path)
    name = raw.name_of(paths[0]) if len(paths) == 1 else f"{raw.name_of(paths[0])} and {len(paths) - 1} more"
    if function is not None and not re.fullmatch(r"[A-Za-z_]\w*", function, re.ASCII):
        raise InputError(f"{function!r} is not the name of a C function")
    tree = open_tree(given.tree) if given.tree is not None else None
    read = reading.read(paths, name, given, tree, any_include=any_include)
    sources = tuple(items.read(file) for file in read.files)
    world = world_names.read_names()
    target = cut.find(sources, function, name)
    linker, defines = None, given.defines
    if tree is not None:
        own = target.item.file if read.patches else _path_in(tree, target.item.file)
        flags = compile_commands.flags_for(tree, own) if own and isinstance(tree, Directory) else Flags()
        defines = (*flags.defines, *given.defines)
        directories = (*flags.directories, *(_path_in(tree, one) or one for one in given.directories))
        linker = Linker(tree, world, own, directories=directories, defines=defines, gone=read.gone, system=system)
        linked = linker.link(target, sources)
    else:
        linked = Linked(cut.reach(target, sources, world), sources, ())
    source = Source(
        name=paths[0],
        title=_title(read.patches, target),
        cut=linked.cut,
        unit="",
        text=SourceText((), read.directory, read.prefix),
        readable=read.readable,
        defines=defines,
        missing=read.missing,
        notes=read.notes,
        linker=linker,
        given=sources,
        offered=kconfig.offered(read.patches, name),
    )
    return _linked(source, linked)


def _linked(source: Source, linked: Linked) -> Source:
    """A subject as it is with what its tree adds."""
    files = (parsed.source.fragment for parsed in linked.sources)
    pieces = tuple(Piece(file.file, file.first_line, file.text) for file in files)
    text = SourceText(pieces, source.text.directory, source.text.prefix)
    written = unit.write(linked.cut, world_names.read_names())
    offers = kconfig.notes(source.offered, linked.cut.kept, written, source.defines)
    notes = tuple(dict.fromkeys((*source.notes, *linked.notes, *offers)))
    return replace(source, cut=linked.cut, unit=written, text=text, notes=notes, taken=linked.taken)


def _path_in(tree: Tree, path: str) -> str | None:
    """The path in the tree of what is named by a path of this machine, or of the tree; None if it is elsewhere."""
    if not isinstance(tree, Directory) or not os.path.lexists(path):
        return path
    real = Path(os.path.realpath(path))  # resolve() raises for a loop of links
    return str(real.relative_to(tree.root)) if real.is_relative_to(tree.root) else None


def _title(patches: Sequence[Patch], target: Target) -> str | None:
    """The title of the patch that brings the function's first changed line; else of the last."""
    item = target.item
    changed = item.source.fragment.changed
    last = item.source.fragment.line(item.end)
    titles = [changed[line] for line in range(item.line, last + 1) if line in changed]
    return next(iter(titles), patches[-1].title if patches else None)
