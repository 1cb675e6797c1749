"""``sciml demo``: the options; `_demo_job` does the work."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Demo:
    """Train a neural operator on the shipped sample, compare it, draw it (two minutes)."""

    quick: bool = False
    """A short form that shows that everything works; its accuracy means nothing."""
    run_dir: Path = Path("runs/demo")
    """Folder for the results; an earlier demo in it is replaced."""
    seed: int = 20263
    """Seed of the weights and of the order of the batches. Equal seeds give equal models."""

    def run(self) -> None:
        """Run the demo."""
        from ._demo_job import run_demo

        run_demo(self)
