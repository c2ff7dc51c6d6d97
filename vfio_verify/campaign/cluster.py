"""A Dask cluster as an executor: tasks go to workers on any machine, with what they need, and their results come home.

A worker that is lost has its tasks run elsewhere, which Dask sees to; one that joins gets some. One on which another
vfio_verify is installed is refused: at once if it is there at the start, with a line on it if it joins later.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
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
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.campaign import remote
from vfio_verify.campaign.pool import LostProcessError
from vfio_verify.errors import HarnessError, InputError
from vfio_verify.subject.subject import Subject

T = TypeVar("T")
P = ParamSpec("P")

_CONNECT_SECONDS = 10.0
_STARTS = 3
_ALONE_SECONDS = 15.0
"""How long a task waits for a worker when the last one is gone. A worker that is started anew takes a few."""
_LOOK_SECONDS = 1.0

_TEXT = Path(remote.__file__).read_text(encoding="utf-8")
_BEGIN = """
import sys, types
module = sys.modules.get(name)
if module is None:
    module = types.ModuleType(name)
    exec(text, module.__dict__)
    sys.modules[name] = module
answer = module.perform(expected, task) if task is not None else module.facts()
"""
_EXPRESSION = "(exec(begin, scope), scope['answer'])[1]"
"""For `eval`, which every Python has: nothing of ours needs to be there to be asked for."""


def _asked(expected: dict[str, str], task: bytes | None) -> tuple[str, dict[str, Any]]:
    """The arguments for `eval` on a worker."""
    name = f"vfio_verify_remote_{hashlib.sha256(_TEXT.encode()).hexdigest()[:12]}"
    scope = {"name": name, "text": _TEXT, "expected": expected, "task": task}
    return _EXPRESSION, {"begin": _BEGIN, "scope": scope}


class TaskLostError(LostProcessError):
    """Several workers ended in the middle of one task: it, and not the cluster, may be to blame."""


# ---- a task on its way, and on a worker -------------------------------------------------------------------------


class _Shipped(Struct, frozen=True):
    """A subject on its way. Every worker runs the same machine code, and needs no compiler."""

    subject: Subject
    library: bytes


def _packed(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> bytes:
    shipped = tuple(_ship(one) if isinstance(one, Subject) and one.library else one for one in args)
    return pickle.dumps((function, shipped, named))


def _ship(subject: Subject) -> _Shipped:
    assert subject.library is not None
    return _Shipped(replace(subject, library=None), subject.library.read_bytes())


def run_task(task: bytes) -> bytes:
    """Perform a task in this process, which is a worker's; what it returns, pickled."""
    function, args, named = pickle.loads(task)
    home = _home()
    return pickle.dumps(
        function(*(_unshipped(one, home) if isinstance(one, _Shipped) else one for one in args), **named)
    )


def _home() -> Path:
    """A directory that Dask removes after its worker, even after one that was killed."""
    from distributed import get_worker

    home = Path(get_worker().local_directory).resolve() / "vfio-verify"
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(home))  # by default it is where the worker was started
    return home


def _unshipped(shipped: _Shipped, home: Path) -> Subject:
    library = home / hashlib.sha256(shipped.library).hexdigest() / "subject.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=library.parent, delete=False) as file:
            file.write(shipped.library)
        os.replace(file.name, library)  # another thread may do the same
    return replace(shipped.subject, library=library)


# ---- the executor -----------------------------------------------------------------------------------------------


class _Task(NamedTuple):
    """What was asked for, and how it travels."""

    future: Future[Any]
    packed: bytes


class _Sent(NamedTuple):
    """A task that Dask has. `where` is None if any worker may take it."""

    task: _Task
    future: Any
    where: frozenset[str] | None


