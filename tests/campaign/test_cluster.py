"""A campaign on several machines: a real scheduler and real workers, which are killed, join, and differ."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
from commands import Running
from preloaded import Forked, Preloaded
from subject_files import DIRECTORY, needs_compiler
from waiting import until

import vfio_verify
from vfio_verify import specs
from vfio_verify.campaign import cluster, remote
from vfio_verify.campaign.check import Result, check
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shard import ShardResult, run_shard
from vfio_verify.campaign.shards import Shard
from vfio_verify.errors import HarnessError, InputError
from vfio_verify.subject.subject import CORE, Subject

distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'vfio-verify[cluster]'")
pytestmark = [
    pytest.mark.not_under_asan("Dask's own processes are not what is looked at"),
    # Of Dask's, for which this suite's rule is not meant.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

LOGGING = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "info"}
PRELOADED = Preloaded(
    f"{commands.READY}\nimport distributed.cli.dask_scheduler, distributed.cli.dask_worker",
    PYTHONWARNINGS="ignore",
    **LOGGING,
)
NEVER_UNMAPPED = DIRECTORY / "broken" / "never_unmapped.c"


class Machine:
    """A process of Dask's with all that it starts."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        directory.mkdir()
        self.directory, self.log = directory, directory / "log"
        env = os.environ | {"TMPDIR": str(directory)} | environment
        self.process: subprocess.Popen[bytes] | Forked
        with self.log.open("wb") as log, open(os.devnull) as nothing:
            if environment or "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES" in env:  # which are read at the start
                self.process = subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-m", *arguments],
                    cwd=directory,
                    env=env | LOGGING,
                    stdin=nothing,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            else:
                module, *words = arguments
                streams = nothing, log, log
                self.process = PRELOADED.fork(module, words, streams, cwd=directory, env=env, new_session=True)

    @property
    def is_at_work(self) -> bool:
        """Whether it runs a subject in some process."""
        return any(self.workers())

    def workers(self) -> Iterator[int]:
        """The processes in which it, or what it started, runs subjects."""
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if re.search(rb"VFIO_VERIFY_WORKER=%d-" % self.process.pid, environ.read_bytes()):
                    yield int(environ.parent.name)
            except OSError:
                pass

    @property
    def has_worked(self) -> bool:
        return any(self.directory.glob("dask-scratch-space/*/vfio-verify"))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """In order, so that what it started ends too."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()


class Cluster:
    def __init__(self, directory: Path) -> None:
        self._directory, self.machines = directory, []
        file = directory / "scheduler.json"
        self.scheduler = self._start(
            "distributed.cli.dask_scheduler",
            *("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)),
        )
        until("the scheduler starts", lambda: file.exists() and file.read_text().endswith("}"))
        self.url = json.loads(file.read_text())["address"]

    def _start(self, *arguments: str, **environment: str) -> Machine:
        machine = Machine(self._directory / str(len(self.machines)), *arguments, **environment)
        self.machines.append(machine)
        return machine

    def worker(self, *, threads: int = 1, nanny: bool = False, **environment: str) -> Machine:
        more = ["--nanny" if nanny else "--no-nanny", "--nthreads", str(threads), "--no-dashboard"]
        machine = self._start("distributed.cli.dask_worker", self.url, "--host", "127.0.0.1", *more, **environment)
        until("the worker registers", lambda: b"Registered to" in machine.log.read_bytes())
        return machine


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        for machine in reversed(made.machines):
            machine.end()
        left = [pid for machine in made.machines for pid in machine.workers()]
        assert left == []


def started(*arguments: object, command: str = "check", cwd: Path | None = None) -> Running:
    return Running(PRELOADED, command, *arguments, cwd=cwd or Path.cwd())


def ended(running: Running, seconds: float = 60) -> tuple[int, str, str]:
    done = running.ended(seconds)
    return done.returncode, done.stdout, done.stderr


def told(result: ShardResult) -> object:
    """A shard's result without the addresses that a run happened to have."""
    tally = result.tally
    return tally.layouts, tally.runs, tally.checked, tally.hangs, tally.sampled, result.mapped


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory in which another version of the package lies."""
    directory = tmp_path_factory.mktemp("other")
    package = directory / "vfio_verify"
    shutil.copytree(Path(vfio_verify.__file__).parent, package)
    if not (package / "specs").exists():
        shutil.copytree(Path(specs.__file__).parent, package / "specs")
    text = (package / "__init__.py").read_text()
    (package / "__init__.py").write_text(text.replace(f'"{vfio_verify.__version__}"', '"0.0.7"'))
    return str(directory)


# ---- the same result ---------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.usefixtures("steady_huge_pages")
def test_the_report_is_the_same_when_one_of_two_workers_is_killed_in_the_middle(dask, tmp_path):
    """The one that stays runs two tasks at once in threads of a process that its nanny started."""
    reports = [tmp_path / "here.json", tmp_path / "cluster.json"]
    victim = dask.worker()
    dask.worker(threads=2, nanny=True)
    arguments = (NEVER_UNMAPPED, "--examples", 100, "--seed", 7)
    process = started(*arguments, "--cluster", dask.url, "--json", reports[1])
    until("the worker is in the middle of a task", lambda: victim.is_at_work)
    victim.kill()
    until("the subject's processes end with the worker", lambda: not victim.is_at_work)
    assert process.process.poll() is None
    status, _, err = ended(process)
    assert status == 1
    assert "found: UNMAP_ON_ERROR: a failed call leaves pages mapped\n" in err
    assert ended(started(*arguments, "--jobs", 1, "--json", reports[0]))[0] == 1
    here, there = (json.loads(report.read_bytes()) for report in reports)
    for report in (here, there):
        # What several threads did at once may differ, and is then not confirmed.
        del report["unconfirmed"]
    assert here == there
    assert [violation["clause"] for violation in there["violations"]] == ["UNMAP_ON_ERROR"]
    assert not (dask.machines[2].directory / ".hypothesis").exists()


def test_a_worker_that_joins_gets_tasks_and_one_with_another_version_gets_none(dask, other_version):
    options = Options(examples=10)
    shards = [Shard(number, number, 10) for number in range(1, 13)]
    said: list[str] = []
    dask.worker()
    with cluster.connect(dask.url, said.append) as executor:
        assert executor.slots == 1
        futures = [executor.submit(run_shard, CORE, options, shard) for shard in shards]
        other = dask.worker(PYTHONPATH=other_version)
        joined = dask.worker()
        until("the one that joined is at work", lambda: joined.is_at_work)
        results = [future.result(60) for future in futures]
        # One that is refused hears of a task at the latest when there are many.
        more = [executor.submit(run_shard, CORE, options, shard) for shard in shards]
        assert [told(future.result(60)) for future in more] == list(map(told, results))
        assert executor.slots == 2
    assert not other.has_worked
    assert len(said) == 1
    assert re.search(r"the worker at tcp://127.0.0.1:\d+ has vfio_verify 0.0.7 instead of 0.1.0, .*no task", said[0])
    for number in (0, 11):
        assert told(results[number]) == told(run_shard(CORE, options, shards[number]))


def test_a_campaign_takes_any_executor_and_leaves_it_to_its_owner(dask):
    options = Options(examples=30, seed=3)
    dask.worker()
    with cluster.connect(dask.url) as executor:
        results = [check(CORE, options, executor=used) for used in (executor, None, executor)]
    # What several threads did at once may differ, and is then not confirmed.
    for name in {*Result.__struct_fields__} - {"unconfirmed"}:
        assert [getattr(result, name) for result in results] == [getattr(results[0], name)] * 3
    with pytest.raises(RuntimeError):
        executor.submit(run_shard, CORE, options, Shard(1, 1, 1))


# ---- refusals and losses ------------------------------------------------------------------------------------


def test_workers_with_another_version_are_refused_by_name(dask, other_version):
    dask.worker()
    dask.worker(PYTHONPATH=other_version)
    status, out, err = ended(started("core", "--examples", 20, "--cluster", dask.url))
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == f"vfio-verify: the cluster at {dask.url} has workers on which not the same is installed as here:"
    assert len(lines) == 2
    assert re.match(r"  the worker at tcp://127.0.0.1:\d+ has vfio_verify 0.0.7 instead of 0.1.0, ", lines[1])


def test_a_worker_without_the_package_is_refused(dask, tmp_path):
    (tmp_path / "none" / "vfio_verify").mkdir(parents=True)
    (tmp_path / "none" / "vfio_verify" / "__init__.py").write_text("raise ModuleNotFoundError('vfio_verify')\n")
    dask.worker(PYTHONPATH=str(tmp_path / "none"))
    with (
        pytest.raises(InputError, match=r"has vfio_verify not installed instead of 0\.1\.0"),
        cluster.connect(dask.url),
    ):
        pass


def test_what_a_task_raises_comes_home(dask, tmp_path):
    """The library, too: it is a file of this machine's."""
    library = tmp_path / "subject.so"
    library.write_bytes(b"no library")
    dask.worker()
    subject = Subject("x", "C", "f", "s", library=library)
    with cluster.connect(dask.url) as executor, pytest.raises(InputError, match=r"cannot be loaded: .*(too short|ELF)"):
        check(subject, Options(examples=60), executor=executor)


