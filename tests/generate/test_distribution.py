"""The generator covers what the spec speaks of: each feature over its floor, each kind of fault; and the table."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from commands import run
from hypothesis import HealthCheck, Phase, given, seed, settings
from once import once
from places import TESTS
from short_checks import no_kernel_faults
from subject_files import needs_compiler

from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shards import made_by_hand, shards
from vfio_verify.generate.distribution import FeatureCount, table
from vfio_verify.generate.packed import packed_cases
from vfio_verify.generate.strategies import cases
from vfio_verify.subject.subject import CORE, open_subject
from vfio_verify.values.case import PAGE, Call, Case, Device, Fault, Fork, RamBlock, Region, Segment
from vfio_verify.values.features import FEATURES, features

SUBJECTS = TESTS / "subjects"
LAYOUTS = 2000
GIB = 1 << 30

# Of 2,000 layouts, how many at least have each feature. A default check runs 1,000: what one fault alone depends on
# should be met there some times. The floors are about half of the least that was seen with three seeds.
FLOORS = {
    # The usual sizes, several pages each: where most mistakes in cursors and offsets show.
    "segments: 1": 150,
    "segments: 2": 120,
    "segments: 3": 100,
    "segments: 4 to 6": 300,
    "segment: several pages": 550,
    "segments: repeated": 300,
    "segments: overlapping": 340,
    "segments: adjacent": 140,
    "segments: descending": 350,
    # No segments: one way to refuse, so a few will do.
    "segments: none": 20,
    # Fixed tables of 16, 64, 128 or 256 entries: each costs a lot of time, so that they are rare.
    "segments: 7 to 16": 10,
    "segments: 17 to 64": 5,
    "segments: 65 to 256": 1,
    "segments: 257 to 4096": 4,
    # Sizes and offsets kept in 32 bits.
    "segment: over 2 GiB": 60,
    "segment: over 4 GiB": 50,
    # Ways to be refused: each alone, at the last segment or before it.
    "misaligned: length, last": 40,
    "misaligned: length, not last": 30,
    "misaligned: address": 15,
    "empty: a segment": 15,
    "total: too large": 20,
    "total: too small": 8,
    "total: the sum overflows": 40,
    "block: past its end": 100,
    "blocks: several": 80,
    "block: none": 35,
    "block: plain RAM": 35,
    # An end that is just reached must not be refused.
    "block: at its very end": 500,
    # Offsets that only count where a region or an area is not the first.
    "region: index 0": 80,
    "region: other index": 700,
    "region: index over 8": 280,
    "region: sparse": 450,
    "region: second area": 170,
    "region: read-only": 170,
    "regions: several": 440,
    "devices: several": 480,
    "device: its areas bound its mmap": 380,
    "device: a descriptor for each region": 180,
    # What tells a guess of where a region lies, and how large it is, from what a device says.
    "device: a file for each region": 160,
    "device: its regions are in ordinary files": 150,
    "region: at an offset of its own": 180,
    "region: smaller than a page": 4,
    "region: ends inside a page": 120,
    "block: its last page is only partly the region's": 90,
    "region: QEMU leaves the MSI-X table out": 35,
    "region: its MSI-X table may be mapped": 50,
    "blocks: side by side in the host": 130,
    "segments: from one block on into the next": 45,
    "total: ends inside a page": 1,
    # The error that a caller does not want.
    "errp: NULL": 60,
    # Kernels that answer otherwise than the newest one.
    "variables: zero until they are set": 8,
    "host pages: 16 KiB": 8,
    "host pages: 64 KiB": 8,
    "kernel: hints not followed": 8,
    "kernel: MAP_FIXED_NOREPLACE unknown": 8,
    "kernel: no locked memory": 8,
    "kernel: a refused mremap has unmapped its target": 8,
    # Both answers of the model, and the one that is left open.
    "expected: maps": 480,
    "expected: refuses": 280,
    "expected: either": 12,
}

# One campaign's faults: what each step can fail by, as man pages and vfio-pci have it.
MMAP = [
    *("ENOMEM", "EINVAL", "EACCES", "EAGAIN", "EBADF", "ENODEV", "EPERM"),
    *("ENFILE", "EOVERFLOW", "EBUSY", "EEXIST", "ETXTBSY", "EIO"),
]
MET = {
    "core": {"mmap": MMAP, "munmap": ["ENOMEM", "EINVAL"], "find_block": []},
    "correct/check_first.c": {
        "mmap": MMAP, "munmap": ["ENOMEM", "EINVAL"], "find_block": [], "find_region": [],
        "region_fd": ["EINVAL", "ENOMEM", "ENODEV", "EMFILE"],
    },
    "correct/own_descriptor.c": {
        "mmap": MMAP, "munmap": ["ENOMEM", "EINVAL"], "find_block": [],
        "dup": ["EMFILE", "EBADF", "EBUSY", "EINTR", "ENOMEM"], "close": ["EINTR", "EIO", "EBADF", "ENOSPC", "EDQUOT"],
    },
}  # fmt: skip


@cache
def drawn(strategy: str) -> Counter[str]:
    """What the campaign of a seed draws, and what the strategy for one's own properties does."""
    return once(f"drawn/{strategy}", lambda _: draw_all(strategy))