class ClusterExecutor(Executor):
    """Runs functions of this package on a cluster's workers. Made by `connect`.

    Few more tasks than workers are with Dask at a time; the others wait here. So one that joins finds something to do,
    and who is to be left out is known before most tasks are sent.
    """

    lost = (TaskLostError,)
    """What a task ends with that may be to blame for it, and may be given again."""

    def __init__(self, client: Any, url: str, on_refused: Callable[[str], None]) -> None:
        self._client, self._url, self._on_refused = client, url, on_refused
        self._expected = remote.facts()
        self._lock = threading.RLock()
        self._there: dict[str, int] = client.nthreads()
        self._refused: set[str] = set()
        self._waiting: deque[_Task] = deque()
        self._sent: dict[Future[Any], _Sent] = {}
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look_out, name="vfio-verify-cluster", daemon=True)
        self._watch.start()

    @property
    def slots(self) -> int:
        """Tasks that can run at once, with the workers that were there a second ago."""
        with self._lock:
            return sum(threads for address, threads in self._there.items() if address not in self._refused)

    def crew(self) -> str:
        """The same in words: how many workers, and threads where a worker has several."""
        with self._lock:
            usable = self._there.keys() - self._refused
        workers, slots = f"{len(usable)} worker{'' if len(usable) == 1 else 's'}", self.slots
        return workers if slots == len(usable) else f"{workers} with {slots} threads"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function on some worker. A Subject among its arguments takes its library along."""
        if self._closed.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[T] = Future()
        future.add_done_callback(self._forget)
        with self._lock:
            self._waiting.append(_Task(future, _packed(fn, args, kwargs)))
        self._send()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As Executor.shutdown. A task that has begun is not ended in its middle, but its result may be given up."""
        if cancel_futures or not wait:
            for future in self._asked_for():
                future.cancel()
        for future in self._asked_for():
            with contextlib.suppress(BaseException):
                future.exception()
        self._closed.set()
        self._watch.join()

    def _asked_for(self) -> list[Future[Any]]:
        with self._lock:
            return [*self._sent, *(task.future for task in self._waiting)]

    def _send(self) -> None:
        """Give Dask what there is a worker for, and one task more for each, to begin at once after another."""
        failed: list[tuple[Future[Any], Exception]] = []
        with self._lock:
            usable = frozenset(self._there.keys() - self._refused)
            room = self.slots + len(usable) - len(self._sent)
            while self._waiting and room > 0:
                task = self._waiting.popleft()
                if task.future.done():
                    continue
                where = usable if self._refused else None
                arguments = _asked(self._expected, task.packed)
                key = f"vfio-verify-{uuid.uuid4().hex}"
                try:
                    sent = self._client.submit(eval, *arguments, key=key, pure=False, workers=where and sorted(where))
                except Exception as error:  # noqa: BLE001  # Dask has no common base for what ends a client
                    failed.append((task.future, error))
                    continue
                self._sent[task.future] = _Sent(task, sent, where)
                sent.add_done_callback(functools.partial(self._come_home, task))
                room -= 1
        for future, why in failed:
            _fail(future, self._lost(why))

    def _come_home(self, task: _Task, done: Any) -> None:
        """Called in a thread of the client's, when Dask is done with a task."""
        with self._lock:
            sent = self._sent.get(task.future)
            if sent is None or sent.future is not done:
                return  # it was taken back
        try:
            if done.status == "finished":
                verdict, answer = done.result()
                if verdict == "refused":
                    self._refuse_joined()
                    self._take_back(sent)
                elif task.future.set_running_or_notify_cancel():
                    task.future.set_result(pickle.loads(answer))
            elif done.status == "error":
                _fail(task.future, self._told(done.exception()))
            else:
                _fail(task.future, self._lost(None))
        except BaseException as error:  # noqa: BLE001  # else the future would never be done
            _fail(task.future, self._lost(error))
        self._send()

    def _take_back(self, sent: _Sent) -> None:
        """Have a task wait again, before all others."""
        with self._lock:
            if self._sent.pop(sent.task.future, None) is not None:
                self._waiting.appendleft(sent.task)

    def _refuse_joined(self) -> None:
        """Leave out the workers on which something else is installed from now on."""
        there = self._client.nthreads()
        wrong = _wrong(_ask(self._client), self._expected)
        with self._lock:
            self._there = there
            new = sorted(wrong.keys() - self._refused)
            self._refused |= wrong.keys()
        for address in new:
            self._on_refused(f"{wrong[address]}; it gets no task")

    def _told(self, error: BaseException | None) -> BaseException:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            times = error.allowed_failures + 1
            return TaskLostError(f"{times} workers of the cluster ended in the middle of one task (out of memory?)")
        return error or HarnessError("a task of the cluster failed, and does not say why")

    def _lost(self, error: BaseException | None) -> HarnessError:
        why = f": {_first_line(error)}" if error is not None else ""
        return HarnessError(f"the Dask scheduler at {self._url} is lost{why}")

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            sent = self._sent.pop(future, None)
        if sent is not None and future.cancelled():
            with contextlib.suppress(Exception):  # the scheduler may be gone
                sent.future.cancel()

    def _look_out(self) -> None:
        """Who joins gets tasks, and what nobody is left to run does not wait for ever."""
        alone_since: float | None = None
        while not self._closed.wait(_LOOK_SECONDS):
            try:
                there = self._client.nthreads()
            except Exception:  # noqa: BLE001  # the client tells each task that its scheduler is gone
                continue
            with self._lock:
                self._there = there
                usable = there.keys() - self._refused
                stranded = [one for one in self._sent.values() if one.where is not None and not one.where & usable]
            for one in stranded:
                self._take_back(one)
                one.future.cancel()
            self._send()
            if usable or not self._asked_for():
                alone_since = None
            elif alone_since is None:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > _ALONE_SECONDS:
                waited = f"and none came in {_ALONE_SECONDS:.0f} seconds"
                for future in self._asked_for():
                    _fail(future, HarnessError(f"the cluster at {self._url} has no worker left, {waited}"))


