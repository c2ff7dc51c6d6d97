"""From diffs to the text they leave behind: each hunk's post-image, with exact line numbers.

A patch shows parts of a file, and a tree has the rest. What is known of a file is a map from line number to text; a
series is applied to that map patch by patch, and runs of neighbouring lines are the fragments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.subject.source import diff, languages
from vfio_verify.subject.source.diff import Patch
from vfio_verify.subject.source.text import Fragment
from vfio_verify.subject.source.tree import Tree

if TYPE_CHECKING:
    from unidiff.patch import Hunk, Line, PatchedFile

_C_SUFFIXES = {".c", ".h", ".inc"}


_MOST_FUZZ = 2
_NEAR = 500  # lines
_MOST_WORK = 200_000_000  # lines times hunks; some ten seconds
_SHOWN = 8


class _Place(Struct, frozen=True):
    """Where a hunk applies: its lines without the context that does not agree, and the number of the first of them."""

    at: int
    lines: list[Line]
    skipped: int = 0
    """How many lines of context before these do not agree."""
    fuzz: int = 0


class _Image(Struct):
    """What is known of one file after the patches so far, by the numbers of its lines."""

    whole: bool
    """All of the file is known: the patches made it, or a tree has it."""
    is_supplied: bool = False
    """A tree has it."""
    lines: dict[int, str] = {}
    changed: dict[int, str | None] = {}
    """The title of the patch that added a line, or removed something at it."""
    sections: dict[int, str] = {}
    last: int = 0
    """No known line lies behind it."""

    def apply(self, place: _Place, section: str, title: str | None) -> None:
        """Replace the source lines of a hunk by its target lines."""
        at, lines = place.at, place.lines
        length = sum(not line.is_added for line in lines)
        growth = sum(line.is_added for line in lines) - sum(line.is_removed for line in lines)
        earlier = {n: self.changed.pop(n) for n in range(at, at + length) if n in self.changed}
        self._move(at, length, growth)
        if section.strip():
            self.sections.setdefault(at, section.strip())
        before = number = at
        for line in lines:
            if line.is_removed:
                self.changed.setdefault(number, title)
            elif line.is_added:
                self.changed[number] = title
            elif before in earlier:
                self.changed[number] = earlier[before]
            if not line.is_removed:
                self.lines[number] = _text(line)
            before += not line.is_added
            number += not line.is_removed
        self.last = max(self.last, number)

    def place_of(self, hunk: Hunk, expected: int) -> _Place | None:
        """Where a hunk applies: as it says, else nearby, where known lines agree. None if nowhere.

        In a file that is known as a whole it may be anywhere, and up to two lines of context at each end may differ.
        """
        lines = _lines(hunk)
        lead = next((i for i, line in enumerate(lines) if not line.is_context), len(lines))
        trail = next((i for i, line in enumerate(reversed(lines)) if not line.is_context), len(lines))
        for fuzz in range(_MOST_FUZZ + 1 if self.whole else 1):
            first, last = min(fuzz, lead), len(lines) - min(fuzz, trail)
            if fuzz > max(lead, trail) or first >= last:
                break
            source = [_text(line) for line in lines[first:last] if not line.is_added]
            at = self._find(source, expected + first, is_fuzzy=fuzz > 0)
            if at is not None:
                return _Place(at, lines[first:last], first, fuzz)
        return None

    def holds(self, hunk: Hunk) -> int | None:
        """Where the lines are that a hunk leaves behind; None if they are not there."""
        target = [_text(line) for line in _lines(hunk) if not line.is_removed]
        return self._find(target, max(1, hunk.target_start), is_fuzzy=True)

    def _find(self, source: list[str], expected: int, *, is_fuzzy: bool) -> int | None:
        """Where these lines are: as the hunk says, else nearby, where known lines agree."""

        def agrees(at: int, *, needed: bool) -> bool:
            known = [(self.lines[at + i], line) for i, line in enumerate(source) if at + i in self.lines]
            return (
                (not self.whole or len(known) == len(source))
                and all(a == b for a, b in known)
                and (not needed or any(b.strip() for _, b in known))
            )

        if agrees(expected, needed=is_fuzzy):
            return expected
        if self.whole:
            near = [at for at, line in self.lines.items() if source and line == source[0]]
        else:
            near = list(range(max(1, expected - _NEAR), expected + _NEAR))
        near.sort(key=lambda at: abs(at - expected))
        return next((at for at in near if agrees(at, needed=True)), None)

    def _move(self, at: int, length: int, growth: int) -> None:
        for number in range(at, at + length):
            self.lines.pop(number, None)
        if growth == 0 or self.last < at + length:
            return

        def moved(number: int) -> int:
            return number + growth if number >= at + length else number

        self.lines = {moved(n): text for n, text in self.lines.items()}
        self.changed = {moved(n): title for n, title in self.changed.items()}
        self.sections = {moved(n): text for n, text in self.sections.items()}
        self.last += growth

    def fragments(self, file: str) -> Iterator[Fragment]:
        """The runs of lines that are known, in order."""
        for start in sorted(n for n in self.lines if n - 1 not in self.lines):
            end = start
            while end in self.lines:
                end += 1
            yield Fragment(
                file,
                start,
                "\n".join(self.lines[n] for n in range(start, end)) + "\n",
                whole=self.whole or start == 1,
                section=self.sections.get(start, ""),
                changed={n: title for n, title in self.changed.items() if start <= n <= end},
                is_linked=self.is_supplied and PurePosixPath(file).suffix != ".c",
            )


class PostImage(Struct, frozen=True):
    """What patches leave behind."""

    fragments: list[Fragment]
    """Of the C files, headers first."""
    gone: frozenset[str]
    """The files that they remove or rename."""
    notes: tuple[str, ...]
    """Where a hunk did not apply exactly as it says."""


def post_image(patches: Iterable[Patch], name: str, tree: Tree | None = None) -> PostImage:
    """What these patches leave of the C files that they change: all of a file if it is new or the tree has it.

    Raises InputError for a diff that does not parse or does not apply, and for one that touches no C file.
    """
    images: dict[str, _Image] = {}
    touched: list[str] = []
    gone: set[str] = set()
    notes: list[str] = []
    for patch in patches:
        for changed in diff.parse(patch.diff, name):
            path = changed.path
            touched.append(path)
            if PurePosixPath(path).suffix not in _C_SUFFIXES:
                continue
            # Without the prefix that diff puts before both, such as `a/` and `b/`.
            before = path if not changed.is_rename else changed.source_file[len(changed.target_file) - len(path) :]
            if changed.is_removed_file:
                images.pop(path, None)
                gone.add(path)
                continue
            if changed.is_rename:
                gone.add(before)
                if before in images:
                    images[path] = images.pop(before)
            if changed.is_added_file and path in images:
                raise InputError(
                    f"{name} changes {path} before it adds it: its patches are not in order; give the oldest first"
                )
            if path not in images:
                images[path] = _Image(True) if changed.is_added_file else _image_in(tree, before)
            notes += _apply(changed, images[path], patch.title, tree)
    found = [fragment for file, image in images.items() for fragment in image.fragments(file)]
    if not found:
        named = [(path, languages.language_of(path)) for path in dict.fromkeys(touched)]
        listed = ", ".join(f"{path} is {of}" if of != "C" else path for path, of in named) or "none"
        raise InputError(f"{name} changes no C file (files: {listed})")
    ordered = sorted(found, key=lambda fragment: not fragment.is_header)
    return PostImage(ordered, frozenset(gone - set(images)), tuple(notes))


def _image_in(tree: Tree | None, path: str) -> _Image:
    """A file as the tree has it; without it, or without a tree, nothing is known."""
    text = tree.read(path) if tree else None
    if text is None:
        return _Image(False)
    lines = dict(enumerate(text.removesuffix("\n").split("\n"), 1))
    return _Image(True, True, lines, last=len(lines))


def _apply(changed: PatchedFile, image: _Image, title: str | None, tree: Tree | None) -> Iterator[str]:
    """Apply the hunks of one file; what is to be told of that."""
    file = changed.path
    if len(changed) * image.last > _MOST_WORK:
        raise InputError(f"{file} has {image.last:,} lines, too many for a patch of {len(changed):,} hunks")
    untouched = not image.changed
    moved: dict[str, list[int]] = {}
    # Each hunk's own numbers count on the hunks before it: source numbers drift by what those added, and by how far
    # the numbers of the one before were off.
    grown = offset = 0
    for number, hunk in enumerate(changed, 1):
        begin = hunk.source_start + (hunk.source_length == 0) + grown
        place = image.place_of(hunk, begin + offset)
        if place is None:
            if untouched and number == 1 and tree and all(image.holds(one) is not None for one in changed):
                _mark(changed, image, title)
                yield f"{file} is in {tree.name} as the patch leaves it."
                return
            raise InputError(f"{file}:{hunk.target_start}: {_why_not(image, tree)}")
        image.apply(place, hunk.section_header, title)
        offset = place.at - place.skipped - begin
        grown += hunk.target_length - hunk.source_length
        if image.is_supplied and (offset or place.fuzz):
            moved.setdefault(_how(offset, place.fuzz), []).append(number)
    for how, numbers in moved.items():
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (" and others" if len(numbers) > _SHOWN else "")
        yield f"{file}: hunk{'s' * (len(numbers) > 1)} {shown} applied with {how}."


def _how(offset: int, fuzz: int) -> str:
    told = [f"offset {offset}"] if offset else []
    return ", ".join([*told, *([f"fuzz {fuzz}"] if fuzz else [])])


def _why_not(image: _Image, tree: Tree | None) -> str:
    if tree and image.whole:
        return (
            f"this hunk does not apply to the file in {tree.name}; "
            "--tree DIR@COMMIT names the commit that the patch was made on"
        )
    return "this hunk does not follow from the patches before it; give the whole series in one version, or the C file"


def _mark(changed: PatchedFile, image: _Image, title: str | None) -> None:
    """Note the lines that the patch has changed in a file that already has them."""
    for hunk in changed:
        number = image.holds(hunk) or 1
        for line in _lines(hunk):
            if not line.is_context:
                image.changed[number] = title
            number += not line.is_removed


def _lines(hunk: Hunk) -> list[Line]:
    """A hunk's lines without the remarks that there is no newline at the end."""
    return [line for line in hunk if line.is_context or line.is_added or line.is_removed]


def _text(line: Line) -> str:
    return str(line.value).rstrip("\n")
