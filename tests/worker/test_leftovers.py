"""What a killed run leaves, the next one removes, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from subject_files import DIRECTORY, needs_compiler

from vfio_verify.worker.leftovers import own_prefix, private_directory, sweep


@pytest.fixture
def gone() -> str:
    """How the names begin of what a process has made that has ended."""
    script = "from vfio_verify.worker.leftovers import own_prefix; print(own_prefix())"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def filled(path: Path) -> Path:
    path.mkdir()
    (path / "deep").mkdir()
    (path / "deep" / "file").write_text("x")
    return path


def test_what_nobody_alive_has_made_is_removed_with_all_that_it_holds(tmp_path: Path, gone: str) -> None:
    left, semaphore = filled(tmp_path / f"{gone}abc"), tmp_path / f"sem.{gone}xyz"
    semaphore.write_text("")
    victim = filled(tmp_path / "victim")
    (left / "link").symlink_to(victim)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [victim]
    assert (victim / "deep" / "file").exists()


def test_what_is_of_a_living_process_or_of_somewhere_else_stays(tmp_path: Path, gone: str) -> None:
    _, _, place, pid, start, _ = gone.split("-")
    names = [
        f"{own_prefix()}abc",  # this process lives
        f"vfio-verify-{'0' * 8}-{pid}-{start}-abc",  # of another boot, machine or container
        f"vfio-verify-{place}-{pid}-abc",
        f"vfio-verify-{place}-{pid}-{start}-",
        f"my-{gone}abc",
        f"{gone}abc.txt",
        "vfio-verify-abc",
    ]
    for name in names:
        filled(tmp_path / name)
    (tmp_path / f"{gone}link").symlink_to(tmp_path / names[0])
    os.mkfifo(tmp_path / f"{gone}fifo")
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_process_with_its_number_does_not_keep_it(tmp_path: Path) -> None:
    head, _, start = own_prefix().rstrip("-").rpartition("-")
    left = filled(tmp_path / f"{head}-{int(start) + 1}-abc")
    sweep(tmp_path)
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_what_another_user_owns_stays(tmp_path: Path, gone: str) -> None:
    other = filled(tmp_path / f"{gone}abc")
    os.chown(other, 65534, 65534)
    sweep(tmp_path)
    assert other.exists()


def test_several_may_sweep_at_once(tmp_path: Path, gone: str) -> None:
    for number in range(200):
        filled(tmp_path / f"{gone}{number}")
    threads = [threading.Thread(target=sweep, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_sweeps_no_sibling_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with private_directory() as first, private_directory() as second:
        assert Path(first).is_dir()
        assert Path(second).is_dir()
    assert list(tmp_path.iterdir()) == []


def semaphores(pid: int) -> set[str]:
    """Those of one run; others may be going on."""
    return {name for name in os.listdir("/dev/shm") if "vfio-verify" in name and f"-{pid}-" in name}


@needs_compiler
def test_after_a_run_that_is_killed_whole_the_next_one_leaves_nothing(tmp_path: Path) -> None:
    """Its process group: the process that would have looked after the semaphores goes as well."""
    command = [sys.executable, "-P", "-m", "vfio_verify", "check", str(DIRECTORY / "correct" / "check_first.c")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    run = subprocess.Popen([*command, "--examples", "1000000", "--jobs", "2"], start_new_session=True, env=environment)
    end = time.monotonic() + 60
    while not (semaphores(run.pid) and any(tmp_path.glob("*/subject.so"))) and time.monotonic() < end:
        time.sleep(0.02)
    assert semaphores(run.pid)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert len(list(tmp_path.iterdir())) >= 2
    subprocess.run(
        [*command, "--examples", "1", "--jobs", "1"], env=environment, check=False, stdout=subprocess.DEVNULL
    )
    assert list(tmp_path.iterdir()) == []
    assert not semaphores(run.pid)
