"""The files of a subject: what the user named, with the headers that it includes, before its function is looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.subject.source import formats, includes, languages, order, patch, raw
from vfio_verify.subject.source.diff import Patch, WithoutDiffError
from vfio_verify.subject.source.given import Given
from vfio_verify.subject.source.text import Fragment, Preprocessed, preprocess
from vfio_verify.subject.source.tree import Tree


class Files(Struct, frozen=True):
    """What was read."""

    files: list[Preprocessed]
    """Headers come before what includes them."""
    patches: list[Patch]
    notes: tuple[str, ...] = ()
    """Where a hunk did not apply exactly as it says."""
    missing: tuple[str, ...] = ()
    """Headers that are included and were not found."""
    gone: frozenset[str] = frozenset()
    """Files that the patches remove or rename."""
    readable: tuple[Path, ...] = ()
    """Files that the compiler may read."""
    directory: str | None = None
    """Where a C file's own includes lie, and how the user names that."""
    prefix: str = ""


class _Interpreted(NamedTuple):
    """The inputs, each with its text; the patches in them; those that hold none; and what is wrong with others."""

    texts: dict[str, str]
    patches: list[Patch]
    plain: list[str]
    without: list[WithoutDiffError]


def read(paths: list[str], name: str, given: Given, tree: Tree | None, *, any_include: bool) -> Files:
    """Read what the user named: patches, which are one series, or else C files. Raises InputError."""
    for directory in () if tree else given.directories:
        if not os.path.isdir(directory):
            raise InputError(f"-I {directory}: no such directory")
    folder = _folder(paths)
    texts, patches, plain, without = _interpreted(paths, tree)
    if without and not patches:
        raise without[0]
    if folder and not patches:
        raise InputError(f"{folder} is a directory without patches; give a patch, a mail or a C file")
    if not patches:
        return _read_c_files(texts, given, any_include=any_include)
    if plain and not folder:
        raise InputError(
            f"{raw.name_of(plain[0])} is no patch, as others are; --tree DIR supplies the files that they change"
        )
    return _read_patches(order.in_order(patches, name, given.version), name, given, tree, any_include=any_include)


def versions_in(path: str) -> list[int]:
    """The versions of a series that the patches in an input are of, from the first on. Raises InputError."""
    return order.versions_of(_interpreted([path], None).patches)


def _folder(paths: list[str]) -> str | None:
    return paths[0] if len(paths) == 1 and os.path.isdir(paths[0]) else None


def _interpreted(paths: list[str], tree: Tree | None) -> _Interpreted:
    folder = _folder(paths)
    texts = {path: _text_of(path, tree) for path in (raw.files_in(Path(folder)) if folder else paths)}
    found = _Interpreted(texts, [], [], [])
    for path, text in texts.items():
        try:
            patches = formats.interpret(text, raw.name_of(path))
        except WithoutDiffError as error:  # such as a cover letter
            found.without.append(error)
            continue
        found.patches.extend(patches)
        if not patches:
            found.plain.append(path)
    return found


def _read_patches(patches: list[Patch], name: str, given: Given, tree: Tree | None, *, any_include: bool) -> Files:
    """The files that patches leave behind, and the headers that they include from the directories of `-I`."""
    image = patch.post_image(patches, name, tree)
    headers: dict[Path, Preprocessed] = {}
    files = [preprocess(fragment) for fragment in image.fragments]
    for file in files if given.directories else ():
        included = includes.headers_of(file, given.directories, any_include=any_include, beside=False)
        headers = included.headers | headers
    return Files([*headers.values(), *files], patches, image.notes, gone=image.gone)


def _text_of(path: str, tree: Tree | None) -> str:
    """The text of a file. One that is only in the tree is read there."""
    is_relative = path != "-" and not os.path.lexists(path) and not os.path.isabs(path)
    text = tree.read(os.path.normpath(path)) if tree is not None and is_relative else None
    return raw.read_text(path) if text is None else text


def _read_c_files(texts: dict[str, str], given: Given, *, any_include: bool) -> Files:
    """C files, with the headers that they include."""
    files: list[Preprocessed] = []
    readable: dict[Path, None] = {}
    missing: dict[str, None] = {}
    for path, text in texts.items():
        languages.refuse_others(path, raw.name_of(path), text)
        if path == "-" or not os.path.lexists(path):
            files.append(preprocess(Fragment("<standard input>" if path == "-" else path, 1, text)))
            continue
        own = preprocess(Fragment(path, 1, text))
        included = includes.headers_of(own, given.directories, any_include=any_include)
        files += [header for real, header in included.headers.items() if real not in readable]
        files.append(own)
        readable.update(dict.fromkeys((Path(path).resolve(), *included.headers)))
        missing.update(dict.fromkeys(included.missing))
    last = next((path for path in reversed(texts) if path != "-" and os.path.lexists(path)), None)
    return Files(
        files,
        [],
        missing=tuple(missing),
        readable=tuple(readable),
        directory=str(Path(last).parent.resolve()) if last else None,
        prefix=os.path.dirname(last) if last else "",
    )
