"""The report as a value and as JSON: what was checked, how each clause fared, and each violation with its case."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from vfio_verify import __version__
from vfio_verify.campaign.check import Result
from vfio_verify.campaign.line_coverage import LineCoverage, line_coverage
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.tally import LOST, Tally
from vfio_verify.errors import HarnessError
from vfio_verify.generate import long_lists
from vfio_verify.generate.kernel_faults import KernelRuns
from vfio_verify.judge.attribution import key
from vfio_verify.judge.severity import gravest_first
from vfio_verify.prove.proof import Proof, provable
from vfio_verify.prove.real_runs import Disagreement
from vfio_verify.report.violations import UnconfirmedEntry, ViolationEntry, unconfirmed_entry, violation_entry
from vfio_verify.subject.subject import Subject
from vfio_verify.values.markup import json_report
from vfio_verify.values.spec import SEVERITIES, Level, clauses
from vfio_verify.values.words import number_of

Status = Literal["holds", "violated", "unconfirmed", "not exercised", "proved", "not decided"]
Verdict = Literal["conforms", "violates", "unconfirmed", "proved", "not decided"]
UNCONFIRMED_STATUS = 4
"""The exit status if nothing is confirmed, but something was seen that is not, or a part was left out."""


class SubjectEntry(Struct, frozen=True, omit_defaults=True):
    """What was verified. `arguments` are what the user gave after the name: further files, and options."""

    name: str
    kind: str
    function: str
    signature: str
    place: str | None
    title: str | None
    arguments: tuple[str, ...] = ()
    assume: tuple[str, ...] = ()
    """The conventions of the world in which it was checked, which QEMU does not have: NAME=VALUE."""

    @property
    def has_errp(self) -> bool:
        """Whether the function takes an Error **."""
        return self.kind != "C" or "Error **" in self.signature

    @property
    def shown(self) -> str:
        """The function, or "core"."""
        return f"{self.function}()" if self.kind == "C" else self.name

    @property
    def condition(self) -> str:
        """What qualifies a verdict on it: nothing, or that conventions were assumed."""
        if not self.assume:
            return ""
        return ", under an assumption" if len(self.assume) == 1 else f", under {len(self.assume)} assumptions"


class ClauseEntry(Struct, frozen=True, omit_defaults=True):
    """How a clause fared; `checked` counts the runs that exercised it."""

    id: str
    level: Level
    status: Status
    checked: int
    proof: str | UnsetType = UNSET
    """Where a proof was tried: under which bound it was found, or why it was not."""

    @property
    def told(self) -> str:
        """The status, and what qualifies it."""
        if self.status == "holds" and self.proof and self.checked:
            return f"holds ({number_of(self.checked, 'run')})"
        qualified = self.proof and self.status in ("proved", "not decided", "holds")
        return f"{self.status} ({self.proof})" if qualified else self.status


class ProofEntry(Struct, frozen=True, omit_defaults=True):
    """What a proof was tried with: the version of CBMC, or how many inputs were run natively; the bounds, what it
    means, and disagreements."""

    segments: int
    runs: int
    """The calls that were made for real, of cases by which clauses are refuted."""
    bounds: str
    meaning: str
    disagreements: tuple[Disagreement, ...] = ()
    cbmc: str = ""
    inputs: int = 0


class Report(Struct, frozen=True, tag_field="schema", tag="vfio-verify/report@1"):
    """The outcome of a check. `verdict` is "violates" if a violation of a clause that fails a check is confirmed; else
    "unconfirmed" if one was seen but not confirmed, or if a part of the check was left out; null if nothing was judged.
    `examples` counts the layouts that were run, `runs` the calls with all faults, and `left_out` what was not run.
    `features` says how many layouts had each feature, and how many runs had each kind of fault."""

    subject: SubjectEntry
    verdict: Verdict | None
    examples: int
    seed: int
    clauses: tuple[ClauseEntry, ...]
    violations: tuple[ViolationEntry, ...]
    runs: int
    policy: str
    interrupted: bool
    unconfirmed: tuple[UnconfirmedEntry, ...]
    notes: tuple[str, ...]
    kernel_faults: tuple[KernelRuns, ...]
    version: str
    features: dict[str, int] = {}
    coverage: LineCoverage | None = None
    """Which lines of the subject some run reached. None for the core, and where that is not known."""
    left_out: dict[str, int] = {}
    behind: Report | UnsetType = UNSET
    """What a check finds behind the first fault of a subject that maps nothing, in a world with the conventions by
    which it goes on. Nothing of it is in the other fields, and it has no part in the exit status."""
    proof: ProofEntry | UnsetType = UNSET
    """What a proof was tried with, if one was."""

    @property
    def exit_status(self) -> int:
        """What ``vfio-verify check`` and ``prove`` exit with."""
        if self.interrupted or (self.behind and self.behind.interrupted):
            return 130
        if self.proof and self.proof.disagreements:
            return HarnessError.exit_status
        return {"conforms": 0, "proved": 0, "violates": 1}.get(self.verdict or "", UNCONFIRMED_STATUS)

    @property
    def is_whole(self) -> bool:
        """Whether all was run that the check promises."""
        return not self.shortcomings

    @property
    def extent(self) -> str:
        """How much was run, and from which seed, in words."""
        if self.proof and not self.examples:
            how = f"CBMC {self.proof.cbmc}" if self.proof.cbmc else number_of(self.proof.inputs, "input")
            return f"{how}, up to {number_of(self.proof.segments, 'segment')}"
        faults = " (every fault position)" if self.runs > self.examples else ""
        return f"{number_of(self.examples, 'layout')}, {number_of(self.runs, 'call')}{faults}, seed {self.seed}"

    @property
    def shortcomings(self) -> dict[str, str]:
        """Why the check is not whole: each kind of reason, and a sentence."""
        return {
            **({"interrupted": f"interrupted after {number_of(self.examples, 'layout')}"} if self.interrupted else {}),
            **({"left out": f"left out: {left_out_text(self.left_out)}"} if self.left_out else {}),
            **({"no verdict": "nothing was judged"} if self.verdict is None else {}),
        }

    def why_not_exercised(self, clause: str) -> str:
        """Why no run exercised a clause."""
        if clause == "ERROR_SET" and not self.subject.has_errp:
            return "the subject has no errp"
        if self.maps_unseen:
            return _UNSEEN
        if any("ACCEPTS_VALID" in violation.clauses for violation in self.violations):
            return "the subject maps no layout that gets that far"
        return "no run got that far"

    @property
    def maps_unseen(self) -> bool:
        """Whether it mapped memory, and no call that did so was seen: then none could be made to fail."""
        return _maps_unseen({clause.id: clause.checked for clause in self.clauses})

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the verdict is not "conforms" although nothing is confirmed, or why there is none."""
        seen = [entry for entry in self.unconfirmed if not entry.is_advice]
        again = sum(entry.tried for entry in seen)
        untried = len(seen) - again
        return (
            *(["nothing was judged"] if self.verdict is None else []),
            *([self._undecided] if self.verdict == "not decided" else []),
            *([f"{number_of(again, 'violation')} seen once, but not again"] if again else []),
            *([f"{number_of(untried, 'violation')} seen, but not yet run again"] if untried else []),
            *(["the check was interrupted"] if self.interrupted else []),
            *(["part of it was left out"] if self.left_out else []),
            *([_UNSEEN] if self.maps_unseen else []),
        )

    @property
    def _undecided(self) -> str:
        ids = [clause.id for clause in self.clauses if clause.status == "not decided"]
        return f"no proof of {', '.join(ids)}"

    @property
    def further(self) -> tuple[ViolationEntry, ...]:
        """The violations behind the first fault that are not told before it, or are graver than they are there."""
        told = {(one.clause, one.cause): SEVERITIES.index(one.severity) for one in self.violations}
        behind = self.behind.violations if self.behind else ()
        return tuple(
            one for one in behind if SEVERITIES.index(one.severity) < told.get((one.clause, one.cause), len(SEVERITIES))
        )

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def make_proof_report(subject: Subject, options: Options, proof: Proof) -> Report:
    """Put a proof into words, of a subject for which no campaign was run."""
    result = with_proof(Result(Tally(runs=proof.runs)), proof)
    report = make_report(subject, options, result, proof)
    asked = tuple(entry for entry in report.clauses if entry.id in (proof.options.clauses or provable()))
    violated = any(entry.status == "violated" for entry in asked)
    proved = all(entry.id in proof.proved for entry in asked) and not proof.interrupted
    verdict: Verdict = "not decided"
    if violated:
        verdict = "violates"
    elif proved:
        verdict = "conforms" if proof.inputs else "proved"
    return replace(report, clauses=asked, verdict=verdict)