def draw_all(strategy: str) -> Counter[str]:
    met: Counter[str] = Counter()

    def count(case: Case) -> None:
        met["layouts"] += 1
        met.update(features(case))

    @seed(1)
    @settings(
        max_examples=LAYOUTS, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def draw(case: Case) -> None:
        count(case)

    if strategy == "packed":
        for case in packed_cases(1, LAYOUTS):
            count(case)
    else:
        draw()
    assert met["layouts"] == LAYOUTS
    return met


def test_every_feature_has_a_floor():
    assert set(FLOORS) == set(FEATURES)


@pytest.mark.parametrize("strategy", ["packed", "drawn"])
@pytest.mark.parametrize("feature", FEATURES)
def test_the_generator_covers_the_feature(strategy, feature):
    assert drawn(strategy)[feature] >= FLOORS[feature]


def test_a_feature_that_is_not_drawn_falls_under_its_floor():
    """The valid cases alone miss what is refused: the floors notice."""
    met: Counter[str] = Counter()

    @seed(1)
    @settings(max_examples=300, phases=[Phase.generate], database=None, deadline=None)
    @given(cases(valid=True))
    def count(case: Case) -> None:
        met.update(features(case))

    count()
    under = {name for name, floor in FLOORS.items() if met[name] * LAYOUTS < floor * 300}
    assert {"expected: refuses", "misaligned: address", "total: too small", "block: past its end"} <= under
    assert "expected: maps" not in under


# ---- faults --------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("name", MET)
def test_a_campaign_meets_every_kind_of_fault(name):
    with open_subject(name if name == "core" else str(SUBJECTS / name)) as subject:
        met = check(subject, Options(examples=120), why_no_kernel_fault=no_kernel_faults).tally.features
    for step, errnos in MET[name].items():
        for errno in errnos:
            assert met[f"fault: {step} with {errno}"]
        assert met[f"fault: {step}, early"]
        if step not in ("dup", "close", "region_fd", "find_region"):  # made once: there are no later ones
            assert met[f"fault: {step}, early, for good"]
        if step in ("mmap", "find_block"):
            assert met[f"fault: {step}, not the first"]
    assert met["fault: mmap, late"]
    assert met["fault: mmap, late, for good"]
    assert met["fault: several"]
    assert met["sequence: call again"]


def test_faults_are_counted_by_what_fails_and_how():
    counted = FeatureCount()
    early, late = Fault("mmap", 1, "ENOMEM"), Fault("mmap", 3, "EIO", "late", persistent=True)
    counted.plans([(), (early,), (early, late)])
    assert counted.counts() == {
        "fault: mmap, early": 2,
        "fault: mmap with ENOMEM": 2,
        "fault: mmap, late, for good": 1,
        "fault: mmap with EIO": 1,
        "fault: mmap, not the first": 1,
        "fault: several": 1,
    }


# ---- the table -----------------------------------------------------------------------------------------------

SMALL = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)


