"""A Dask cluster as an executor: tasks go to workers on any machine, with what they need, and their results come home.

Dask runs the tasks of a lost worker elsewhere and gives some to one that joins. A worker with the same installation as
here has a resource that every task asks for, so that Dask itself gives none to a worker that is refused: it is refused
at once if it is there at the start, and told of on a line if it joins later.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import io
import logging
import os
import pickle
import tempfile
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from msgspec.structs import replace

from vfio_verify.campaign import remote
from vfio_verify.campaign.pool import LostProcessError
from vfio_verify.errors import HarnessError, InputError
from vfio_verify.subject.subject import Subject

T = TypeVar("T")
P = ParamSpec("P")

_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_STARTS = 3
_ALONE_SECONDS = 15.0
"""How long a task waits for a worker when the last one is gone. A worker that is started anew takes a few."""
_LOOK_SECONDS = 1.0


class TaskLostError(LostProcessError):
    """Several workers ended in the middle of one task: it, and not the cluster, may be to blame."""


# ---- a task on its way, and on a worker -------------------------------------------------------------------------


class _Call:
    """A function and its arguments. To unpickle it is to call the function, and gives what that returns."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._asked = function, args, named

    def __reduce__(self) -> Any:
        return _perform, self._asked


def _packed(call: _Call) -> bytes:
    packed = io.BytesIO()
    pickler = pickle.Pickler(packed)
    pickler.dispatch_table = {Subject: _with_library}
    pickler.dump(call)
    return packed.getvalue()


def _with_library(subject: Subject) -> Any:
    """How a subject is pickled. Every worker runs the same machine code, and needs no compiler."""
    if subject.library is None:
        return subject.__reduce__()
    files = [*subject.linked, subject.library]
    root = subject.library.parent
    packed = tuple((str(path.relative_to(root)), path.read_bytes()) for path in files)
    return _unpacked, (replace(subject, library=None), packed)


def _unpacked(subject: Subject, packed: tuple[tuple[str, bytes], ...]) -> Subject:
    """`packed` has the names and contents of the files to load; the subject itself is the last."""
    digest = hashlib.sha256(repr([(name, hashlib.sha256(data).digest()) for name, data in packed]).encode())
    home = _home() / digest.hexdigest()
    library = home / packed[-1][0]
    for name, data in () if library.exists() else packed:
        (home / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, delete=False) as file:
            file.write(data)
        os.replace(file.name, home / name)  # another thread may do the same
    return replace(subject, library=library)


def _perform(function: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any]) -> T:
    # By default it is a directory where the worker was started.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(_home()))
    return function(*args, **named)


def _home() -> Path:
    """A directory that Dask removes after its worker, even after one that was killed."""
    from distributed import get_worker

    home = Path(get_worker().local_directory).resolve() / "vfio-verify"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


# ---- the executor -----------------------------------------------------------------------------------------------


class ClusterExecutor(Executor):
    """Runs functions of this package on the workers that have a resource. Made by `connect`.

    Dask's own executor carries the tasks, but not all at the same time: Dask assigns each to a worker as it comes, and
    when a worker is lost it blames every task that was assigned to it. So few more tasks than can run are with Dask,
    and the others wait here.
    """

    lost = (TaskLostError,)
    """How a task ends that may be to blame itself, and may be submitted again."""

    def __init__(self, client: Any, url: str, resource: str) -> None:
        self._client, self._url, self._resource = client, url, resource
        self._dask = client.get_executor(pure=False, resources={resource: 1})
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Future[Any], bytes]] = deque()
        self._sent: dict[Future[Any], Future[Any]] = {}
        self._closed = threading.Event()
        self._look()
        self._watch = threading.Thread(target=self._look_out, name="vfio-verify-cluster", daemon=True)
        self._watch.start()

    @property
    def slots(self) -> int:
        """Tasks that can run at once, with the workers that were there a second ago."""
        return sum(self._there.values())

    def crew(self) -> str:
        """Says how many workers, and threads where a worker has several."""
        workers = f"{len(self._there)} worker{'' if len(self._there) == 1 else 's'}"
        return workers if self.slots == len(self._there) else f"{workers} with {self.slots} threads"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function on some worker. A Subject among its arguments takes its library along."""
        if self._closed.is_set():
            raise RuntimeError("the cluster's executor is closed")
        future: Future[T] = Future()
        future.add_done_callback(self._forget)
        with self._lock:
            self._waiting.append((future, _packed(_Call(fn, args, kwargs))))
        self._send()
        return future

    def close(self) -> None:
        """Cancel what is not done, and take nothing more. A task that has begun is not ended in its middle."""
        self._closed.set()
        for future in self._asked_for():
            future.cancel()
        self._watch.join()

    def _asked_for(self) -> list[Future[Any]]:
        with self._lock:
            return [*self._sent, *(future for future, _ in self._waiting)]

    def _send(self) -> None:
        """Give Dask the tasks for which there is a worker, and one more for each worker, so that none is ever idle."""
        with self._lock:
            while self._waiting and len(self._sent) < self.slots + len(self._there):
                future, packed = self._waiting.popleft()
                if future.done():
                    continue
                try:
                    # The scheduler loads the function that is submitted: one of this package it need not have.
                    sent = self._dask.submit(pickle.loads, packed)
                except Exception as error:  # noqa: BLE001  # Dask has no common base for what ends a client
                    future.set_exception(self._lost(error))
                    continue
                self._sent[future] = sent
                sent.add_done_callback(functools.partial(self._come_home, future))

    def _come_home(self, future: Future[Any], sent: Future[Any]) -> None:
        """Called when Dask is done with a task, in a thread of the client's."""
        self._forget(future)
        with contextlib.suppress(InvalidStateError):  # it was cancelled, or failed, meanwhile
            if sent.cancelled():
                future.set_exception(self._lost())
            elif error := sent.exception():
                future.set_exception(_told(error))
            else:
                future.set_result(sent.result())
        self._send()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            sent = self._sent.pop(future, None)
        if sent is not None and not sent.done():
            with contextlib.suppress(Exception):  # the scheduler may be gone
                sent.cancel()

    def _lost(self, error: BaseException | None = None) -> HarnessError:
        why = f": {_first_line(error)}" if error is not None else ""
        return HarnessError(f"the Dask scheduler at {self._url} is lost{why}")

    def _look(self) -> None:
        workers = self._client.sync(self._client.scheduler.identity, callback_timeout=_CONNECT_SECONDS)["workers"]
        threads = {address: worker["resources"].get(self._resource, 0) for address, worker in workers.items()}
        self._there = {address: int(n) for address, n in threads.items() if n}

    def _look_out(self) -> None:
        """Give tasks to a worker that joins, and let no task wait for ever when none is left."""
        alone_since: float | None = None
        while not self._closed.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: BLE001  # the client tells each task that its scheduler is gone
                continue
            self._send()
            if self._there or not self._asked_for():
                alone_since = None
            elif alone_since is None:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > _ALONE_SECONDS:
                waited = f"and none came in {_ALONE_SECONDS:.0f} seconds"
                for future in self._asked_for():
                    with contextlib.suppress(InvalidStateError):
                        future.set_exception(HarnessError(f"the cluster at {self._url} has no worker left, {waited}"))


