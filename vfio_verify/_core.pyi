from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from typing_extensions import Buffer, CapsuleType, disjoint_base

CAUSES: Final[dict[str, int]]

# The C functions core_map, core_release, core_detach and core_message.
__pyx_capi__: Final[dict[str, CapsuleType]]

# A Buffer here, since before Python 3.12 the runtime shows no __buffer__.
@disjoint_base
class Placeholder(Buffer):
    def _map(
        self,
        iovec: Iterable[tuple[int, int]],
        total_size: int,
        blocks: Iterable[tuple[int, int, int, int]],
    ) -> None: ...
    def _error(self, cause: int, segment: int | None, error: int, message: str) -> Exception: ...
    @property
    def closed(self) -> bool: ...
    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    def close(self) -> None: ...
    def detach(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: type[BaseException] | BaseException | TracebackType | None) -> None: ...
