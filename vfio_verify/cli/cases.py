"""Cases and corpora by the names that a user gives them, and files to write."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_verify.errors import HarnessError, InputError

if TYPE_CHECKING:
    from vfio_verify.corpus.entry import Entry, Kept
    from vfio_verify.corpus.shared import Corpus
    from vfio_verify.judge import Violation
    from vfio_verify.values.case import Policy


def read_case(text: str) -> Entry:
    """Read a case, to be run here, by the name that a user gives: JSON text, a file, - for standard input, or its place
    in a server. Raises InputError."""
    from vfio_verify.values.case import check

    kept = _kept(text)
    try:
        check(kept.entry.case)  # one for pages of another size is read, and cannot be run
    except InputError as error:
        raise InputError(f"{kept.place}: {error}") from error
    return kept.entry


def _kept(text: str) -> Kept:
    from vfio_verify.corpus.entry import Kept, read_bytes, read_entry
    from vfio_verify.corpus.shared import is_shared, open_corpus

    if is_shared(text):
        entries = list(open_corpus(text).load())
        if len(entries) > 1:
            raise InputError(f"there are {len(entries):,} cases there; add # and the name of one")
        return entries[0]
    if text.lstrip().startswith("{"):
        name, data = "the case given", text.encode("utf-8", "surrogateescape")
    elif text == "-":
        name, data = "standard input", read_bytes(sys.stdin.buffer, "standard input")
    else:
        try:
            with open(text, "rb") as file:
                name, data = text, read_bytes(file, text)
        except OSError as error:
            raise InputError(f"cannot read the case {text}: {error.strerror}") from error
    return Kept(name, read_entry(data, name))


def loaded(places: Iterable[str]) -> list[Kept]:
    """The entries of all corpora, each once."""
    from vfio_verify.corpus.shared import open_corpus

    found: dict[tuple[str, str], Kept] = {}
    for place in places:
        for kept in open_corpus(place).load():
            found.setdefault((kept.entry.name, str(kept.entry.origin)), kept)
    return list(found.values())


def keep(corpus: Corpus, subject: str, violations: Iterable[Violation], *, seed: int | None, policy: Policy) -> None:
    """Store each violation as an entry, and say on standard error how many are new."""
    from vfio_verify.corpus.entry import found

    entries = [found(subject, v.clause, v.cause, v.case, seed=seed, policy=policy) for v in violations]
    written = sum(corpus.store(entry) is not None for entry in entries)
    click.echo(f"kept: {written} of {len(entries)} violations are new in {corpus.shown}", err=True)


def corpus_to_write(place: str) -> Corpus:
    """Open a corpus that results are to be written to. Raises InputError before the work is done, not after it."""
    from vfio_verify.corpus.shared import open_corpus

    corpus = open_corpus(place)
    corpus.refuse_unwritable()
    return corpus


def known_clause(name: str) -> str:
    """The id of a clause that is named in any case. Raises InputError."""
    from vfio_verify.values.spec import clauses

    if name.upper() not in clauses():
        raise InputError(f"there is no clause {name}; there are {', '.join(clauses())}")
    return name.upper()


def write(path: str, data: bytes, what: str = "") -> None:
    """Write `what` to a file, or to standard output if that is "-". Raises HarnessError."""
    if path == "-":
        click.echo(data, nl=False)
        return
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise HarnessError(f"cannot write {what and what + ' '}to {path}: {error.strerror}") from error
