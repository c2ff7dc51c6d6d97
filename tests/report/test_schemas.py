"""The published JSON Schemas: they are the code's, and they accept what it writes and little else."""

from __future__ import annotations

import inspect
import json
from importlib.resources import files
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sequences

from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.replay import ReplayReport
from vfio_verify.corpus.entry import Entry, Origin
from vfio_verify.generate.strategies import cases
from vfio_verify.prove.certificate import Certificate
from vfio_verify.report.comparison import ComparisonReport
from vfio_verify.report.report import Report, make_report
from vfio_verify.subject.subject import CORE
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment

CASE = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)


TYPES = {
    "case": Case, "certificate": Certificate, "comparison": ComparisonReport, "corpus": Entry,
    "replay": ReplayReport, "report": Report,
}  # fmt: skip


def published(name: str) -> bytes:
    return files("vfio_verify.specs").joinpath("schemas", f"{name}.json").read_bytes()


def generated(name: str) -> bytes:
    """A schema as the code has it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"vfio-verify/{name}@1",
        **_described(msgspec.json.schema(TYPES[name])),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"


def _described(value: Any) -> Any:
    """The same with each docstring unindented, as Python 3.13 has it."""
    if isinstance(value, list):
        return [_described(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: inspect.cleandoc(part) if key == "description" and isinstance(part, str) else _described(part)
        for key, part in value.items()
    }


def accepts(name: str, written: bytes | dict[str, object]) -> bool:
    value = json.loads(written) if isinstance(written, bytes) else written
    return jsonschema.Draft202012Validator(json.loads(published(name))).is_valid(value)


@pytest.mark.parametrize("name", TYPES)
def test_what_is_published_is_what_the_code_has(name):
    """After a change write what `generated()` gives to specs/schemas/."""
    assert published(name) == generated(name)


@pytest.mark.parametrize("name", TYPES)
def test_each_is_a_schema_and_names_what_it_is_of(name):
    schema = json.loads(published(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == f"vfio-verify/{name}@1"
    assert f'"vfio-verify/{name}@1"' in published(name).decode().partition('"title"')[2].partition("\n")[2]


@given(cases() | sequences(), st.sampled_from([None, Origin("x.c", "CONTENTS", "c", "2026-11-22", "0.1.0", 3)]))
def test_what_is_written_is_accepted(case, origin):
    assert accepts("case", case.to_json())
    assert accepts("corpus", Entry(case, origin, "n").to_json())


def test_a_report_is_accepted():
    report = make_report(CORE, Options(), check(CORE, Options(examples=12)))
    assert accepts("report", report.to_json())


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "vfio-verify/case@2"},
        {"iovec": [{"block": 0, "offset": -1, "length": 1}]},
        {"iovec": [{"block": 0, "offset": 0}]},
        {"more": 1},
        {"fault_plan": [{"step": "nmap", "nth": 1}]},
        {"total_size": "0x1000"},
    ],
)
def test_what_is_no_case_is_not_accepted(change):
    written = json.loads(CASE.to_json())
    assert accepts("case", written)
    assert not accepts("case", written | change)
    assert not accepts("corpus", {"schema": "vfio-verify/corpus@1", "case": written | change})
