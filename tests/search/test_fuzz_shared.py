"""Commands on a corpus in a real Redis server: two searches at once, kills, and what is never shown."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from commands import PRELOADED, Running, run, started
from made_reports import violation
from redis_server import needs_server, server
from searches import Heard, Here, totals
from subject_files import DIRECTORY, needs_compiler

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shards import whole_shard
from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.shared import RedisCorpus, open_corpus
from vfio_verify.errors import InputError
from vfio_verify.search.budget import Budget, Ending
from vfio_verify.search.fuzz import fuzz
from vfio_verify.search.outcome import Outcome
from vfio_verify.search.recorder import Recorder
from vfio_verify.search.shared import CLAIM_SECONDS, SharedPlace
from vfio_verify.search.state import Part
from vfio_verify.search.tasks import CandidateTask
from vfio_verify.subject.subject import CORE

redis = pytest.importorskip("redis", reason="needs the client: pip install 'vfio-verify[redis]'")
pytestmark = [
    needs_server,
    pytest.mark.not_under_asan("processes that are killed, and a server"),
]

__all__ = ["server"]  # a fixture

BROKEN = DIRECTORY / "broken"
NEVER_UNMAPPED, STATIC = BROKEN / "never_unmapped.c", BROKEN / "offsets_in_static_array.c"
PASSWORD = "hunter2"  # of a server that lives as long as a test


def outcome(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def search(corpus: RedisCorpus, layouts: int, **how: Any) -> Outcome:
    return fuzz(CORE, Options(), Budget(layouts=layouts), Heard(), corpus=corpus, executor=Here(), **how)


# ---- one server, several searches -----------------------------------------------------------------------------


@pytest.mark.slow
@needs_compiler
def test_two_searches_at_once_share_the_work_and_both_know_all_that_was_found(server, tmp_path):
    """No shard is done twice; the counts are those of one search that does the same shards on its own."""
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    arguments = (NEVER_UNMAPPED, "--examples", 200, "--jobs", 1, "--corpus", server.url)
    pair = [Running(PRELOADED, "fuzz", *arguments, "--json", file, cwd=tmp_path) for file in files]
    ended = [search.ended(120) for search in pair]
    assert [search.returncode for search in ended] == [1, 1], ended
    one, other = map(outcome, files)
    last = max(one["state"], other["state"], key=lambda state: state["layouts"])
    assert last["layouts"] == one["new_layouts"] + other["new_layouts"]
    done = [number for start, end in last["done"] for number in range(start, end)]
    assert sum(whole_shard(0, number).examples for number in done) == last["layouts"]
    assert min(one["new_layouts"], other["new_layouts"]) > 0
    for state in (one["state"], other["state"]):
        assert [finding["violation"]["clause"] for finding in state["findings"]] == ["UNMAP_ON_ERROR"]
    assert len(one["new_findings"]) + len(other["new_findings"]) == 1
    assert all("found: UNMAP_ON_ERROR: " in search.stderr for search in ended)
    alone = run(
        *("fuzz", NEVER_UNMAPPED, "--examples", last["layouts"], "--corpus", "alone", "--json", "alone.json"),
        cwd=tmp_path,
    )
    assert alone.returncode == 1
    state = outcome(tmp_path / "alone.json")["state"]
    for name in ("done", "layouts", "runs", "checked", "features"):
        assert state[name] == last[name]
    # Besides, there are the cases that were the first to reach a line: those violate nothing.
    kept = [kept.entry for kept in open_corpus(server.url).load()]
    assert [entry.clause for entry in kept if entry.clause is not None] == ["UNMAP_ON_ERROR"]
    assert len({entry.case for entry in kept}) == len(kept)


def test_one_finding_of_two_searches_is_new_to_the_one_that_saved_it(server):
    """Each decides before it knows of the other."""
    corpus = RedisCorpus(server.url)
    recorders = []
    for _ in range(2):
        place = SharedPlace(corpus, CORE, Options(), Part())
        budget = Ending(Budget(layouts=10))
        heard = Heard()
        recorders.append(Recorder(CORE, Options(), corpus, place, place.load(), ending=budget, watcher=heard))
    found = violation("NO_LEAK")
    for recorder in recorders:
        recorder.decide(CandidateTask(("NO_LEAK", found.cause), [], 0), found)
    assert [len(recorder.new_findings) for recorder in recorders] == [1, 0]
    assert [recorder.state.findings for recorder in recorders] == [recorders[0].new_findings] * 2


def test_a_search_goes_on_where_another_ended_and_fresh_starts_anew(server):
    corpus = RedisCorpus(server.url)
    first = search(corpus, 50)
    assert (first.state.layouts, first.state.done) == (50, [(0, 2)])
    second = search(corpus, 100)
    assert (second.state.layouts, second.new_layouts, second.state.done) == (150, 100, [(0, 3)])
    assert second.state.seconds > first.state.seconds
    assert totals(second.state) == totals(fuzz(CORE, Options(), Budget(layouts=150), Heard(), executor=Here()).state)
    assert search(corpus, 10, fresh=True).state.layouts == 10
    assert search(corpus, 10, part=Part(1, 2)).state.done == [(0, 1)]  # shard 1; of the other part is shard 0
    assert [state.layouts for state in SharedPlace(corpus, CORE, Options(), Part(1, 2)).others()] == [10]
    assert fuzz(CORE, Options(seed=1), Budget(layouts=10), Heard(), corpus=corpus, executor=Here()).state.layouts == 10


def test_a_shard_is_claimed_by_one_and_free_again_when_its_search_has_ended_or_is_long_dead(server):
    corpus = RedisCorpus(server.url)
    client = redis.Redis(unix_socket_path=str(server.socket))
    one, other = (SharedPlace(corpus, CORE, Options(), Part()) for _ in range(2))
    with one.taken():
        assert one.claim(3)
        assert not other.claim(3)
        assert other.claim(4)
        (claimed,) = client.keys("*:3")
        assert 0 < client.ttl(claimed) <= CLAIM_SECONDS
        client.expire(claimed, 5)
        one.save(one.load(), [])
        assert client.ttl(claimed) > 5  # it is alive
    assert other.claim(3)
    client.close()


def test_what_another_search_adds_meanwhile_is_not_lost_and_counts_once(server):
    corpus = RedisCorpus(server.url)
    result = search(corpus, 10).state
    one, other = (SharedPlace(corpus, CORE, Options(), Part()) for _ in range(2))
    states = one.load(), other.load()
    added = [lambda state: state.mark(5), lambda state: state.add_unconfirmed(("CONTENTS", "x"))]
    one.save(states[0], added)
    both = other.save(states[1], [lambda state: state.mark(7), lambda state: state.add_unconfirmed(("CONTENTS", "x"))])
    assert both.done == [(0, 1), (5, 6), (7, 8)]
    assert both.unconfirmed == [("CONTENTS", "x", 2)]
    assert both.layouts == result.layouts == 10


@pytest.mark.slow
@needs_compiler
def test_until_found_ends_with_what_another_search_finds(server, tmp_path):
    """Else the second would look for ever: the first has found all there is."""
    waits = started(
        *("fuzz", NEVER_UNMAPPED, "--until-found", "--time", "100", "--shard", "1/1", "--corpus", server.url),
        *("--jobs", 1),
        cwd=tmp_path,
    )
    finds = run("fuzz", NEVER_UNMAPPED, "--until-found", "--time", "100", "--corpus", server.url, cwd=tmp_path)
    out, err = waits.communicate(timeout=60)
    assert (waits.returncode, finds.returncode) == (1, 1), err
    assert "Ended since a violation was found" in out
    assert "Ended since a violation was found" in finds.stdout


@needs_compiler
def test_sigkill_of_one_of_two_searches_loses_nothing_that_was_told(server, tmp_path):
    draw = random.Random(7)
    arguments = (STATIC, "--time", "1h", "--corpus", server.url, "--interval", "1")
    stays = started("fuzz", *arguments, "--jobs", 1, cwd=tmp_path)
    told: set[str] = set()
    corpus, client = RedisCorpus(server.url), redis.Redis(unix_socket_path=str(server.socket))
    for _ in range(int(os.environ.get("VFIO_VERIFY_FUZZ_KILLS", "4"))):
        with started("fuzz", *arguments, "--jobs", 1, cwd=tmp_path) as process:
            time.sleep(draw.uniform(1, 2.5))
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
        assert "Traceback" not in errors
        told |= set(re.findall(r"^(?:found|advice): .*\[(.+\.json)\]$", errors, re.MULTILINE))
    end = time.monotonic() + 60
    while not client.keys("*:1/1") and time.monotonic() < end:
        time.sleep(0.2)  # on a busy machine the first shards take longer than all that was killed
    (key,) = client.keys("*:1/1")
    while not json.loads(client.get(key))["findings"] and time.monotonic() < end:
        time.sleep(0.2)
    os.killpg(stays.pid, signal.SIGINT)
    _, errors = stays.communicate(timeout=60)
    assert stays.returncode == 130, errors
    told |= set(re.findall(r"^(?:found|advice): .*\[(.+\.json)\]$", errors, re.MULTILINE))
    kept = {one.entry.name for one in corpus.load()}
    assert told
    assert told <= kept
    state = json.loads(client.get(key))
    assert {finding["file"] for finding in state["findings"]} <= kept
    done = [number for start, end in state["done"] for number in range(start, end)]
    assert sum(whole_shard(0, number).examples for number in done) == state["layouts"] > 0
    client.close()


def test_a_state_that_is_none_is_refused_and_fresh_starts_anew(server):
    corpus = RedisCorpus(server.url)
    search(corpus, 10)
    client = redis.Redis(unix_socket_path=str(server.socket))
    (key,) = client.keys("*:1/1")
    for damaged in (b"{", client.get(key).replace(b"{", b'{"a":' + b"[" * 9999, 1)):
        client.set(key, damaged)
        with pytest.raises(InputError, match=r"does not say where a search stands: .*--fresh starts anew"):
            search(corpus, 10)
    assert search(corpus, 10, fresh=True).state.layouts == 10
    client.close()


# ---- the other commands ------------------------------------------------------------------------------------------


@needs_compiler
def test_a_corpus_by_its_url_is_kept_replayed_merged_shown_shrunk_and_judged(server, tmp_path):
    client = redis.Redis(unix_socket_path=str(server.socket))
    client.config_set("requirepass", PASSWORD)
    client.close()
    url = f"unix://{server.socket}?db=0&password={PASSWORD}"
    shown = f"unix://{server.socket}?db=0&password=***"
    checked = run("check", NEVER_UNMAPPED, "--examples", 20, "--corpus", url, cwd=tmp_path)
    assert checked.returncode == 1
    assert f"kept: 1 of 1 violations are new in {shown}\n" in checked.stderr
    replayed = run("replay", url, "--subject", NEVER_UNMAPPED, "--json", "replay.json", cwd=tmp_path)
    assert replayed.returncode == 1
    assert "1 still failing" in replayed.stdout
    (case,) = outcome(tmp_path / "replay.json")["cases"]
    place, _, name = case["name"].partition("#")
    assert place == shown
    assert run("replay", url, cwd=tmp_path).stdout.endswith("core: 1 cases: 1 fixed\n")
    merged = run("merge", url, "--into", "copy", cwd=tmp_path)
    assert merged.stdout.endswith("1 are new in copy\n"), merged.stderr
    assert [Path(stored.place).name for stored in DirectoryCorpus(tmp_path / "copy").load()] == [name]
    back = run("merge", "copy", "--into", url, cwd=tmp_path)
    assert back.stdout.endswith(f"0 are new in {shown}\n"), back.stderr
    one = f"{url}#{name}"
    drawn = run("show", one, cwd=tmp_path)
    assert "UNMAP_ON_ERROR" in drawn.stdout
    assert run("show", url, cwd=tmp_path).stdout == drawn.stdout  # there is one
    shrunk = run("shrink", one, "--subject", NEVER_UNMAPPED, cwd=tmp_path)
    assert "UNMAP_ON_ERROR: " in shrunk.stderr
    judged = run("check", NEVER_UNMAPPED, "--case", one, cwd=tmp_path)
    assert judged.returncode == 1
    searched = run("fuzz", NEVER_UNMAPPED, "--examples", 10, "--corpus", url, "--json", "fuzz.json", cwd=tmp_path)
    assert f"1 finding, in {shown}" in searched.stdout or "1 new in" in searched.stdout + searched.stderr
    absent = run("show", f"{url}#nothing.json", cwd=tmp_path)
    assert (absent.returncode, absent.stderr) == (2, f"vfio-verify: there is no case {shown}#nothing.json\n")
    for ended in (checked, replayed, merged, back, drawn, shrunk, judged, searched, absent):
        assert PASSWORD not in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
    for file in tmp_path.glob("*.json"):
        assert PASSWORD not in file.read_text()
    wrong = run("replay", url.replace(PASSWORD, "letmein"), cwd=tmp_path)
    assert (wrong.returncode, "letmein" in wrong.stderr) == (2, False)


@pytest.mark.parametrize("words", [("check", "core", "--examples", 1), ("fuzz", "core", "--time", 1)])
def test_a_server_that_takes_nothing_is_refused_before_the_work(server, tmp_path, words):
    client = redis.Redis(unix_socket_path=str(server.socket))
    client.replicaof("127.0.0.1", 9)
    client.close()
    done = run(*words, "--corpus", server.url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"vfio-verify: cannot write to the corpus unix://.*read only replica", done.stderr)
