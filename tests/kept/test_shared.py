"""A corpus and an example database in a real Redis server, which the tests start."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from case_texts import from_json
from redis_server import needs_server, server

from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.entry import Entry, Origin
from vfio_verify.corpus.shared import RedisCorpus, example_database, is_shared, open_corpus
from vfio_verify.errors import InputError
from vfio_verify.values.case import Case

redis = pytest.importorskip("redis", reason="needs the client: pip install 'vfio-verify[redis]'")

__all__ = ["server"]  # a fixture

CASE = (
    '{"schema":"vfio-verify/case@1","devices":[{"regions":[{"index":0,"size":%d}]}],'
    '"ram_blocks":[{"device":0,"region":0,"area":0}],"iovec":[{"block":0,"offset":0,"length":4096}],'
    '"total_size":4096,"page_size":4096}'
)


def case(pages: int) -> Case:
    return from_json(CASE % (pages * 4096))


# ---- the corpus --------------------------------------------------------------------------------------------


@needs_server
def test_what_is_stored_comes_back_ordered_by_name_as_from_a_directory(server, tmp_path):
    entries = [
        Entry(case(n), Origin("x.c", clause)) for n, clause in ((3, "NO_LEAK"), (1, "CONTENTS"), (2, "CONTENTS"))
    ]
    entries.append(Entry(case(4), note="seen in the wild: \u00fc"))
    shared, directory = open_corpus(server.url), open_corpus(str(tmp_path / "corpus"))
    assert isinstance(shared, RedisCorpus)
    assert isinstance(directory, DirectoryCorpus)
    for entry in entries:
        for place in (shared, directory):
            assert (kept := place.store(entry)) is not None
            assert kept.endswith(entry.name)
            assert place.store(entry) is None
    assert [one.entry for one in open_corpus(server.url).load()] == [one.entry for one in directory.load()]
    assert sorted(one.place.rpartition("#")[2] for one in shared.load()) == sorted(entry.name for entry in entries)


@needs_server
def test_writers_on_several_machines_lose_nothing_and_write_nothing_twice(server, tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(
        "import sys\nfrom vfio_verify.corpus.entry import read_entry\n"
        "from vfio_verify.corpus.shared import RedisCorpus\n"
        "there = RedisCorpus(sys.argv[1])\n"
        "stored = [there.store(read_entry((sys.argv[2] % (n * 4096)).encode(), '')) for n in range(1, 101)]\n"
        "print(sum(one is not None for one in stored))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, script, server.url, CASE], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    wrote = [int(writer.communicate(timeout=25)[0]) for writer in writers]
    assert sum(wrote) == 100
    assert {kept.entry.case for kept in RedisCorpus(server.url).load()} == {case(n) for n in range(1, 101)}


@needs_server
def test_a_server_that_holds_nothing_or_no_entry_or_is_lost_is_an_input_error(server):
    shared = RedisCorpus(server.url)
    with pytest.raises(InputError, match="there are no cases in unix://"):
        next(shared.load())
    client = redis.Redis(unix_socket_path=str(server.socket))
    client.hset("vfio-verify:corpus", "x.json", b'{"schema": "another"}')
    with pytest.raises(InputError, match=r"redis\?db=0#x\.json is not a corpus entry"):
        list(shared.load())
    client.delete("vfio-verify:corpus")
    client.set("vfio-verify:corpus", "somebody else's")
    with pytest.raises(InputError, match=r"cannot use the corpus .*WRONGTYPE"):
        shared.store(Entry(case(1)))
    client.close()
    server.kill()
    with pytest.raises(InputError, match="cannot use the corpus"):
        shared.store(Entry(case(1)))


def test_no_server_and_no_url_are_input_errors_that_show_no_password():
    started = time.monotonic()
    secret = "hunter2"
    answered = (
        "redis://user:hunter2@127.0.0.1:9/0",
        "redis://127.0.0.1:9/0?password=hunter2",
        "unix:///nowhere/redis",
        "unix://user@/nowhere/redis?db=0&password=hunter2",
    )
    for url in answered:
        with pytest.raises(InputError, match="no Redis server answers at") as caught:
            open_corpus(url)
        assert secret not in str(caught.value)
    # Of these a part would be taken for a host, a port or a query.
    for url in ("redis://:hunter2@h:port/0", *(f"redis://:x{c}hunter2@h" for c in "/?#"), "redis://u:hunter2#x@h#name"):
        with pytest.raises(InputError, match="is not the URL of a Redis server") as caught:
            open_corpus(url)
        assert secret not in str(caught.value)
    assert time.monotonic() - started < 10


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    for use in (open_corpus, example_database):
        with pytest.raises(InputError, match=r"^redis://host needs: pip install 'vfio-verify\[redis\]'"):
            use("redis://host")


def test_only_a_url_is_a_server():
    assert is_shared("redis://host:6379/0")
    assert is_shared("rediss://host")
    assert not is_shared("redis/corpus")
    assert not is_shared("redis:corpus")
    assert not is_shared("https://host/corpus")


# ---- the example database -----------------------------------------------------------------------------------

PROPERTY = """
import sys
from hypothesis import Phase, given, settings
from vfio_verify.corpus.shared import example_database
from vfio_verify.generate.strategies import cases

tried, failed = 0, []

@settings(database=example_database(sys.argv[1]), phases=[Phase.reuse, Phase.generate], deadline=None, max_examples=500)
@given(cases())
def few_segments(case):
    global tried
    tried += 1
    if len(case.iovec) >= 4:
        failed.append(tried)
        raise AssertionError

try:
    few_segments()
except AssertionError:
    print(failed[0])
"""


@needs_server
def test_what_fails_a_property_on_one_machine_is_tried_first_on_another(server, tmp_path):
    script = tmp_path / "property.py"
    script.write_text(PROPERTY)

    def tried(number: int) -> int:
        """The number of the first example that fails. Without a database it is never 1: the simplest case passes."""
        home = {"HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / str(number))}
        command = [sys.executable, script, server.url]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=25, env={**os.environ, **home}
        )
        return int(done.stdout)

    assert tried(1) > 1
    assert tried(2) == 1


@needs_server
def test_the_example_database_keeps_out_of_other_projects_examples(server):
    example_database(server.url).save(b"key", b"value")
    client = redis.Redis(unix_socket_path=str(server.socket))
    assert client.keys() == [b"vfio-verify:example:key"]
    client.close()
