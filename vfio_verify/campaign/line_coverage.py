"""What of a subject's function and its helpers no run has reached, and what was not compiled at all."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from vfio_verify.subject.subject import Subject
from vfio_verify.values.source_line import LeftOut, SourceLine


class LineRange(Struct, frozen=True):
    """Lines of one function, none of which was reached; `text` is that of the first."""

    file: str
    first: int
    last: int
    function: str | None
    text: str


class LineCoverage(Struct, frozen=True):
    """Lines that have code, and those of them that some run reached; what was not compiled has no code."""

    lines: int
    reached: int
    not_reached: tuple[LineRange, ...]
    compiled_out: tuple[LeftOut, ...]


def line_coverage(subject: Subject, covered: bytes) -> LineCoverage | None:
    """The coverage by what `Worker.covered` says of all workers. None for the core, and where lines are not known."""
    reached, others = subject.lines_reached(covered)
    if not (reached or others) or not covered:
        return None
    return LineCoverage(
        lines=len(reached) + len(others),
        reached=len(reached),
        not_reached=tuple(_ranges(reached, others)),
        compiled_out=subject.left_out,
    )


def _ranges(reached: list[SourceLine], others: list[SourceLine]) -> Iterator[LineRange]:
    """Group lines that follow one another in one function, without a reached one between them."""
    known = {(line.file, line.line) for line in reached}
    run: list[SourceLine] = []
    for line in others:
        if run and not _continues(run[-1], line, known):
            yield _range(run)
            run = []
        run.append(line)
    if run:
        yield _range(run)


def _continues(before: SourceLine, line: SourceLine, known: set[tuple[str, int]]) -> bool:
    same = (before.file, before.function) == (line.file, line.function)
    return same and not any((line.file, n) in known for n in range(before.line, line.line))


def _range(run: list[SourceLine]) -> LineRange:
    first = run[0]
    return LineRange(first.file, first.line, run[-1].line, first.function, first.text)
