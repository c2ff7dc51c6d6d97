"""What runs first on a cluster's worker: it says what is installed there, and marks the worker if that is the same.

The text of this file is sent to the workers, because one may have another vfio_verify, or none. So it imports nothing
of the package until it has to say whether the package is the same, and is written for any Python 3.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import platform
import re
import sys
from pathlib import Path
from typing import Any

C_LIBRARY = "C library"
_ABSENT = "not installed"
_BEGIN = """
import sys, types
module = sys.modules.get(name)
if module is None:
    module = types.ModuleType(name)
    exec(text, module.__dict__)
    sys.modules[name] = module
answer = getattr(module, function)(*arguments)
"""
_found: dict[str, str] = {}


def elsewhere(function: str, *arguments: Any) -> tuple[str, dict[str, Any]]:
    """The arguments for `eval`, which every Python has, to call a function of this file where the file is not."""
    text = Path(__file__).read_text(encoding="utf-8")
    name = f"vfio_verify_remote_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    scope = {"name": name, "text": text, "function": function, "arguments": arguments}
    return "(exec(begin, scope), scope['answer'])[1]", {"begin": _BEGIN, "scope": scope}


def facts() -> dict[str, str]:
    """What the result of a task depends on, as this process first found it: what is installed later is not loaded."""
    if not _found:
        _found.update(_look())
    return dict(_found)


def _look() -> dict[str, str]:
    found = {"Python": "%d.%d" % sys.version_info[:2], "processor": platform.machine()}  # noqa: UP031  # any Python 3
    found[C_LIBRARY] = " ".join(platform.libc_ver()).strip()
    for name in ("hypothesis", "msgspec"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = _ABSENT
    try:
        package = importlib.import_module("vfio_verify")
        found["vfio_verify"] = str(package.__version__)
        found["vfio_verify's code"] = _digest(Path(str(package.__file__)).parent)
    except Exception as error:  # noqa: BLE001  # whatever is wrong there is what is to be told
        found["vfio_verify"] = _ABSENT if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
    return found


def _digest(package: Path) -> str:
    """A digest of the package's text and of what its extension modules were built from: their bytes differ by the
    compiler."""
    digest = hashlib.sha256()
    texts = [path for path in package.rglob("*.[ph]*") if path.suffix in (".py", ".h") and path.is_file()]
    # An editable install has the specs elsewhere.
    specs = Path(str(importlib.import_module("vfio_verify.specs").__file__)).parent
    named = {path.relative_to(package).as_posix(): path for path in texts if "specs" not in path.parts[-2:]}
    for name, path in sorted({**named, "specs/clauses.toml": specs / "clauses.toml"}.items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for path in sorted(package.glob("_world*.so")):
        built = re.search(rb"vfio-verify built from:([0-9a-f]+)", path.read_bytes())
        digest.update(built.group(0) if built else b"unknown")
    return digest.hexdigest()[:12]


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """How a worker's facts differ, in words. A newer C library loads what was linked with an older one."""
    return [
        f"{name} {found.get(name, _ABSENT)} instead of {value}"
        for name, value in expected.items()
        if found.get(name) != value and not (name == C_LIBRARY and _is_newer(found.get(name, ""), value))
    ]


def _is_newer(found: str, expected: str) -> bool:
    def read(text: str) -> tuple[str, list[int]]:
        name, _, version = text.partition(" ")
        return name, [int(number) for number in re.findall(r"\d+", version)]

    return read(found)[0] == read(expected)[0] and read(found)[1] > read(expected)[1]


def plugin(expected: dict[str, str], resource: str, topic: str) -> Any:
    """A Dask plugin that gives a worker a resource, one for each thread, if it has the same installed as is expected.
    If not, it logs under a topic how the worker differs."""
    from distributed import Status, WorkerPlugin

    class SameInstallation(WorkerPlugin):  # type: ignore[misc]  # Dask has no types
        name = topic

        async def setup(self, worker: Any) -> None:
            if different := differences(expected, facts()):
                worker.log_event(topic, f"the worker at {worker.contact_address} has {', '.join(different)}")
                return
            await worker.set_resources(**{resource: worker.state.nthreads})
            if worker.status == Status.running:
                # A task that no worker could take is looked at again when a worker comes, which is before its plugins
                # are set up, or is resumed.
                worker.status = Status.paused
                worker.status = Status.running

        def __reduce__(self) -> Any:
            return eval, elsewhere("plugin", expected, resource, topic)

    return SameInstallation()
