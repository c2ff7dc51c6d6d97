"""The figures that the project promises, each with its target.

Where a figure would depend on the machine's speed, it is a ratio of two times measured in one run. Commands are timed
as a user would time them: by the clock, from the start of their process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

from benchmarks import campaigns, floor, inputs, pairs
from benchmarks.pairs import FEW
from subject_files import DIRECTORY

from vfio_verify.cli.main import cli

_JOBS = 2


class Figure(NamedTuple):
    """A figure and the target that it should not exceed, both in `unit`: "x" is a ratio."""

    name: str
    target: float
    measure: Callable[[], float]
    unit: str = "x"
    at_least: bool = False
    """Whether the figure should not fall below the target instead."""

    def is_met(self, measured: float) -> bool:
        return measured >= self.target if self.at_least else measured <= self.target


def figures(*, quick: bool = False) -> list[Figure]:
    """All figures, not measured yet. Quick ones take less work and smaller layouts, and prove nothing.

    `measure` raises HarnessError if what it measures does not happen. It may install the world's signal handlers for
    SIGSEGV and SIGBUS.
    """

    def size(full: int, small: int) -> int:
        return small if quick else full

    def repeated(measure: Callable[[], float]) -> float:
        return median(measure() for _ in range(repeats))

    repeats = size(3, 1)
    core = [
        (1, 64, size(400, 20)),
        (16, 8, size(400, 20)),
        (1000, 1, size(60, 5)),
        *([] if quick else [(30_000, 1, 9)]),
    ]
    plans = size(1000, 50)  # runs of a case in one request; what a request costs once is spread over them
    turns = size(15, 3)  # pairs
    sweeps = size(8, 1)  # of one layout, each with other errnos
    many, many_turns = size(30_000, 1000), size(5, 3)  # segments of the large layout
    examples, seeds = size(1000, 12), size(4, 1)
    campaign = ("check", "core", "--examples", examples, "--jobs", _JOBS)
    # Enough layouts for several shards; only the time until the first violation counts.
    short = ("--examples", size(100, 12), "--jobs", _JOBS)
    crashes = size(500, 20)
    helps = [("--help",), *((name, "--help") for name in cli.commands)]
    versions = [DIRECTORY / "correct" / name for name in ("check_first.c", "by_halves.c")]
    searched = (size(250, 10), size(2250, 30))  # layouts between which a search is timed
    watched = size(6000, 100)  # layouts of the search whose memory is sampled
    swept = size(200, 100)  # what a worker's start takes, and not always the same, is taken off
    tree, long = size(10_000, 100), size(4000, 400)
    kept = size(10_000, 100)  # cases that are replayed
    return [
        *(
            Figure(
                f"core / bare calls, {segments:,} segment{'s' * (segments > 1)}",
                1.05,
                partial(pairs.core_ratio, segments, *work),
            )
            for segments, *work in core
        ),
        Figure(f"observed / bare case, {FEW} segments", 1.6, lambda: pairs.observed_ratio(1, plans, turns)),
        Figure("with a second call / two bare cases", 1.6, lambda: pairs.observed_ratio(2, plans, turns)),
        Figure(f"faulty / faultless run of a sweep, {FEW} segments", 1.3, lambda: pairs.sweep_ratio(sweeps, turns)),
        Figure(
            f"a sweep of the core / its mappings, {swept:,} layouts", 2, lambda: floor.sweep_over_floor(swept, turns)
        ),
        Figure(
            f"check / its mappings, {examples:,} layouts, 1 job",
            3,
            lambda: floor.check_over_floor(versions[0], examples, repeats),
        ),
        Figure(f"a segment observed among {many:,} / among {FEW}", 1.3, lambda: pairs.growth(many, plans, many_turns)),
        Figure(
            f"check core, {examples:,} layouts, {_JOBS} jobs",
            10,
            lambda: campaigns.command_seconds(repeats, *campaign),
            "s",
        ),
        Figure(
            "first violation in a C subject",
            3,
            lambda: repeated(lambda: campaigns.first_violation_seconds(campaigns.SUBJECT, *short)),
            "s",
        ),
        Figure(
            f"first violation, tree of {tree:,} files",
            2,
            lambda: repeated(lambda: inputs.follow_up_seconds(tree, *short)),
            "s",
        ),
        Figure(
            f"the function in a file of {long:,} lines",
            0.3,
            lambda: repeated(lambda: inputs.reading_seconds(long)),
            "s",
        ),
        Figure(
            f"compare of two / two checks, {examples:,} layouts",
            0.8,
            lambda: repeated(lambda: campaigns.compare_ratio(*versions, "--examples", examples, "--jobs", _JOBS)),
        ),
        Figure(
            f"peak memory, {examples:,} layouts, {_JOBS} jobs",
            200,
            # The size of the largest layout depends on the seed.
            lambda: max(campaigns.peak_megabytes(*campaign, "--seed", seed) for seed in range(seeds)),
            "MB",
        ),
        Figure(
            "cases a second when every other one crashes",
            1500,
            lambda: repeated(lambda: campaigns.crashing_rate(crashes)),
            "/s",
            at_least=True,
        ),
        Figure(
            "--help of the slowest command, processor time",
            0.15,
            lambda: max(repeated(partial(campaigns.command_work, *words)) for words in helps),
            "s",
        ),
        Figure(
            "check core, one layout, start to end",
            1,
            lambda: campaigns.command_seconds(repeats, "check", "core", "--examples", 1),
            "s",
        ),
        Figure(
            "check of a C subject, 5 layouts, start to end",
            0.35,
            lambda: campaigns.command_seconds(repeats, "check", versions[0], "--examples", 5),
            "s",
        ),
        Figure(
            f"fuzz core, layouts a second, {_JOBS} jobs / 1 job",
            1.9,
            lambda: repeated(lambda: campaigns.search_gain(_JOBS, *searched)),
            at_least=True,
        ),
        Figure(
            f"memory of fuzz core, {watched:,} layouts, late / warm",
            1.1,
            lambda: campaigns.search_growth("--examples", watched, "--jobs", _JOBS),
        ),
        Figure(
            f"replay of {kept:,} kept cases, {_JOBS} jobs",
            10,
            lambda: campaigns.replay_seconds(repeats, kept, "--jobs", _JOBS),
            "s",
        ),
    ]