def test_a_lost_scheduler_ends_a_check_with_a_message(dask):
    worker = dask.worker()
    process = started("core", "--examples", 5000, "--cluster", dask.url)
    until("the worker is in the middle of a task", lambda: worker.is_at_work)
    dask.scheduler.kill()
    status, out, err = ended(process, 20)
    assert (status, out) == (3, "")
    assert err == f"vfio-verify: the Dask scheduler at {dask.url} is lost\n"


def test_ctrl_c_ends_a_check_on_a_cluster(dask):
    worker = dask.worker()
    process = started("core", "--examples", 5000, "--cluster", dask.url)
    until("the worker is in the middle of a task", lambda: worker.is_at_work)
    process.process.send_signal(signal.SIGINT)
    status, out, err = ended(process, 20)
    assert (status, "Interrupted" in out or "interrupted" in out, "Traceback" in err) == (130, True, False)


def test_a_cluster_whose_last_worker_is_lost_ends_a_check(dask, monkeypatch):
    monkeypatch.setattr(cluster, "_ALONE_SECONDS", 2.0)
    worker = dask.worker()
    with cluster.connect(dask.url) as executor:
        future = executor.submit(run_shard, CORE, Options(), Shard(1, 1, 500))
        until("the worker is in the middle of a task", lambda: worker.is_at_work)
        worker.kill()
        with pytest.raises(HarnessError, match="has no worker left"):
            future.result(20)


