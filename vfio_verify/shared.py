"""A corpus that several machines share, in a Redis server, and Hypothesis's example database beside it.

In one hash lie the bytes that would be the files of a directory, by the names that they would have there. Nothing in it
is ever written over or removed, so that any number of writers agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from vfio_verify import corpus
from vfio_verify.corpus import Entry, read_entry
from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase

SCHEMES = ("redis", "rediss", "unix")
_HASH = "vfio-verify:corpus"
_PREFIX = b"vfio-verify:example:"
_SECONDS = 5.0
_MAX_BYTES = 64 << 20


class Kept(NamedTuple):
    """An entry, and where it is: the name of its file, or its name in the server."""

    place: str
    entry: Entry


class Corpus(Protocol):
    """Where cases are kept. Raises InputError where it cannot be read or written, or holds what is no entry."""

    def load(self) -> Iterator[Kept]:
        """Every entry, ordered by name. InputError if there is none."""

    def store(self, entry: Entry) -> str | None:
        """Keep an entry, and say where; None if it is there already."""


def open_corpus(place: str) -> Corpus:
    """The corpus that a user names: a directory or file, or a Redis server by redis://, rediss:// or unix://."""
    return RedisCorpus(place) if is_shared(place) else DirectoryCorpus(Path(place))


def is_shared(place: str) -> bool:
    """Is it the URL of a server?"""
    scheme, separator, _ = place.partition("://")
    return bool(separator) and scheme in SCHEMES


class DirectoryCorpus:
    """A directory of entries, or one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Iterator[Kept]:
        return (Kept(str(stored.path), stored.entry) for stored in corpus.load(self._path))

    def store(self, entry: Entry) -> str | None:
        stored = corpus.store(self._path, entry)
        return None if stored is None else str(stored)


class RedisCorpus:
    """Entries in a Redis server. It is as durable as that server: `appendonly yes` there keeps what is stored."""

    def __init__(self, url: str) -> None:
        self._shown = _without_password(url)
        self._redis = _client(url)

    def load(self) -> Iterator[Kept]:
        with self._told():
            names = sorted(self._redis.hkeys(_HASH))
        if not names:
            raise InputError(f"there are no cases in {self._shown}")
        for name in names:
            place = f"{self._shown}#{name.decode(errors='replace')}"
            with self._told():
                size = self._redis.hstrlen(_HASH, name)
                data = self._redis.hget(_HASH, name) if size <= _MAX_BYTES else None
            if size > _MAX_BYTES:
                raise InputError(f"{place} is no corpus entry: larger than {_MAX_BYTES} bytes")
            if data is not None:  # else someone removed it by hand meanwhile
                yield Kept(place, read_entry(data, place))

    def store(self, entry: Entry) -> str | None:
        with self._told():
            is_new = self._redis.hsetnx(_HASH, entry.name, entry.to_json())
        return f"{self._shown}#{entry.name}" if is_new else None

    @contextmanager
    def _told(self) -> Iterator[None]:
        from redis import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            raise InputError(f"cannot use the corpus {self._shown}: {error}") from error


def example_database(url: str) -> ExampleDatabase:
    """A database for `hypothesis.settings(database=...)` in a Redis server: where one machine's property test fails,
    another's tries that example first. For tests that draw from `strategies`; a campaign uses none, so that the same
    seed gives the same report. Raises InputError if no server answers."""
    client = _client(url)
    from hypothesis.extra.redis import RedisExampleDatabase

    return RedisExampleDatabase(client, key_prefix=_PREFIX, listener_channel="vfio-verify:examples")


def _client(url: str) -> Any:
    """A connection that was tried."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise InputError(f"{_without_password(url)} needs: pip install 'vfio-verify[redis]' ({error})") from None
    try:
        client = redis.Redis.from_url(
            url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS, retry=Retry(NoBackoff(), 1)
        )
        client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise InputError(f"no Redis server answers at {_without_password(url)}: {error}") from None
    return client


def _without_password(url: str) -> str:
    """As it may be shown."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return url.rpartition("@")[2]
    return url.replace(f":{password}@", ":***@", 1) if password else url