def with_proof(result: Result, proof: Proof) -> Result:
    """A campaign's result, and what a proof has found besides."""
    known = {key(one) for one in result.confirmed}
    more = tuple(one for one in proof.confirmed if key(one) not in known)
    return replace(
        result,
        confirmed=(*result.confirmed, *more),
        unconfirmed=(*result.unconfirmed, *(() if proof.interrupted else proof.unconfirmed)),
        untried=(*result.untried, *(proof.unconfirmed if proof.interrupted else ())),
        interrupted=proof.interrupted,
    )


def _with_proof(entry: ClauseEntry, proof: Proof) -> ClauseEntry:
    """How a clause fared in a campaign, and for a proof."""
    if entry.id in proof.proved and proof.inputs:
        return replace(entry, status="holds", proof=number_of(proof.inputs, "input"))
    if entry.id in proof.proved:
        bound = f"<= {number_of(1 if entry.id == 'REPEATABLE' else proof.options.segments, 'segment')}"
        return replace(entry, status="proved" if entry.status != "violated" else "violated", proof=bound)
    why = proof.why.get(entry.id)
    if why is None:
        return entry
    return replace(entry, status="not decided" if entry.status == "not exercised" else entry.status, proof=why)


def _proof_entry(proof: Proof) -> ProofEntry:
    segments = proof.options.segments
    bounds = (
        f"Up to {number_of(segments, 'segment')} of any 64-bit length and offset, any total size; two RAMBlocks of "
        "VFIO regions and one of plain RAM; two devices, two regions of up to two areas, with indexes of up to 8; "
        "sizes of up to 1 TiB; regions that begin at any page of their files, for ACCEPTS_VALID and REPEATABLE at a "
        "multiple of 1 TiB; pages of 4096 bytes; mappings far from one another; at most one fault, which may persist. "
        "ACCEPTS_VALID, also where REPEATABLE asks it of a second call: one of the two areas with blocks may end "
        "inside a page; of layouts of several segments, those beside a second block of the same region. REPEATABLE, "
        "and SURVIVES beyond one call: two calls of one segment each, with blocks of two devices."
    )
    meaning = (
        "Proved means that CBMC finds no input within these bounds for which the C text violates the clause in the "
        "model of the world (specs/model). It says nothing of larger inputs, of concurrent calls, of the compiler, "
        "nor of what QEMU and the kernel do otherwise than the model."
    )
    if proof.inputs:
        bounds = (
            f"Layouts of up to {number_of(segments, 'segment')}, which begin and end at or around the borders of "
            "pages, blocks and numbers; three RAMBlocks of three pages, one of them plain RAM; totals that agree or "
            "nearly do; nine worlds; every single fault with every errno, and for layouts that may be mapped every "
            "pair and a second call."
        )
        meaning = (
            "Every input of this scope was run in the model of the world (specs/model), and none violates these "
            "clauses there. It says nothing of other inputs, of concurrent calls, nor of what QEMU and the kernel do "
            "otherwise than the model."
        )
    return ProofEntry(
        segments=segments,
        runs=proof.runs,
        bounds=bounds,
        meaning=meaning,
        disagreements=proof.disagreements,
        cbmc=proof.version,
        inputs=proof.inputs,
    )