def _told(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        times = error.allowed_failures + 1
        return TaskLostError(f"{times} workers of the cluster ended in the middle of one task (out of memory?)")
    return error


# ---- connecting -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connect(url: str, on_refused: Callable[[str], None] = lambda _: None) -> Iterator[ClusterExecutor]:
    """An executor on the workers of the Dask scheduler at a URL (tcp://host:port, tls://host:port).

    `on_refused` is told of each worker that joins later and is refused. Raises InputError if there is no scheduler, if
    it has no worker, or if one of them has another version of what the result depends on.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError(f"a cluster needs Dask: pip install 'vfio-verify[cluster]' ({error})") from None
    with _quiet(), contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ, of which we tell below
            client = _client(distributed, url)
        stack.callback(_close, client)
        expected = remote.facts()
        resource = f"vfio-verify {hashlib.sha256(repr(expected).encode()).hexdigest()[:12]}"
        topic = f"{resource} {uuid.uuid4().hex}"  # of this client's: another one has its own
        try:
            _wait_for_a_worker(client, url)
            _refuse_other_installations(client, url, expected)
            client.subscribe_topic(topic, lambda event: on_refused(f"{event[1]}; it gets no task"))
            client.register_plugin(remote.plugin(expected, resource, topic))
            stack.callback(_unregister, client, topic)
            executor = ClusterExecutor(client, url, resource)
        except OSError as error:
            raise InputError(f"the Dask scheduler at {url} is lost: {_first_line(error)}") from None
        stack.callback(executor.close)
        yield executor


def _wait_for_a_worker(client: Any, url: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except TimeoutError:
        raise InputError(f"the Dask scheduler at {url} has no worker; start some with: dask worker {url}") from None


def _refuse_other_installations(client: Any, url: str, expected: dict[str, str]) -> None:
    """InputError with a line for each worker that has another installation. One that is lost is not among them."""
    wrong = []
    for address, one in sorted(client.run(eval, *remote.elsewhere("facts"), on_error="return").items()):
        if isinstance(one, Exception):
            if not isinstance(one, OSError):
                wrong.append(f"the worker at {address} cannot say what it has: {_first_line(one)}")
        elif differences := remote.differences(expected, one):
            wrong.append(f"the worker at {address} has {', '.join(differences)}")
    if wrong:
        what = f"the cluster at {url} has workers on which not the same is installed as here:"
        raise InputError("\n  ".join([what, *wrong]))


def _client(distributed: Any, url: str) -> Any:
    for _ in range(_STARTS):
        reason = None
        try:
            return distributed.Client(url, timeout=_CONNECT_SECONDS, set_as_default=False)
        except AssertionError:  # its thread has not started within ten seconds
            pass
        except (OSError, ValueError, TimeoutError, TypeError) as error:
            reason = _first_line(error)
        # The half-made client ends its thread when it is collected, for which it takes a lock of all clients. That must
        # not happen while the next one is made, which has the lock: it would wait for itself.
        gc.collect()
        if reason is not None:
            raise InputError(f"no Dask scheduler answers at {url}; start one with: dask scheduler ({reason})")
    raise HarnessError("Dask does not start: the machine is too busy")


def _unregister(client: Any, plugin: str) -> None:
    with contextlib.suppress(Exception):  # the scheduler may be gone
        client.sync(client.scheduler.unregister_worker_plugin, name=plugin, callback_timeout=_CLOSE_SECONDS)


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):  # whatever it still waits for is nobody's any more
        client.close(timeout=_CLOSE_SECONDS)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Log nothing. What goes wrong is told once, by us; Dask logs each lost connection with a traceback."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