def test_what_the_last_worker_was_at_is_done_by_one_that_joins(dask):
    shard = Shard(1, 1, 60)
    victim = dask.worker()
    with cluster.connect(dask.url) as executor:
        future = executor.submit(run_shard, CORE, Options(), shard)
        until("the worker is in the middle of a task", lambda: victim.is_at_work)
        victim.kill()
        dask.worker()
        assert told(future.result(60)) == told(run_shard(CORE, Options(), shard))


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:9", "nonsense://x:1", "127.0.0.1", "tcp://"])
def test_a_cluster_that_is_not_there_is_an_input_error(url, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1.0)
    with pytest.raises(InputError, match="no Dask scheduler answers at "), cluster.connect(url):
        pass
    # One that is still to be closed would be collected at any later time: also in the middle of another's start, which
    # has the lock that it waits for.
    left = [one.status for one in gc.get_objects() if type(one) is distributed.Client]
    assert set(left) <= {"closed"}


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'vfio-verify\[cluster\]'"), cluster.connect("tcp://host:1"):
        pass


def test_a_scheduler_without_workers_is_an_input_error(dask, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 5.0)
    with pytest.raises(InputError, match="has no worker; start some with: dask worker"), cluster.connect(dask.url):
        pass


# ---- a search ------------------------------------------------------------------------------------------------


