"""The state of a search in a Redis server: any number of searches for the same share the work and one state.

A search adds what it has done to what is there, in a transaction. It claims a shard for a while before it runs it, and
renews the claim as long as it is alive. So no other search does the same, and what a killed one has begun is soon free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from vfio_verify.campaign.options import Options
from vfio_verify.corpus.shared import RedisCorpus
from vfio_verify.errors import InputError
from vfio_verify.search.place import Place, decoded, digest
from vfio_verify.search.state import Change, Part, State
from vfio_verify.subject.subject import Subject

_PREFIX = "vfio-verify:search:"
CLAIM_SECONDS = 60
"""A search renews its claims whenever it saves, which is every few seconds. One that is stopped for longer may do what
another one does; it then counts once."""


class SharedPlace(Place):
    """The state of one part of a search. A claim is a lock in the server, which expires by itself."""

    def __init__(self, corpus: RedisCorpus, subject: Subject, options: Options, part: Part) -> None:
        super().__init__(part)
        self._corpus, self._redis = corpus, corpus.client
        self._parts = _PREFIX + digest(subject, options)
        self._key = f"{self._parts}:{part}"
        self._claims: dict[int, Any] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep nobody out, but give back at the end what was claimed and is not done."""
        from redis.exceptions import LockError

        self._corpus.refuse_unwritable()
        try:
            yield
        finally:
            with suppress(InputError), self._corpus.told():
                for lock in self._claims.values():
                    with suppress(LockError):  # it has expired, and another search may have it
                        lock.release()

    def load(self) -> State:
        with self._corpus.told():
            data = self._redis.get(self._key)
        return self._decoded(data)

    def _decoded(self, data: bytes | None) -> State:
        return super().load() if data is None else decoded(data, f"{self._key} in {self._corpus.shown}")

    def reset(self) -> State:
        """Delete it at once. What other searches are doing now is added to the new state, and claimed again soon."""
        with self._corpus.told():
            self._redis.delete(self._key, *self._redis.scan_iter(f"{self._key}:*"))
        return super().reset()

    def others(self) -> list[State]:
        with self._corpus.told():
            keys = sorted(f"{self._parts}:{part.decode()}" for part in self._redis.smembers(self._parts))
            found = self._redis.mget(keys) if keys else []
        return [self._decoded(data) for key, data in zip(keys, found, strict=True) if data and key != self._key]

    def claim(self, number: int) -> bool:
        with self._corpus.told():
            lock = self._redis.lock(f"{self._key}:{number}", timeout=CLAIM_SECONDS)
            if lock.acquire(blocking=False):
                self._claims[number] = lock
        return number in self._claims

    def save(self, _state: State, changes: Sequence[Change]) -> State:
        """Make the changes to the state that is there now."""

        def changed(pipe: Any) -> State:
            state = self._decoded(pipe.get(self._key))
            for change in changes:
                change(state)
            pipe.multi()
            pipe.set(self._key, msgspec.json.encode(state))
            pipe.sadd(self._parts, str(self._part))
            return state

        with self._corpus.told():
            # It is tried again where another search was quicker.
            state: State = self._redis.transaction(changed, self._key, value_from_callable=True)
            self._claims = {number: lock for number, lock in self._claims.items() if not state.has(number)}
            for lock in self._claims.values():
                self._keep(lock)
        return state

    def _keep(self, lock: Any) -> None:
        """Renew a claim. If another search has started anew, the claim is gone, and is made again."""
        from redis.exceptions import LockError

        try:
            lock.reacquire()
        except LockError:
            lock.acquire(blocking=False)
