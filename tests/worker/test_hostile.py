"""Subjects that fight back: the verdict is right, nothing is left, and the next is judged as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import pytest
from huge_pages import huge_pages_as_they_are
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from short_checks import no_kernel_faults
from subject_files import DIRECTORY, HOSTILE, SubjectFile, needs_compiler

from vfio_verify.campaign.check import Result, check
from vfio_verify.campaign.options import Options
from vfio_verify.errors import InputError
from vfio_verify.generate.kernel_faults import why_not
from vfio_verify.judge import judge
from vfio_verify.report.report import make_report
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.values.case import PAGE, Case, Device, Fault, KernelFaultKind, RamBlock, Region, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.spec import clauses
from vfio_verify.worker import native, wire
from vfio_verify.worker.usage import processes, stat_fields
from vfio_verify.worker.worker import Worker

pytestmark = needs_compiler

SECONDS = 60.0
"""In which each check must have ended, on a busy machine too."""
EXAMPLES = 5
EVEN, FAILING = "EVEN_COUNT", "FAILURE"
SOMETIMES = [
    *("reads_null", "zeroes_shared", "unmaps_shared", "aborts", "exits_raw", "kills_itself_raw", "stops_itself"),
    *("kills_parent", "closes_all", "answers_itself", "forks_raw", "thread_left", "handlers_changed"),
    *("limits_lowered", "thread_joined"),
]
WITH_OTHERS = {
    *("child_not_waited_for", "forks_bomb_away", "forks_bounded_bomb", "forks_raw"),
    *("thread_detached", "thread_joined", "thread_left"),
}
WITH_FULL_MAP_COUNT = {
    *("allocates_without_end", "code_reprotected", "limits_lowered", "reserves_without_end", "scribbles_world"),
    *("unmaps_world", "writes_everywhere"),
}
"""Those that deal with mappings. Others go without this kernel fault: a process in which a deed was done is replaced,
and to fill the limit of mappings takes 0.1 s in each."""
FOLLOWED = pytest.mark.not_under_asan("it maps memory of its own where a subject starts threads or processes")
AGAIN = pytest.mark.not_under_asan("it is slow, and sees the same deeds without a condition")
CORRECT = DIRECTORY / "correct" / "check_first.c"


def named(name: str) -> SubjectFile:
    return next(file for file in HOSTILE if file.path.stem == name)


def variant(file: SubjectFile, directory: Path, when: str | None) -> Path:
    """The subject as it is, or doing its deed only at times."""
    for part in ("broken", "hostile"):
        (directory / part).mkdir()
    shutil.copy(DIRECTORY / "broken" / "helper.h", directory / "broken")
    head = (DIRECTORY / "hostile" / "hostile.h").read_text()
    if when:
        head = head.replace("#define WHEN EVERY_CALL", f"#define WHEN {when}")
        assert f"WHEN {when}\n" in head
    (directory / "hostile" / "hostile.h").write_text(head)
    return Path(shutil.copy(file.path, directory / "hostile"))


def kernel_faults_for(file: SubjectFile, when: str | None = None) -> Callable[[KernelFaultKind], str | None]:
    if when == EVEN:
        return no_kernel_faults  # the same deed, in half of the runs that the subject does it in without a condition
    has_all = file.path.stem in WITH_FULL_MAP_COUNT
    return lambda kind: why_not(kind) if has_all or kind != "map_count" else "not in this test"


def told(result: Result) -> tuple[object, ...]:
    found = [
        (v.clause, v.cause, v.summary, v.case)
        for v in (*result.confirmed, *result.unconfirmed)
        if clauses()[v.clause].fails_a_check
    ]
    return result.tally.layouts, result.tally.runs, result.tally.checked, found


# ---- what is left ------------------------------------------------------------------------------------------


def ours() -> set[str]:
    """Processes that carry the mark of a worker of this process, wherever they went."""
    mark = f"VFIO_VERIFY_WORKER={os.getpid()}-".encode()
    found = set()
    for process in processes():
        try:
            if mark in (process / "environ").read_bytes():
                found.add(f"{process.name}: {(process / 'stat').read_text()}")
        except OSError:
            continue
    return found


def children() -> list[str]:
    return [child for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()]


def mappings() -> list[str]:
    """Mappings of this process that a worker's parent makes: of the memory it shares, and of subjects."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if "memfd:vfio-verify" in line or "subject.so" in line]