def states(corpus: Path) -> list[dict[str, Any]]:
    """Where the searches on a corpus stand."""
    return [json.loads(path.read_text()) for path in (corpus / ".vfio-verify").glob("*.json")]


@needs_compiler
def test_a_search_on_two_workers_of_which_one_is_killed_is_the_same_as_here_and_goes_on_here(dask, tmp_path):
    """Findings come home, and how far it is; neither depends on who did it."""
    victim, other = dask.worker(), dask.worker()
    process = started(
        *(NEVER_UNMAPPED, "--examples", 150, "--cluster", dask.url, "--corpus", "there", "--interval", "0.3"),
        command="fuzz",
        cwd=tmp_path,
    )
    until("both are in the middle of a task", lambda: victim.is_at_work and other.is_at_work)
    victim.kill()
    status, out, err = ended(process, 90)
    assert status == 1, err
    assert re.search(
        r"^found: UNMAP_ON_ERROR: a failed call leaves pages mapped \[unmap_on_error-\w+.json\]$", err, re.MULTILINE
    )
    told_of = re.findall(r"^0:.* hangs, (\d workers?)$", err, re.MULTILINE)
    assert "2 workers" in told_of
    assert "restart" not in out + err
    (there,) = states(tmp_path / "there")
    assert (there["layouts"], there["done"], there.get("lost", [])) == (150, [[0, 3]], [])
    assert [finding["violation"]["clause"] for finding in there["findings"]] == ["UNMAP_ON_ERROR"]
    assert (tmp_path / "there" / there["findings"][0]["file"]).exists()
    # Where the cluster ended, this machine goes on; what both did is what one does alone.
    for corpus, layouts in (("there", 100), ("here", 250)):
        gone_on = started(NEVER_UNMAPPED, "--examples", layouts, "--corpus", corpus, command="fuzz", cwd=tmp_path)
        assert ended(gone_on, 90)[0] == 1
    (there,), (here,) = states(tmp_path / "there"), states(tmp_path / "here")
    assert there["done"] == here["done"] == [[0, 4]]
    for name in ("layouts", "runs", "checked", "features"):
        assert there[name] == here[name]


def test_a_search_gives_work_to_who_joins_and_says_who_is_refused_and_how_many_there_are(dask, other_version, tmp_path):
    dask.worker()
    process = commands.started("fuzz", "core", "--time", "1h", "--cluster", dask.url, "--interval", "0.5", cwd=tmp_path)
    assert process.stderr is not None
    with process:
        lines = iter(process.stderr)
        assert any(line.endswith(" 1 worker\n") for line in lines)
        other, joined = dask.worker(PYTHONPATH=other_version), dask.worker(threads=2)
        until("the one that joined is at work", lambda: joined.is_at_work)
        seen = []
        while not (seen and seen[-1].endswith(" 2 workers with 3 threads\n")) or not any("has" in s for s in seen):
            seen.append(next(lines))
        joined.kill()
        assert any(line.endswith(" 1 worker\n") for line in lines)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert not other.has_worked
    refused = [line for line in seen if "vfio_verify 0.0.7 instead of 0.1.0" in line]
    assert len(refused) == 1
    assert refused[0].endswith("it gets no task\n")
    assert "interrupted" in out


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_search_on_a_cluster_in_order(dask, tmp_path, number, status):
    worker = dask.worker()
    process = started("core", "--time", "1h", "--cluster", dask.url, "--interval", "1", command="fuzz", cwd=tmp_path)
    until("shards are done", lambda: any(state["layouts"] for state in states(tmp_path / "vfio-verify-corpus")))
    process.process.send_signal(number)
    asked = time.monotonic()
    ended_with, out, err = ended(process, 20)
    assert (ended_with, "Traceback" in err) == (status, False)
    assert time.monotonic() - asked < 6
    assert "Ended since interrupted: " in out
    until("what was begun is done", lambda: not worker.is_at_work)
    # Nobody has the search: the next one has it, and the cluster is there for it.
    (before,) = states(tmp_path / "vfio-verify-corpus")
    again = started("core", "--time", 2, "--cluster", dask.url, command="fuzz", cwd=tmp_path)
    began = time.monotonic()
    assert ended(again, 30)[0] == 0
    assert time.monotonic() - began < 15
    (after,) = states(tmp_path / "vfio-verify-corpus")
    assert after["layouts"] >= before["layouts"] > 0
    assert after["seconds"] >= before["seconds"] + 2


