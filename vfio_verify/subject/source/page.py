"""The diffs in what a web server gives: a patch tracker's JSON, and pages saved from Patchwork or lore as HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from vfio_verify.errors import InputError
from vfio_verify.subject.source import diff
from vfio_verify.subject.source.diff import Patch, WithoutDiffError
from vfio_verify.subject.source.raw import with_newlines

_HTTP = re.compile(r"^HTTP[ /][\d.]*\s*\d{3}\b.*$", re.MULTILINE)
_HTML = re.compile(r"\s*(?:<\?xml|<!doctype|<html)", re.IGNORECASE)
_SUBJECT = re.compile(r"^(?:\* )?(?:Subject: )?(\[[^\]\n]*\][^\n]+)$", re.MULTILINE)
_SITE = re.compile(r"\s+- (?:Patchwork|[^-]*)$")


def json_in(text: str) -> str | None:
    """The JSON that a text is, or that follows the headers of an answer; None if it is none."""
    if text.lstrip()[:1] in ("{", "["):
        return text.lstrip()
    page = _HTTP.search(text)
    body = re.search(r"^[{\[]", text[page.end() :], re.MULTILINE) if page else None
    return text[page.end() + body.start() :] if page and body else None


def from_json(text: str, name: str) -> list[Patch]:
    """The patches of a tracker's page. Raises InputError if there is none."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} looks like JSON but is not: {error}") from None
    entries = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    patches = []
    for entry in entries:
        found, title = entry.get("diff"), entry.get("name")
        if isinstance(found, str) and found.strip():
            patches.append(Patch(title if isinstance(title, str) else None, with_newlines(found)))
    if not patches:
        is_series = any("patches" in one for one in entries)
        hint = "a series' page holds none, its mbox does" if is_series else "give the page of one patch"
        raise WithoutDiffError(f'{name} is JSON without a "diff"; {hint}')
    return patches


def is_html(text: str) -> bool:
    """Whether a text is a web page."""
    return bool(_HTML.match(text))


def from_html(text: str, name: str) -> list[Patch]:
    """The patches of a page as a browser saves it: each is a preformatted text with a diff in it.

    Raises InputError if there is none.
    """
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except (ValueError, AssertionError, RecursionError) as error:  # text made to break the parser
        line, column = page.getpos()
        raise InputError(f"{name} cannot be read as a web page: line {line}, column {column}: {error}") from None
    title = _SITE.sub("", " ".join("".join(page.title).split()))
    patches = list(_patches(["".join(piece) for piece in page.preformatted], title or None, name))
    if not patches:
        raise WithoutDiffError(f"{name} is a web page in HTML without a diff; save the patch's mbox instead")
    return patches


def _patches(pieces: list[str], title: str | None, name: str) -> Iterator[Patch]:
    for piece in pieces:
        if found := json_in(piece):
            yield from from_json(found, name)
        elif found := diff.begun(with_newlines(piece)):
            own = _SUBJECT.search(piece[: -len(found)])
            yield Patch(own[1].strip() if own else title, found)


class _Page(HTMLParser):
    """Collects a page's title, and the texts of its `pre` elements."""

    def __init__(self) -> None:
        super().__init__()
        self.title: list[str] = []
        self.preformatted: list[list[str]] = []
        self._into: list[list[str]] = []

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        if tag == "pre":
            self.preformatted.append([])
            self._into.append(self.preformatted[-1])
        elif tag == "title":
            self._into.append(self.title)
        elif tag == "br" and self._into:
            self._into[-1].append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "title") and self._into:
            self._into.pop()

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1].append(data)