def make_report(subject: Subject, options: Options, result: Result, proof: Proof | None = None) -> Report:
    """Put a campaign's result into words, and a proof's if there is one."""
    tally = result.tally
    violations = [violation_entry(violation, subject) for violation in sorted(result.confirmed, key=gravest_first)]
    unconfirmed = [
        *(unconfirmed_entry(violation, subject, tried=True) for violation in result.unconfirmed),
        *(unconfirmed_entry(violation, subject, tried=False) for violation in result.untried),
    ]
    violated = {clause for violation in violations for clause in violation.clauses}
    doubted = {violation.clause for violation in unconfirmed}

    def status(name: str) -> Status:
        if name in violated:
            return "violated"
        if name in doubted:
            return "unconfirmed"
        return "holds" if tally.checked.get(name) else "not exercised"

    return Report(
        subject=msgspec.convert(subject, SubjectEntry, from_attributes=True),
        verdict=_verdict(result, violated, doubted),
        examples=tally.layouts,
        seed=options.seed,
        clauses=tuple(
            entry if proof is None else _with_proof(entry, proof)
            for entry in (
                ClauseEntry(name, clause.level, status(name), tally.checked.get(name, 0))
                for name, clause in clauses().items()
            )
        ),
        violations=tuple(violations),
        runs=tally.runs,
        policy=options.policy,
        interrupted=result.interrupted,
        unconfirmed=tuple(unconfirmed),
        notes=(*subject.notes, *_notes(result)),
        kernel_faults=result.kernel_faults,
        version=__version__,
        features=tally.features,
        coverage=line_coverage(subject, tally.covered),
        left_out=tally.left_out,
        behind=make_report(result.behind.subject, options, result.behind.result) if result.behind else UNSET,
        proof=UNSET if proof is None else _proof_entry(proof),
    )