def descriptors() -> dict[str, str]:
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[link.name] = os.readlink(link)
        except OSError:
            continue  # of the directory itself
    return found


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """After the test: no process, file, descriptor or mapping that was not there before it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(here)
    before = children(), mappings(), descriptors().items()
    yield temporary
    end = time.monotonic() + 3
    while ours() and time.monotonic() < end:
        time.sleep(0.02)  # what was killed may still be on its way out
    left = ours()
    for process in left:
        os.kill(int(process.partition(":")[0]), signal.SIGKILL)
    assert left == set()
    # What earlier tests left to the garbage collector may have gone meanwhile.
    more = [
        set(now) - set(then) for now, then in zip((children(), mappings(), descriptors().items()), before, strict=True)
    ]
    assert more == [set(), set(), set()]
    assert list(temporary.iterdir()) == []
    assert list(here.iterdir()) == []


@pytest.fixture
def shortened(impatient: None, few_rounds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at how small a case is."""
    monkeypatch.setattr("vfio_verify.trial.minimize._MAX_TRIES", 40)


# ---- each of them ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def correct() -> Iterator[Subject]:
    with open_subject(str(CORRECT)) as subject:
        yield subject


@pytest.fixture(scope="module")
def usual(correct: Subject) -> tuple[object, ...]:
    """What a correct subject is told in a process in which nothing has been."""
    return judged(correct)


def judged(
    subject: Subject, why_no_kernel_fault: Callable[[KernelFaultKind], str | None] = no_kernel_faults
) -> tuple[object, ...]:
    with huge_pages_as_they_are():
        return told(check(subject, Options(examples=5, seed=3), why_no_kernel_fault=why_no_kernel_fault))


@pytest.fixture(scope="module")
def whole_checks_as_usual(correct: Subject) -> Iterator[None]:
    """With kernel faults, which take most of the time of so short a check, and of the core: compared once, when all the
    others have been."""
    before = [judged(subject, why_not) for subject in (CORE, correct)]
    yield
    assert [judged(subject, why_not) for subject in (CORE, correct)] == before


def test_what_is_usual_is_to_conform(usual: tuple[object, ...]) -> None:
    layouts, runs, checked, found = usual
    assert (layouts, found) == (5, [])
    assert runs > 5  # type: ignore[operator]
    assert checked["ACCEPTS_VALID"] > 0  # type: ignore[index]


@pytest.mark.usefixtures("nothing_left", "shortened", "whole_checks_as_usual")
@pytest.mark.parametrize(
    ("file", "when"),
    [
        *(pytest.param(file, None, marks=FOLLOWED if file.path.stem in WITH_OTHERS else ()) for file in HOSTILE),
        *(pytest.param(named(name), when, marks=AGAIN) for name in SOMETIMES for when in (EVEN, FAILING)),
    ],
    ids=lambda value: value.path.stem if isinstance(value, SubjectFile) else value or "EVERY_CALL",
)
def test_the_verdict_is_right_and_the_next_subject_is_judged_as_if_nothing_had_been(
    file: SubjectFile, when: str | None, tmp_path: Path, correct: Subject, usual: tuple[object, ...]
) -> None:
    started = time.monotonic()
    options = Options(examples=EXAMPLES, seed=1, sandbox=not file.confined)
    with open_subject(str(variant(file, tmp_path, when)), None, options.parts) as subject:
        if file.refused:
            with pytest.raises(InputError, match=file.refused):
                check(subject, options)
            result = None
        else:
            result = check(subject, options, why_no_kernel_fault=kernel_faults_for(file, when))
    assert time.monotonic() - started < SECONDS
    if result is not None:
        found = [(v.clause, v.summary, v.seen) for v in (*result.confirmed, *result.unconfirmed)]
        clauses = {v.clause for v in result.confirmed}
        assert set(file.violates) <= clauses <= {*file.violates, *file.may_violate}, found
        # What several threads do to the process that started theirs need not come again.
        assert not [v for v in result.unconfirmed if not v.case.concurrent], found
    assert judged(correct) == usual