def _fail(future: Future[Any], error: BaseException) -> None:
    with contextlib.suppress(Exception):  # it may have been cancelled, or failed, meanwhile
        if future.set_running_or_notify_cancel():
            future.set_exception(error)


# ---- connecting -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connect(url: str, on_refused: Callable[[str], None] = lambda _: None) -> Iterator[ClusterExecutor]:
    """The workers of the Dask scheduler at a URL (tcp://host:port, tls://host:port).

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
        try:
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
            found = _ask(client)
        except TimeoutError:
            raise InputError(f"the Dask scheduler at {url} has no worker; start some with: dask worker {url}") from None
        except OSError as error:
            raise InputError(f"the Dask scheduler at {url} is lost: {_first_line(error)}") from None
        if wrong := _wrong(found, remote.facts()):
            what = f"the cluster at {url} has workers on which not the same is installed as here:"
            raise InputError("\n  ".join([what, *wrong.values()]))
        executor = ClusterExecutor(client, url, on_refused)
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        yield executor


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


def _ask(client: Any) -> dict[str, dict[str, str] | Exception]:
    """What each worker found installed, or why it cannot say. One that is lost meanwhile is not one that differs."""
    answers = client.run(eval, *_asked({}, None), on_error="return")
    return {address: one for address, one in answers.items() if not isinstance(one, OSError)}


def _wrong(found: dict[str, dict[str, str] | Exception], expected: dict[str, str]) -> dict[str, str]:
    """A line for each worker on which not the same is installed."""
    wrong = {}
    for address, one in sorted(found.items()):
        if isinstance(one, Exception):
            wrong[address] = f"the worker at {address} cannot say what it has: {_first_line(one)}"
        elif differences := remote.differences(expected, one):
            wrong[address] = f"the worker at {address} has {', '.join(differences)}"
    return wrong


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):  # whatever it still waits for is nobody's any more
        client.close(timeout=2)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong is told once, by us: Dask logs each lost connection with a traceback."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in ("distributed", "tornado")]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
