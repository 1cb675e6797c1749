"""``sciml info``: the options; `_info_job` does the work."""

import dataclasses
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Info:
    """Show versions and devices, or what a run folder, a saved model or a data file holds."""

    path: tyro.conf.Positional[Path | None] = None
    """A run folder, a saved model, or a data file. Without it: versions and devices."""

    def run(self) -> None:
        """Print the description."""
        from ._info_job import describe_installation, describe_path

        print(describe_installation() if self.path is None else describe_path(self.path))