def test_a_lost_scheduler_ends_a_search_with_a_message_and_what_was_done_is_kept(dask, tmp_path):
    dask.worker()
    process = started("core", "--time", "1h", "--cluster", dask.url, command="fuzz", cwd=tmp_path)
    until("shards are done", lambda: any(state["layouts"] for state in states(tmp_path / "vfio-verify-corpus")))
    dask.scheduler.kill()
    status, out, err = ended(process, 20)
    assert (status, out) == (3, "")
    assert f"vfio-verify: the Dask scheduler at {dask.url} is lost" in err
    assert "Traceback" not in err
    assert states(tmp_path / "vfio-verify-corpus")[0]["layouts"] > 0


@pytest.fixture
def no_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask itself gives up a task at the first worker that ends in its middle."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")


@pytest.mark.usefixtures("no_second_try")  # before the cluster is made
def test_a_search_tries_again_what_dask_gives_up(dask, tmp_path):
    victim = dask.worker()
    process = started("core", "--examples", 150, "--cluster", dask.url, command="fuzz", cwd=tmp_path)
    until("the worker is in the middle of a task", lambda: victim.is_at_work)
    victim.kill()
    dask.worker()
    status, out, err = ended(process, 60)
    assert (status, "left out" in err + out) == (0, False), err
    (state,) = states(tmp_path / "vfio-verify-corpus")
    assert (state["layouts"], state["done"]) == (150, [[0, 3]])


def test_a_search_on_a_cluster_with_another_version_is_refused(dask, other_version, tmp_path):
    dask.worker(PYTHONPATH=other_version)
    status, out, err = ended(started("core", "--cluster", dask.url, command="fuzz", cwd=tmp_path))
    assert (status, out) == (2, "")
    assert "has workers on which not the same is installed as here:\n  the worker at tcp://" in err
    assert list(tmp_path.glob("vfio-verify-corpus")) == []


# ---- what is the same ---------------------------------------------------------------------------------------


def test_all_but_a_newer_c_library_must_be_the_same():
    here = remote.facts()
    assert remote.differences(here, here) == []
    assert set(here) >= {"Python", "processor", "C library", "hypothesis", "vfio_verify", "vfio_verify's code"}
    old, new = {"C library": "glibc 2.9"}, {"C library": "glibc 2.36"}
    assert remote.differences(old, new) == []
    assert remote.differences(new, old) == ["C library glibc 2.9 instead of glibc 2.36"]
    assert remote.differences(old, {"C library": "musl 9.9"}) == ["C library musl 9.9 instead of glibc 2.9"]
    assert remote.differences({"Python": "3.11"}, {"Python": "3.12"}) == ["Python 3.12 instead of 3.11"]
    assert remote.differences({"Python": "3.11"}, {}) == ["Python not installed instead of 3.11"]
