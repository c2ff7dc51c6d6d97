"""A search: no work twice, nothing lost however it ends, and what it finds is kept and told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import commands
import pytest
from commands import started
from huge_pages import huge_pages_as_they_are
from msgspec.structs import replace
from places import TESTS
from searches import Heard, Here, totals
from subject_files import DIRECTORY, needs_compiler

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shard import run_shard
from vfio_verify.campaign.shards import shards
from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.errors import HarnessError, InputError
from vfio_verify.search.budget import Budget
from vfio_verify.search.fuzz import fuzz
from vfio_verify.search.outcome import Outcome
from vfio_verify.search.place import HIDDEN, identity
from vfio_verify.search.state import Part, State
from vfio_verify.search.watcher import SearchProgress
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.values.features import FEATURES
from vfio_verify.values.spec import clauses

BROKEN = TESTS / "subjects" / "broken"
COMMAND = commands.command("fuzz")
KILLS = int(os.environ.get("VFIO_VERIFY_FUZZ_KILLS", "4"))
"""200 for a thorough test."""


def search(subject: Subject, layouts: int, corpus: Path | None = None, **how: Any) -> Outcome:
    return fuzz(subject, how.pop("options", Options()), Budget(layouts=layouts), Heard(), corpus=corpus, **how)


@pytest.fixture(scope="module")
def broken() -> Iterator[Subject]:
    with open_subject(str(BROKEN / "never_unmapped.c")) as subject:
        yield subject


@pytest.fixture(scope="module")
def whole() -> State:
    """The first three shards, in one go and on one process: 10, 40 and 100 layouts."""
    with huge_pages_as_they_are():
        return search(CORE, 150, executor=Here()).state


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return commands.run("fuzz", *arguments, cwd=cwd)


# ---- what it finds -----------------------------------------------------------------------------------------


@needs_compiler
def test_a_violation_is_confirmed_kept_and_told_and_its_file_shows_it_again(tmp_path):
    subject = BROKEN / "never_unmapped.c"
    done = run(subject, "--examples", 50, "--jobs", 2, cwd=tmp_path)
    assert done.returncode == 1
    # Beside them lie the cases that were the first to reach a line.
    (kept,) = [one for one in DirectoryCorpus(tmp_path / "vfio-verify-corpus").load() if not one.entry.lines]
    origin = kept.entry.origin
    assert origin is not None
    assert (origin.subject, origin.clause, origin.seed) == (str(subject), "UNMAP_ON_ERROR", 0)
    assert re.search(rf"^found: UNMAP_ON_ERROR: .*\[{kept.entry.name}\]$", done.stderr, re.MULTILINE)
    assert "violates 1 of" in done.stdout
    assert f"vfio-verify check {subject}" in done.stdout
    (tmp_path / "case.json").write_bytes(kept.entry.case.to_json())
    assert commands.run("check", subject, "--case", "case.json", cwd=tmp_path).returncode == 1


@needs_compiler
def test_a_violation_is_told_and_kept_once(broken, tmp_path):
    for _ in range(2):
        heard = Heard()
        outcome = fuzz(broken, Options(), Budget(layouts=40), heard, corpus=tmp_path, executor=Here())
        assert [finding.violation.clause for finding in outcome.state.findings] == ["UNMAP_ON_ERROR"]
        assert outcome.report.exit_status == 1
        assert len([one for one in DirectoryCorpus(tmp_path).load() if not one.entry.lines]) == 1
    assert heard.findings == []
    assert outcome.new_findings == ()


@needs_compiler
@pytest.mark.parametrize("how", ["--until-found", "--fail-fast"])
def test_it_ends_when_something_is_found_long_before_its_time(tmp_path, how):
    started = time.monotonic()
    done = run(BROKEN / "never_unmapped.c", how, "--time", "10m", "--plain", cwd=tmp_path)
    assert done.returncode == 1
    assert "a violation was found" in done.stdout
    assert time.monotonic() - started < 60


def test_a_search_for_what_is_not_there_ends_with_its_time(tmp_path):
    started = time.monotonic()
    done = run("core", "--until-found", "--time", "3s", "--interval", "1", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 3 <= time.monotonic() - started < 30
    assert 3 <= json.loads((tmp_path / "out.json").read_text())["seconds"] < 5
    assert "core conforms" in done.stdout
    assert "Ended since the time is up" in done.stdout
    lines = [line for line in done.stderr.splitlines() if re.match(r"0:0\d, 0:0\d left: [\d,]+ layouts", line)]
    assert 1 <= len(lines) <= 3


def test_the_end_says_what_was_covered_and_names_what_never_was(tmp_path):
    done = run("core", "--examples", 10, "--json", "out.json", cwd=tmp_path)
    state = json.loads((tmp_path / "out.json").read_text())["state"]
    never = re.search(r"^Never met: (.*)\.$", done.stdout, re.MULTILINE)
    assert never is not None
    named = {name for name in FEATURES if re.search(rf"(^|, ){re.escape(name)}(, |$)", never[1])}
    assert named
    assert named == set(FEATURES) - set(state["features"])
    for name in set(FEATURES) - named:
        assert re.search(rf"^{re.escape(name)} +{state['features'][name]} +\d+\.\d%$", done.stdout, re.MULTILINE)
    assert all(name in done.stdout for name in clauses())


@needs_compiler
def test_a_search_in_another_world_is_another_search(tmp_path):
    """A corpus may hold both."""
    with open_subject(str(DIRECTORY / "assuming" / "info_taken_for_bool.c")) as subject:
        plain = search(subject, 50, tmp_path)
        assumed = search(replace(subject, assume=("vfio_device_get_region_info=true",)), 50, tmp_path)
    assert {one.violation.clause for one in plain.state.findings} == {"ACCEPTS_VALID", "SURVIVES"}
    assert {one.violation.clause for one in assumed.state.findings} == {"CONFINED", "SIZE_AGREES"}
    assert plain.state.layouts == assumed.state.layouts == 50
    assert assumed.report.subject.assume == ("vfio_device_get_region_info=true",)


# ---- no work twice -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("steady_huge_pages")
def test_its_shards_are_those_of_a_check(whole):
    single = [run_shard(CORE, Options(), shard) for shard in shards(Options(examples=150))]
    assert whole.layouts == sum(result.tally.layouts for result in single) == 150
    assert whole.runs == sum(result.tally.runs for result in single)
    assert Counter(whole.checked) == sum((Counter(result.tally.checked) for result in single), Counter())


@pytest.mark.usefixtures("steady_huge_pages")
def test_a_search_goes_on_where_the_last_one_ended(tmp_path, whole):
    seen = []
    for layouts in (1, 1, 1):
        outcome = search(CORE, layouts, tmp_path, executor=Here())
        seen.append((outcome.new_layouts, outcome.state.layouts, outcome.state.done))
    assert seen == [(10, 10, [(0, 1)]), (40, 50, [(0, 2)]), (100, 150, [(0, 3)])]
    assert totals(outcome.state) == totals(whole)
    assert outcome.report.examples == 150
    assert search(CORE, 1, tmp_path, executor=Here(), fresh=True).state.layouts == 10


@pytest.mark.usefixtures("steady_huge_pages")
def test_parts_of_the_work_are_disjoint_and_together_all_of_it(whole):
    parts = [search(CORE, n, executor=Here(), part=Part(i, 2)).state for i, n in enumerate((110, 40))]
    assert [state.layouts for state in parts] == [110, 40]
    assert totals(*parts) == totals(whole)


def test_a_part_leaves_out_what_a_search_of_the_whole_has_done(tmp_path):
    assert search(CORE, 10, tmp_path, executor=Here()).state.done == [(0, 1)]
    first = search(CORE, 1, tmp_path, executor=Here(), part=Part(0, 2))
    assert first.new_layouts == 100  # the shard with number 2
    assert search(CORE, 1, tmp_path, executor=Here()).new_layouts == 40  # 1, and not 2


@pytest.mark.usefixtures("steady_huge_pages")
def test_more_processes_do_the_same_work(whole):
    assert totals(search(CORE, 150, options=Options(jobs=2)).state) == totals(whole)


def test_two_searches_for_the_same_are_refused_and_two_parts_are_not(tmp_path):
    refused: list[str] = []

    def another(_progress: SearchProgress) -> None:
        if not refused:
            with pytest.raises(InputError) as told:
                search(CORE, 1, tmp_path)
            refused.append(str(told.value))
            assert search(CORE, 1, tmp_path, part=Part(1, 2), executor=Here()).new_layouts == 40

    fuzz(CORE, Options(), Budget(layouts=10), Heard(another), corpus=tmp_path)
    assert f"by process {os.getpid()}" in refused[0]
    search(CORE, 1, tmp_path, executor=Here())


@needs_compiler
def test_the_same_code_is_known_wherever_it_is_compiled_and_other_code_is_not(tmp_path):
    text = (BROKEN / "never_unmapped.c").read_text()
    shutil.copy(BROKEN / "helper.h", tmp_path)
    (tmp_path / "one.c").write_text(text)
    (tmp_path / "same.c").write_text(text + "/* No other code. */\n")
    (tmp_path / "other.c").write_text(text.replace("return true;", "return !!addr;"))
    known = []
    for name in ("one.c", "one.c", "same.c", "other.c"):
        with open_subject(str(tmp_path / name)) as subject:
            known.append(identity(subject))
    assert known[0] == known[1] == known[2] != known[3]
    assert identity(CORE) not in known


def test_ranges_of_done_shards_join_whatever_their_order():
    numbers = list(range(30))
    random.Random(1).shuffle(numbers)
    state = State(part=Part(1, 3))
    for taken, number in enumerate(numbers, 1):
        state.mark(number)
        assert sum(end - start for start, end in state.done) == taken
        assert [n for n in range(99) if state.has(n)] == sorted(3 * n + 1 for n in numbers[:taken])
    assert state.done == [(0, 30)]


def test_a_state_that_cannot_be_read_is_told_and_can_be_left_behind(tmp_path):
    search(CORE, 1, tmp_path, executor=Here())
    (path,) = (tmp_path / HIDDEN).glob("*.json")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(InputError, match="--fresh"):
        search(CORE, 1, tmp_path, executor=Here())
    assert search(CORE, 1, tmp_path, executor=Here(), fresh=True).state.layouts == 10


# ---- processes that end ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("steady_huge_pages")
def test_a_killed_process_costs_nothing_but_time(whole):
    killed: list[int] = []

    def kill_one(progress: SearchProgress) -> None:
        if not killed and progress.layouts:
            (process, *_) = multiprocessing.active_children()
            assert process.pid is not None
            killed.append(process.pid)
            process.kill()

    outcome = fuzz(CORE, Options(jobs=2), Budget(layouts=150), Heard(kill_one))
    assert killed
    assert totals(outcome.state) == totals(whole)
    assert outcome.state.lost == []


def test_a_shard_that_always_ends_its_process_is_left_out_and_named(whole):
    heard = Heard()
    executor = Here(lambda task: getattr(task, "number", None) == 1)
    outcome = fuzz(CORE, Options(), Budget(layouts=150), heard, executor=executor)
    assert outcome.state.layouts == 110
    assert outcome.state.lost == [1]
    assert any("shard 1 is left out" in note for note in heard.notes)
    assert any("shards [1]" in note for note in outcome.report.notes)


@needs_compiler
def test_what_is_not_decided_is_run_again_by_the_next_search(broken, tmp_path):
    """Its confirmation is lost each time: the candidate is told, and is no violation."""
    heard = Heard()
    executor = Here(lambda task: isinstance(task, dict))  # the candidates of a violation
    outcome = fuzz(broken, Options(), Budget(layouts=10), heard, corpus=tmp_path, executor=executor)
    assert outcome.state.findings == []
    assert outcome.report.exit_status == 4
    assert outcome.state.unconfirmed
    assert any("UNMAP_ON_ERROR" in note for note in outcome.report.notes)
    assert search(broken, 40, tmp_path, executor=Here()).report.exit_status == 1


@needs_compiler
def test_of_nothing_there_is_no_verdict(tmp_path, monkeypatch):
    """However short the time is, the first layouts are waited for; in the end it is no subject that has failed."""
    done = run("core", "--time", "0.01", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["report"]["examples"] >= 10

    class Never(Executor):
        def submit(self, _function: Any, /, *_arguments: Any, **_named: Any) -> Future[Any]:
            return Future()

    monkeypatch.setattr("vfio_verify.search.budget._FIRST_GRACE_SECONDS", 0.3)
    with pytest.raises(HarnessError, match="not one of the first layouts"):
        fuzz(CORE, Options(), Budget(seconds=0.1), Heard(), executor=Never())


@pytest.mark.slow
def test_what_hangs_is_found_though_the_time_is_up_when_it_is_made_small(tmp_path):
    """SURVIVES. Shards that hang, and that nobody waits for, do not keep it from being confirmed."""
    (tmp_path / "hangs.c").write_text(
        '#include "qemu/osdep.h"\n#include "qapi/error.h"\n'
        "bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)\n"
        "{\n    for (;;) {\n    }\n}\n"
    )
    done = run("hangs.c", "--time", 3, "--jobs", 2, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "found: SURVIVES: does not return" in done.stderr


def test_a_reader_who_has_left_is_no_verdict(tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)
    command = [*COMMAND, "core", "--examples", "1", "--json", "-"]
    done = subprocess.run(command, cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(theirs)
    assert done.returncode == 141


# ---- ended from outside ------------------------------------------------------------------------------------


def leftovers(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
    return found


def using(directory: Path) -> list[str]:
    """The processes that have a file of a directory mapped, whatever their session."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if str(directory) in maps.read_text():
                found.append(maps.parent.name)
    return found


