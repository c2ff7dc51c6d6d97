"""A case from its text, as the commands read one from a file."""

from __future__ import annotations

from vfio_verify.corpus.entry import read_entry
from vfio_verify.values.case import Case


def from_json(text: bytes | str) -> Case:
    """Read a case that stands alone. InputError says what is wrong with it."""
    return read_entry(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"), "a file").case
