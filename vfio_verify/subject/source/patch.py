"""From diffs to the text they leave behind: each hunk's post-image, with exact line numbers.

A patch shows parts of a file. What is known of a file is a map from line number to text; a series
is applied to that map patch by patch, and runs of neighbouring lines are the fragments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from msgspec import Struct
from unidiff.errors import UnidiffParseError
from unidiff.patch import Hunk, PatchSet

from vfio_verify.errors import InputError
from vfio_verify.subject.source.formats import Patch
from vfio_verify.subject.source.text import Fragment

_C_SUFFIXES = {".c", ".h", ".inc"}


class _Image(Struct):
    """What is known of one file after the patches so far, by the numbers of its lines."""

    whole: bool
    """The patches made the file, so all of it is known."""
    lines: dict[int, str] = {}
    changed: dict[int, str | None] = {}
    """The title of the patch that added a line, or removed something at it."""
    sections: dict[int, str] = {}
    last: int = 0
    """No known line lies behind it."""

    def apply(self, hunk: Hunk, file: str, drift: int, title: str | None) -> int:
        """Replace the hunk's source lines by its target lines; the drift for the hunk after it.

        `drift` is how far the hunks before this one have moved it, and how far its numbers are off.
        """
        source = [line.value.rstrip("\n") for line in hunk if line.is_context or line.is_removed]
        at = self._find(source, hunk.source_start + (hunk.source_length == 0) + drift)
        if at is None:
            raise InputError(
                f"{file}:{hunk.target_start}: this hunk does not follow from the patches before it; "
                "give the whole series in one version, or the C file"
            )
        growth = hunk.target_length - hunk.source_length
        earlier = {n: self.changed.pop(n) for n in range(at, at + hunk.source_length) if n in self.changed}
        self._move(at, hunk.source_length, growth)
        if hunk.section_header.strip():
            self.sections.setdefault(at, hunk.section_header.strip())
        before = number = at
        for line in hunk:
            if line.is_removed:
                self.changed.setdefault(number, title)
            elif line.is_added:
                self.changed[number] = title
            elif before in earlier:
                self.changed[number] = earlier[before]
            if line.is_added or line.is_context:
                self.lines[number] = line.value.rstrip("\n")
            before += line.is_context or line.is_removed
            number += line.is_context or line.is_added
        self.last = max(self.last, number)
        return int(at - hunk.source_start - (hunk.source_length == 0) + growth)

    def _find(self, source: list[str], expected: int) -> int | None:
        """Where these lines are: as the hunk says, else nearby, where known lines agree."""

        def agrees(at: int, *, needed: bool) -> bool:
            known = [(self.lines[at + i], line) for i, line in enumerate(source) if at + i in self.lines]
            return all(a == b for a, b in known) and (not needed or any(b.strip() for _, b in known))

        if agrees(expected, needed=False):
            return expected
        near = sorted(range(max(1, expected - 500), expected + 500), key=lambda at: abs(at - expected))
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
            )


def post_image(patches: Iterable[Patch], name: str) -> list[Fragment]:
    """The fragments of C files that these patches leave, headers first.

    Raises InputError for a diff that does not parse, and for one that touches no C file.
    """
    images: dict[str, _Image] = {}
    touched: list[str] = []
    for patch in patches:
        for changed in _parse(patch.diff, name):
            path = changed.path
            touched.append(path)
            if PurePosixPath(path).suffix not in _C_SUFFIXES:
                continue
            if changed.is_removed_file:
                images.pop(path, None)
                continue
            before = _strip(changed.source_file)
            if changed.is_rename and before in images:
                images[path] = images.pop(before)
            if changed.is_added_file or path not in images:
                images[path] = _Image(changed.is_added_file)
            # Each hunk's own numbers count on the hunks before it: source numbers drift by what those added.
            drift = 0
            for hunk in changed:
                drift = images[path].apply(hunk, path, drift, patch.title)
    found = [fragment for file, image in images.items() for fragment in image.fragments(file)]
    if not found:
        listed = ", ".join(dict.fromkeys(touched)) or "none"
        raise InputError(f"{name} changes no C file (files: {listed})")
    return sorted(found, key=lambda fragment: not fragment.is_header)


def _parse(diff: str, name: str) -> PatchSet:
    try:
        parsed = PatchSet([line + "\n" for line in diff.split("\n")])
    except (UnidiffParseError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: the diff cannot be read: {str(error).strip()}") from None
    if "\n@@@ " in diff:
        raise InputError(f"{name} is a diff of a merge; give the diff against one parent")
    return parsed


def _strip(path: str) -> str:
    return path[2:] if path.startswith(("a/", "b/")) else path
