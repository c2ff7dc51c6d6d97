"""What a check is asked to do."""

from __future__ import annotations

from msgspec import Struct

from vfio_verify.values.case import Policy
from vfio_verify.worker.sandbox import SandboxFeature


class Options(Struct, frozen=True):
    """What a check is asked to do. `examples` counts layouts; each is run under all its fault positions too."""

    examples: int = 1000
    seed: int = 0
    policy: Policy = "same-block"
    jobs: int = 1
    parse_maps: bool = False
    sandbox: bool = True
    lacking: SandboxFeature = SandboxFeature.NONE
    """Features of the sandbox to go without, as on a kernel that lacks them."""
    observe: str | None = None
    """The directory for Hypothesis's observations of each layout."""

    @property
    def parts(self) -> SandboxFeature:
        """The features of the sandbox to use."""
        return SandboxFeature.ALL & ~self.lacking if self.sandbox else SandboxFeature.NONE