@needs_compiler
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order_and_the_next_search_goes_on(tmp_path, number, status):
    arguments = (BROKEN / "never_unmapped.c", "--time", "1h", "--jobs", 2, "--interval", "1")
    with started("fuzz", *arguments, cwd=tmp_path) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if re.match(r"0:\d\d, 59:\d\d left: .* 1 found", line):
                    break
            asked = time.monotonic()
            os.killpg(process.pid, number)
            output, errors = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == status
    assert time.monotonic() - asked < 10
    assert "Traceback" not in output + errors
    assert "interrupted" in output
    assert "UNMAP_ON_ERROR" in output
    end = time.monotonic() + 5
    while (left := [*leftovers(process.pid), *using(tmp_path)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []
    assert [path.name for path in tmp_path.iterdir()] == ["vfio-verify-corpus"]
    (path,) = (tmp_path / "vfio-verify-corpus" / HIDDEN).glob("*.json")
    before = json.loads(path.read_text())
    assert before["layouts"] >= 10
    done = run(BROKEN / "never_unmapped.c", "--examples", 1, "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads((tmp_path / "out.json").read_text())["state"]["layouts"] > before["layouts"]


@pytest.mark.slow
@needs_compiler
def test_sigkill_at_any_moment_loses_nothing_that_was_told(tmp_path):
    draw = random.Random(20)
    corpus = tmp_path / "vfio-verify-corpus"
    subject = BROKEN / "offsets_in_static_array.c"
    told: set[str] = set()
    done = 0
    for _ in range(KILLS):
        # Anew now and then, or there would soon be nothing left to find.
        how = "--fresh" if done > 3 else "--plain"
        with started("fuzz", subject, "--time", "1h", "--jobs", 2, how, cwd=tmp_path) as process:
            time.sleep(draw.uniform(0.3, 2.5))
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
        told |= set(re.findall(r"^(?:found|advice): .*\[(.+\.json)\]$", errors, re.MULTILINE))
        assert "Traceback" not in errors
        kept = (
            {Path(stored.place).name for stored in DirectoryCorpus(corpus).load()}
            if list(corpus.glob("*.json"))
            else set()
        )
        assert told <= kept
        for path in (corpus / HIDDEN).glob("*.json"):
            state = json.loads(path.read_text())
            assert {finding["file"] for finding in state["findings"]} <= kept
            now = sum(end - start for start, end in state["done"])
            assert now >= done or how == "--fresh"
            done = now
    final = run(subject, "--examples", 50, cwd=tmp_path)
    assert final.returncode == 1, final.stderr
    assert "REPEATABLE" in final.stdout


# ---- the screen --------------------------------------------------------------------------------------------


def on_a_terminal(*arguments: object, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run a search on a terminal of 80 columns and 24 lines; its status, and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env=variables | {"TERM": "xterm-256color"} | environment,
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while data := os.read(ours, 1 << 16):
            written += data
    os.close(ours)
    return process.wait(60), written.decode()


def frames(written: str) -> list[list[str]]:
    """The screens, one for each time that the first row of counts was drawn."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line]
    starts = [i - 1 for i, line in enumerate(lines) if line.startswith("time ")]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


@needs_compiler
def test_on_a_terminal_a_screen_is_redrawn_that_fits_it_and_does_not_flicker(tmp_path):
    start = time.monotonic()
    status, written = on_a_terminal(BROKEN / "never_unmapped.c", "--examples", 60, "--jobs", 2, cwd=tmp_path)
    assert status == 1
    screens = frames(written)
    # Four times a second, and again when a line appears above it.
    assert 4 <= len(screens) <= 4 * (time.monotonic() - start) + 4
    for screen in screens:
        rows = [line for line in screen if not line.startswith("found: ")]
        assert len(rows) < 24
        assert max(map(len, rows)) < 80
    last = "\n".join(screens[-1])
    assert "vfio_device_mmap_dmabuf() in " in last
    for name in ("layouts", "calls", "clauses", "features", "violated   UNMAP_ON_ERROR", "corpus", "last"):
        assert f"\n{name} " in last or f"\n{name}\n" in last
    assert "rarest: " in last
    assert "found: UNMAP_ON_ERROR" in written
    assert "\x1b[?25h" in written  # the cursor is shown again
    assert "\x1b[2J" not in written  # nothing is wiped


def test_no_color_and_dumb_terminals_are_respected(tmp_path):
    _, written = on_a_terminal("core", "--examples", 10, cwd=tmp_path, NO_COLOR="1")
    assert frames(written)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", written)
    _, written = on_a_terminal("core", "--time", "2", "--interval", "1", "--fresh", cwd=tmp_path, TERM="dumb")
    assert "\x1b" not in written
    assert "left: " in written


# ---- what is asked for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("--time", "0"), ("--time", "soon"), ("--time", "1w"), ("--shard", "3/2"), ("--shard", "0/2")]
)
def test_what_cannot_be_meant_is_refused(tmp_path, arguments):
    done = run("core", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert arguments[1] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("core", "--corpus", "file", cwd=tmp_path)
    assert done.returncode == 2
    assert "--corpus" in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("2", 2), ("0.02m", 1.2), ("2s", 2)])
def test_times_may_have_units(tmp_path, text, seconds):
    run("core", "--time", text, "--jobs", 1, "--json", "out.json", cwd=tmp_path)
    outcome = json.loads((tmp_path / "out.json").read_text())
    # Where the machine is busy, the first layouts are waited for.
    assert seconds <= outcome["seconds"] < (seconds + 2 if outcome["report"]["examples"] > 10 else 60)