@pytest.mark.usefixtures("nothing_left", "shortened", "whole_checks_as_usual")
@pytest.mark.parametrize("file", [file for file in HOSTILE if file.confined], ids=lambda file: file.path.stem)
def test_what_the_sandbox_refuses_leaves_nothing_and_raises_no_other_alarm(
    file: SubjectFile, tmp_path: Path, correct: Subject, usual: tuple[object, ...]
) -> None:
    with open_subject(str(variant(file, tmp_path, None))) as subject:
        try:
            result = check(subject, Options(examples=EXAMPLES, seed=1), why_no_kernel_fault=kernel_faults_for(file))
        except InputError:
            assert file.refused
        else:
            assert {v.clause for v in result.confirmed} <= {*file.violates, *file.may_violate, "SURVIVES"}
    assert judged(correct) == usual


@pytest.mark.usefixtures("nothing_left")
def test_a_subject_that_crashes_in_every_other_call_is_judged_to_the_end(tmp_path: Path) -> None:
    """All calls are answered; each crash costs one process, and no call is left out."""
    cases = [Case((Device((Region(0, 16 * PAGE),)),), (RamBlock(0, 0, 0),), segments(n), n * PAGE) for n in (1, 2)]
    with open_subject(str(variant(named("reads_null"), tmp_path, EVEN))) as subject, Worker(subject.library) as worker:
        seen = [worker.run(case, [()])[0] for _ in range(100) for case in cases]
        assert worker.restarts == 100
    assert [one.mapped for one in seen] == [True, False] * 100
    assert [one.death is not None for one in seen] == [False, True] * 100


def segments(n: int) -> tuple[Segment, ...]:
    return tuple(Segment(0, 2 * i * PAGE, PAGE) for i in range(n))


# ---- by the command line -----------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "vfio_verify", "check", *arguments]


def session(leader: int) -> list[str]:
    """The processes of a session that still live."""
    found = []
    for process in processes():
        try:
            fields = stat_fields(process)
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(process.name)
    return found


def marked_by(pids: set[int]) -> list[str]:
    """Processes of the workers that these processes, now gone, had."""
    marks = [f"VFIO_VERIFY_WORKER={pid}-".encode() for pid in pids]
    found = []
    for process in processes():
        try:
            text = (process / "environ").read_bytes()
        except OSError:
            continue
        found += [process.name] * any(mark in text for mark in marks)
    return found