def test_the_table_has_every_feature_and_marks_what_was_never_met():
    counted = FeatureCount()
    counted.layout(SMALL)
    counted.layout(SMALL)
    with_fork = Case(SMALL.devices, SMALL.ram_blocks, SMALL.iovec, PAGE, sequence=(Fork(), Call((), 0)))
    counted.beyond(with_fork)
    lines = list(table(counted.counts(), 4))
    words = [line.split() for line in lines]
    assert ["segments:", "1", "2", "50.0%"] in words
    assert ["region:", "sparse", "0", "0.0%", "never"] in words
    assert ["sequence:", "fork", "1"] in words
    assert ["sequence:", "call", "again", "1"] in words
    assert [line[: len(name)] for line, name in zip(lines[1:], FEATURES, strict=False)] == list(FEATURES)


def test_a_check_prints_the_distribution_and_writes_it_to_its_report(tmp_path):
    done = run("check", "core", "--examples", "30", "--distribution", "--json", "report.json", cwd=tmp_path)
    assert done.returncode == 0
    met = json.loads((tmp_path / "report.json").read_text())["features"]
    assert met["expected: maps"] + met["expected: refuses"] + met.get("expected: either", 0) == 30
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("expected: maps"))
    assert int(row[2]) == met["expected: maps"]
    assert row[3] == f"{met['expected: maps'] / 30:.1%}"


def test_any_number_of_jobs_meets_the_same():
    one = check(CORE, Options(examples=60, seed=3))
    assert one.tally.features == check(CORE, Options(examples=60, seed=3, jobs=2)).tally.features


# ---- observations ----------------------------------------------------------------------------------------------


def records(directory: Path) -> list[dict[str, object]]:
    (path,) = directory.iterdir()
    assert path.name.endswith("_testcases.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@needs_compiler
def test_observed_layouts_say_what_they_were_and_how_they_were_judged(tmp_path):
    subject = str(SUBJECTS / "broken" / "never_unmapped.c")
    done = run("check", subject, "--examples", "60", "--jobs", "2", "--observe", "seen", cwd=tmp_path)
    assert done.returncode == 1
    written = records(tmp_path / "seen")
    # The others are made by hand, and not by Hypothesis.
    assert len(written) == 60 - sum(len(made_by_hand(part)) for part in shards(Options(examples=60)))
    for record in written:
        assert record["type"] == "test_case"
        assert {"run_start", "property", "timing", "how_generated", "coverage", "status_reason"} <= set(record)
        case = record["arguments"]["case"]
        count = len(case["iovec"])
        assert record["features"]["segments"] == count
        assert sum(name.startswith("segments: ") for name in record["features"]) >= 1
        assert f"expected: {'maps' if 'expected: maps' in record['features'] else 'refuses'}" in record["features"] or (
            "expected: either" in record["features"]
        )
        violated = record["metadata"]["clauses violated"]
        assert record["status"] == ("failed" if violated else "passed")
        assert violated in ([], ["UNMAP_ON_ERROR"])
        assert ("violates: UNMAP_ON_ERROR" in record["features"]) == bool(violated)
        assert record["features"]["target:steps without a fault"] >= 0
    assert any(record["status"] == "failed" for record in written)
    assert any(record["status"] == "passed" for record in written)


@needs_compiler
def test_an_observed_layout_can_be_run_again_from_its_record(tmp_path):
    run("check", "core", "--examples", "12", "--jobs", "1", "--observe", "seen", cwd=tmp_path)
    option, _, text = records(tmp_path / "seen")[5]["representation"].partition(" ")
    assert run("check", "core", option, text.strip("'"), cwd=tmp_path).returncode == 0


def test_observing_does_not_change_the_report(tmp_path):
    arguments = ("check", "core", "--examples", "60", "--json")
    assert run(*arguments, "plain.json", cwd=tmp_path).returncode == 0
    assert run(*arguments, "observed.json", "--observe", "seen", cwd=tmp_path).returncode == 0
    assert (tmp_path / "plain.json").read_bytes() == (tmp_path / "observed.json").read_bytes()


def test_a_directory_that_cannot_be_written_is_told_first(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("check", "core", "--observe", "file/below", cwd=tmp_path)
    assert done.returncode == 2
    assert "file/below" in done.stderr
