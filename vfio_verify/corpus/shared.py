"""A corpus by the name that a user gives it: a directory, or a Redis server that several machines share; and
Hypothesis's example database beside it.

In one hash of the server lie the bytes that would be the files of a directory, by the names that they would have there.
Nothing in it is ever written over or removed, so that any number of writers agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.entry import Entry, Kept, read_entry, refuse_too_large
from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase

SCHEMES = ("redis", "rediss", "unix")
_HASH = "vfio-verify:corpus"
_PREFIX = b"vfio-verify:example:"
_SECONDS = 5.0


class RedisCorpus:
    """Entries in a Redis server, or after a # the one of that name. It is as durable as that server: `appendonly yes`
    there keeps what is stored."""

    def __init__(self, url: str) -> None:
        found = re.fullmatch("(.*)#([^#@]*)", url, re.DOTALL)
        url, self._only = (found[1], found[2]) if found else (url, "")
        self.shown = without_password(url)
        self.client = _client(url)

    def refuse_unwritable(self) -> None:
        """Raise InputError before the work is done, and not after it."""
        from redis.exceptions import NoPermissionError, ResponseError

        with self.told():
            try:
                self.client.hdel(_HASH, "")  # no entry has that name: nothing goes, and a replica refuses all the same
            except NoPermissionError:
                pass  # of an account that may add and not remove
            except ResponseError as error:
                raise InputError(f"cannot write to the corpus {self.shown}: {_hushed(self.client, error)}") from error

    def load(self) -> Iterator[Kept]:
        with self.told():
            names = [self._only.encode()] if self._only else sorted(self.client.hkeys(_HASH))
        if not names:
            raise InputError(f"there are no cases in {self.shown}")
        for name in names:
            place = f"{self.shown}#{name.decode(errors='replace')}"
            with self.told():
                refuse_too_large(self.client.hstrlen(_HASH, name), place)
                data = self.client.hget(_HASH, name)
            if data is not None:
                yield Kept(place, read_entry(data, place))
            elif self._only:
                raise InputError(f"there is no case {place}")
            # else someone removed it by hand meanwhile

    def store(self, entry: Entry) -> str | None:
        place = f"{self.shown}#{entry.name}"
        with self.told():
            is_new = self.client.hsetnx(_HASH, entry.name, entry.to_json())
            known = None if is_new else self.client.hget(_HASH, entry.name)
        if known is not None and read_entry(known, place).case != entry.case:
            raise InputError(f"{place} does not hold the case that it is named by")
        return place if is_new else None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what goes wrong with the server into an InputError."""
        from redis import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            raise InputError(f"cannot use the corpus {self.shown}: {_hushed(self.client, error)}") from error


Corpus = DirectoryCorpus | RedisCorpus


def open_corpus(place: str) -> Corpus:
    """The corpus that a user names: a directory or file, or a Redis server by redis://, rediss:// or unix://."""
    return RedisCorpus(place) if is_shared(place) else DirectoryCorpus(Path(place))


def is_shared(place: str) -> bool:
    """Whether the name of a corpus is the URL of a server."""
    scheme, separator, _ = place.partition("://")
    return bool(separator) and scheme in SCHEMES


def example_database(url: str) -> ExampleDatabase:
    """A database for `hypothesis.settings(database=...)` in a Redis server: where one machine's property test fails,
    another's tries that example first. For tests that draw from `strategies`; a campaign uses none, so that the same
    seed gives the same report. Raises InputError if no server answers."""
    client = _client(url)
    from hypothesis.extra.redis import RedisExampleDatabase

    return RedisExampleDatabase(client, key_prefix=_PREFIX, listener_channel="vfio-verify:examples")


def _client(url: str) -> Any:
    """A client whose server has answered."""
    shown = without_password(url)
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise InputError(f"{shown} needs: pip install 'vfio-verify[redis]' ({error})") from None
    try:
        if _is_cut(url):
            raise ValueError
        client = redis.Redis.from_url(
            url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS, retry=Retry(NoBackoff(), 1)
        )
    except (redis.RedisError, ValueError, TypeError):
        # The reason is left out: it quotes the URL, and so perhaps the password.
        raise InputError(
            f"{shown} is not the URL of a Redis server, as redis://:PASSWORD@HOST:PORT/NUMBER is; in the password "
            "write / ? # and @ as %2F %3F %23 and %40"
        ) from None
    try:
        client.ping()
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        raise InputError(f"no Redis server answers at {shown}: {_hushed(client, error)}") from None
    return client


def _hushed(client: Any, error: Exception) -> str:
    """The error's text without the password: a server that does not know AUTH answers with what it was given."""
    password = client.connection_pool.connection_kwargs.get("password")
    return str(error).replace(password, "***") if password else str(error)


_PARAMETER = re.compile("([?&][^=&]*pass[^=&]*=)[^&]*", re.IGNORECASE)
_ACCOUNT = re.compile("^([a-z]+://[^:@/]*):(.*)@")


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return _ACCOUNT.sub(r"\1:***@", _PARAMETER.sub(r"\1***", url))


def _is_cut(url: str) -> bool:
    """Whether a part of the password would be taken for the host."""
    found = _ACCOUNT.match(_PARAMETER.sub(r"\1***", url))
    return found is not None and any(character in found[2] for character in "/?#")