def soon(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a check that would take hours, and waits until it has found something."""
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "temporary").mkdir()

    def start(jobs: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command(str(DIRECTORY / "broken" / "never_unmapped.c"), "--examples", "1000000", "--jobs", jobs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=tmp_path,
            env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        )
        started.append(process)
        assert process.stderr is not None
        assert b"found" in process.stderr.readline()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("whole", [False, True], ids=["process", "group"])
def test_a_request_to_end_is_followed_in_order(endless, tmp_path, jobs, number, whole):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup")
    process = endless(jobs)
    members = {int(pid) for pid in session(process.pid)}
    (os.killpg if whole else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in errors
    assert soon(lambda: not session(process.pid))
    assert soon(lambda: not marked_by(members))
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_check_that_is_killed_takes_its_processes_with_it(endless, jobs):
    process = endless(jobs)
    members = {int(pid) for pid in session(process.pid)}
    assert soon(lambda: marked_by(members))
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    assert soon(lambda: not marked_by(members))
    assert soon(lambda: not session(process.pid))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd="/",
        env=os.environ | environment,
    )


@pytest.mark.parametrize("name", ["zeroes_shared", "closes_all", "exits_raw", "orphaned_and_away"])
def test_the_command_line_tells_a_violation_and_not_a_failure_of_its_own(name, tmp_path):
    source = variant(named(name), tmp_path, EVEN)
    report = tmp_path / "report.json"
    options = ["--no-sandbox"] * named(name).confined
    arguments = ("check", source, "--examples", 5, "--jobs", 1, "--json", report, *options)
    done = commands.run(*arguments, cwd=Path("/"), env=os.environ | {"TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stderr.count("Traceback")) == (1, 0), done.stderr
    violations = json.loads(report.read_text())["violations"]
    assert {violation["clause"] for violation in violations} == {"SURVIVES"}
    assert all(len(violation["case"]["iovec"]) % 2 == 0 for violation in violations)
    assert {path.name for path in tmp_path.iterdir()} == {"broken", "hostile", "report.json"}


def test_two_checks_at_once_do_not_disturb_each_other(tmp_path):
    """One of them kills whatever it can reach of its own; the other one conforms."""
    bad, good = variant(named("kills_parent"), tmp_path, None), CORRECT
    with subprocess.Popen(
        command(str(bad), "--examples", "25", "--no-sandbox"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        second = run(str(good), "--examples", "20")
        first.communicate(timeout=SECONDS)
    assert (first.returncode, second.returncode) == (1, 0), second.stderr


def test_without_a_directory_to_write_in_the_check_says_so(tmp_path):
    done = run("core", "--examples", "1", TMPDIR="/proc", TEMP="/proc", TMP="/proc")
    assert done.returncode in (0, 2)  # where nothing is set /tmp is taken
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk_is_told_and_is_no_verdict(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    script = 'mount -t tmpfs -o size=64k tmpfs "$0" && head -c 60k /dev/zero >"$0/filler"; exec "$@"'
    private = ["unshare", "-m", "sh", "-c", script, str(full)]
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts here")
    done = subprocess.run(
        [*private, *command(str(CORRECT), "--examples", "2", "--jobs", "1")],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=os.environ | {"TMPDIR": str(full)},
    )
    assert done.returncode in (2, 3)
    assert "No space left" in done.stderr
    assert "conforms" not in done.stdout


# ---- replies that no worker writes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reply() -> tuple[Case, bytes, int]:
    """A real one, of three runs."""
    case = Case((Device((Region(0, 16 * PAGE),)),), (RamBlock(0, 0, 0),), segments(3), 3 * PAGE)
    plans = [(), (Fault("mmap", 2),), (Fault("mmap", 3, when="late"),)]
    script = (
        "import sys\nfrom vfio_verify import _world\n_world.use_core()\n"
        "reply, finished, _ = _world.run(sys.stdin.buffer.read(), 8 << 20)\n"
        "sys.stdout.buffer.write(bytes([finished]) + reply)\n"
    )
    request = wire.pack_request(case, plans, native.TWICE)
    done = subprocess.run([sys.executable, "-P", "-c", script], input=request, capture_output=True, check=True)
    assert len(wire.unpack_reply(memoryview(done.stdout[1:]), done.stdout[0], 0)) == 3
    return case, done.stdout[1:], done.stdout[0]


WORDS = st.one_of(
    st.integers(0, 300), st.integers(0, 2**64 - 1), st.sampled_from([2**63, 2**64 - 1, 2**32, 0xA5A5A5A5])
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 1000), WORDS), min_size=1, max_size=6),
    kept=st.integers(0, 10_000),
    more=st.integers(0, 2**64 - 1),
)
def test_a_forged_reply_is_refused_or_can_be_judged_and_shown(reply, changes, kept, more):
    case, real, finished = reply
    forged = bytearray(real)
    for position, word in changes:
        struct.pack_into("=Q", forged, position * 8 % (len(forged) - 7) & ~7, word)
    for data, runs in ((forged, finished), (forged[:kept], finished), (forged, more)):
        started = time.monotonic()
        try:
            observations = wire.unpack_reply(memoryview(data), runs, 0)
        except wire.DamageError:
            observations = []
        for seen in observations:
            violations = judge(case, expect(case), seen).violations
            result = Result(confirmed=violations)
            make_report(CORE, Options(), result).to_json()
        assert time.monotonic() - started < 10
