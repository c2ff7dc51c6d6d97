"""Where a search stands, in a Redis server: any number of searches for the same share the work, and one state.

A search adds what it did to what is there, in a transaction. What it is about to do it claims for a while, and claims
again as long as it is alive; so nobody does the same meanwhile, and what a killed search has begun is free again soon.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from vfio_verify.campaign.options import Options
from vfio_verify.corpus.shared import RedisCorpus
from vfio_verify.errors import InputError
from vfio_verify.search.state import Change, Part, State, decoded, digest
from vfio_verify.subject.subject import Subject

_PREFIX = "vfio-verify:search:"
CLAIM_SECONDS = 60
"""A search saves every few seconds, and claims what it does anew each time. One that is stopped for longer may do what
another one does: it then counts once."""


class SharedPlace:
    """The state of one part of a search."""

    def __init__(self, corpus: RedisCorpus, subject: Subject, options: Options, part: Part) -> None:
        self._corpus, self._redis, self._part = corpus, corpus.client, part
        self._parts = _PREFIX + digest(subject, options)
        self._key = self._of(str(part))
        self._me = secrets.token_hex(8)
        self._claimed: set[int] = set()

    def _of(self, part: str) -> str:
        return f"{self._parts}:{part}"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Nobody is kept out. What was claimed and not done is free when this ends."""
        self._corpus.refuse_unwritable()
        try:
            yield
        finally:
            with suppress(InputError), self._corpus.told():
                for number in self._claimed:
                    # In between it may become another one's, and be done twice then: see `State.add`.
                    if self._redis.get(self._claim(number)) == self._me.encode():
                        self._redis.delete(self._claim(number))

    def load(self) -> State:
        """What all searches so far have left."""
        with self._corpus.told():
            data = self._redis.get(self._key)
        return self._decoded(data)

    def _decoded(self, data: bytes | None) -> State:
        return State(part=self._part) if data is None else decoded(data, f"{self._key} in {self._corpus.shown}")

    def reset(self) -> State:
        """At once: what others, now at work, still do is added to the new one."""
        with self._corpus.told():
            # What is being done now is claimed anew soon.
            self._redis.delete(self._key, *self._redis.scan_iter(f"{self._key}:*"))
        return State(part=self._part)

    def others(self) -> list[State]:
        """The states of other parts of the same work, as they are now."""
        with self._corpus.told():
            keys = sorted(self._of(part.decode()) for part in self._redis.smembers(self._parts))
            found = self._redis.mget(keys) if keys else []
        return [self._decoded(data) for key, data in zip(keys, found, strict=True) if data and key != self._key]

    def claim(self, number: int) -> bool:
        """Not if another search did so, not long ago."""
        with self._corpus.told():
            mine = bool(self._redis.set(self._claim(number), self._me, nx=True, ex=CLAIM_SECONDS))
        if mine:
            self._claimed.add(number)
        return mine

    def _claim(self, number: int) -> str:
        return f"{self._key}:{number}"

    def save(self, _state: State, changes: Sequence[Change]) -> State:
        """Make the changes to what is there now."""
        from redis import WatchError

        with self._corpus.told(), self._redis.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(self._key)
                    state = self._decoded(pipe.get(self._key))
                    for change in changes:
                        change(state)
                    pipe.multi()
                    pipe.set(self._key, msgspec.json.encode(state))
                    pipe.sadd(self._parts, str(self._part))
                    self._claimed = {number for number in self._claimed if not state.has(number)}
                    for number in self._claimed:
                        pipe.set(self._claim(number), self._me, ex=CLAIM_SECONDS)
                    pipe.execute()
                except WatchError:
                    continue  # another search was quicker
                return state