def _verdict(result: Result, violated: Collection[str], doubted: Collection[str]) -> Verdict | None:
    if any(clauses()[name].fails_a_check for name in violated):
        return "violates"
    if not result.tally.runs and not doubted:
        return None
    doubtful = any(clauses()[name].fails_a_check for name in doubted)
    is_part = result.interrupted or result.tally.left_out or _maps_unseen(result.tally.checked)
    return "unconfirmed" if doubtful or is_part else "conforms"


_UNSEEN = "it maps memory by system calls that could not be seen"


def _maps_unseen(checked: Mapping[str, int]) -> bool:
    return bool(checked.get("CONTIGUOUS")) and not checked.get("CONFINED")


_VERY_LONG = "segments: 4097 to 65536"


def _notes(result: Result) -> tuple[str, ...]:
    notes, tally = [], result.tally
    if tally.left_out:
        hangs = "the subject hangs or ends its process too often"
        why = "a process ended unexpectedly" if LOST in tally.left_out else hangs
        notes.append(f"Left out, because {why}: {left_out_text(tally.left_out)}.")
    if tally.sampled:
        runs = number_of(tally.sampled, "run")
        notes.append(f"In {runs} with large segments, contents were compared on a sample of the pages.")
    if _VERY_LONG in tally.features and (limited := long_lists.limited(long_lists.max_map_count())):
        notes.append(limited)
    return (*notes, *result.unconfined)


def left_out_text(left_out: dict[str, int]) -> str:
    """What was not run, in words. Its names are plurals, such as "calls with a fault"."""
    return ", ".join(_counted(what, count) for what, count in left_out.items())


def _counted(what: str, count: int) -> str:
    if what == LOST:
        return f"the {what}"
    one = re.sub("s( |$)", r"\1", what, count=1)
    return f"1 {one}" if count == 1 else f"{count:,} {what}"
