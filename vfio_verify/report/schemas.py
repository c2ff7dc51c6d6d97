"""The JSON Schemas of what the program reads and writes: published in ``specs/schemas/``, made from the code."""

from __future__ import annotations

import inspect
from importlib.resources import files
from typing import Any

NAMES = ("case", "corpus", "replay", "report")


def published(name: str) -> bytes:
    """A schema as it comes with the package."""
    return files("vfio_verify.specs").joinpath("schemas", f"{name}.json").read_bytes()


def generated(name: str) -> bytes:
    """A schema as the code has it. A test holds the published one against it."""
    import msgspec

    from vfio_verify.campaign.replay import ReplayReport
    from vfio_verify.corpus.entry import Entry
    from vfio_verify.report.report import Report
    from vfio_verify.values.case import Case

    types = {"case": Case, "corpus": Entry, "replay": ReplayReport, "report": Report}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"vfio-verify/{name}@1",
        **_described(msgspec.json.schema(types[name])),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"


def _described(value: Any) -> Any:
    """The same with each description, a docstring, without its indentation in the code: Python 3.13 has it so."""
    if isinstance(value, list):
        return [_described(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: inspect.cleandoc(part) if key == "description" and isinstance(part, str) else _described(part)
        for key, part in value.items()
    }
