"""Reports made by hand, for what no subject in `subjects/` shows: many violations, odd characters, interruption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from vfio_verify.campaign.check import Result
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.tally import Tally
from vfio_verify.judge import Violation
from vfio_verify.report.report import Report, make_report
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.observation import Observation

# Ends of CDATA, attributes, table rows, blocks of code and lines; what a log obeys; what is no character.
NASTY = "]]> & <b a='\"'> | ``` \n::error::no\r\x00\x01\x1b[31m\x85\u202e\ud800\ufffe% , : é \U0001f600 @all #1 $x$"
CASE = Case(
    devices=(Device((Region(0, PAGE),)),),
    ram_blocks=(RamBlock(0, 0, 0),),
    iovec=(Segment(0, 0, PAGE),),
    total_size=PAGE,
)
SUBJECT = Subject("a.c", "C", "map_it", "bool f(...)", place="hw/a.c:12", title="[PATCH] a helper")


def violation(
    clause: str = "CONTENTS",
    summary: str = "a sentence",
    seen: str = "that",
    message: str = "",
    cause: str | None = None,
    **more: Any,
) -> Violation:
    observation = Observation(mapped=False, message=message.encode(errors="surrogatepass"))
    named = summary if cause is None else cause
    return Violation(clause, named, summary, CASE, observation, "this", seen, **more)


def report(violations: Sequence[Violation] = (), subject: Subject = SUBJECT, **fields: object) -> Report:
    """A report with these violations; `fields` are those of a result, or of its tally."""
    tally = Tally(layouts=7, runs=9, checked={"CONTENTS": 3, "SURVIVES": 9, "UNCHARGED": 1})
    for name in fields.keys() & set(Tally.__struct_fields__):
        setattr(tally, name, fields.pop(name))
    result = Result(tally, **{"confirmed": tuple(violations), **fields})  # type: ignore[arg-type]
    return make_report(subject, Options(seed=4), result)


def placed(place: str | None, name: str = "a.c") -> Subject:
    return replace(SUBJECT, name=name, place=place)
