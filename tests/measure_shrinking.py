"""Does a fault end in the same small case from every seed? `python tests/measure_shrinking.py --help`.

Each broken subject is checked with each seed, and of each finding the case it ended in is held against the least one
of all seeds. Not part of the tests: with ten seeds it takes an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

from short_checks import no_kernel_faults
from subject_files import BROKEN

from vfio_verify.campaign.check import Result, check
from vfio_verify.campaign.options import Options
from vfio_verify.generate.kernel_faults import why_not
from vfio_verify.subject.subject import open_subject
from vfio_verify.values.case import Case
from vfio_verify.values.cost import cost

_FEW = 3
"""Segments that a case should not exceed."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", help="files; without any, all broken subjects of this suite")
    parser.add_argument("--seeds", type=int, default=10, help="1 to this number")
    parser.add_argument(
        "--examples", type=int, default=120, help="layouts of each check; of rare faults three times as many"
    )
    return parser.parse_args()


def checked(path: Path, seeds: int, examples: int, *, rare: bool) -> list[Result]:
    """One check for each seed; with the kernel's own faults only where the subject is known to need them."""
    with open_subject(str(path)) as subject:
        options = (Options(examples=examples * (3 if rare else 1), seed=seed) for seed in range(1, seeds + 1))
        return [check(subject, o, why_no_kernel_fault=why_not if rare else no_kernel_faults) for o in options]


def main() -> None:
    asked = arguments()
    rare = {file.path: file.rare for file in BROKEN}
    paths = [Path(name) for name in asked.subjects] or list(rare)
    in_best = ends = 0
    largest: tuple[int, str] = (0, "")
    began = time.monotonic()
    for path in paths:
        cases: defaultdict[tuple[str, str], list[Case]] = defaultdict(list)
        for result in checked(path, asked.seeds, asked.examples, rare=rare.get(path, False)):
            for violation in result.confirmed:
                cases[violation.clause, violation.cause].append(violation.case)
        for (clause, cause), found in sorted(cases.items()):
            best = min(found, key=cost)
            others = [case for case in found if case != best]
            in_best, ends = in_best + len(found) - len(others), ends + len(found)
            largest = max([largest, *((len(case.iovec), f"{path.stem}, {clause}") for case in found)])
            say(f"{path.stem}: {clause} {cause}: {len(found) - len(others)} of {len(found)}")
            for case in [best, *dict.fromkeys(others)] if others or len(best.iovec) > _FEW else []:
                say(f"    {case.to_json().decode()[:2000]}")
    share = in_best / ends if ends else 1.0
    say(f"{in_best} of {ends} findings ({share:.1%}) ended in the least case, in {time.monotonic() - began:.0f} s")
    say(f"the largest has {largest[0]} segments: {largest[1]}")
    sys.exit(share < 0.95)


if __name__ == "__main__":
    main()
