"""What takes long to make, and is the same in all processes of a session: the first that asks for it makes it."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def once(name: str, make: Callable[[Path], T]) -> T:
    """What `make` returned in the session's first process that asked for it by this name, pickled. It is given a
    directory for files that stay until the session ends."""
    directory = Path(os.environ["VFIO_VERIFY_MADE_ONCE"], name)
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / "made.pickle"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make(directory)))
    made: T = pickle.loads(kept.read_bytes())
    return made
