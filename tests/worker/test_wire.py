"""A record's fields are those of the observation under the same names."""

from __future__ import annotations

from vfio_verify.values.observation import STEPS, Observation
from vfio_verify.worker import native, wire

TRUTHS = {"mapped", "error_given", "error_left", "second_called", "second_mapped", "second_like_first"}
SIZES = {"n_events", "n_vmas", "n_strays", "n_differences", "message_bytes"}


def test_each_field_of_a_record_reaches_the_observation_under_its_name() -> None:
    numbers: dict[str, int | bytes] = {name: i for i, name in enumerate(native.Record._fields, 1000)}
    numbers |= dict.fromkeys((*TRUTHS, "first_whole_after"), 1) | dict.fromkeys(SIZES, 0)
    numbers |= {"bytes": native.RECORD.size, "left": 5, "counts": native.COUNTS.pack(*range(len(STEPS)))}
    data = memoryview(native.RECORD.pack(*numbers.values()))
    seen, size = wire.unpack_record(data, wire.Head((), ()), 7)
    assert size == native.RECORD.size
    shared = set(native.Record._fields) & set(Observation.__struct_fields__) - {"error_at", "counts"}
    assert len(shared) > 25
    assert {name: getattr(seen, name) for name in shared} == {name: numbers[name] for name in shared}
    assert seen.counts == tuple(range(len(STEPS)))
    assert seen.error_at == (numbers["error_at"], numbers["error_again_at"])
    assert seen.harness_changes == 7
