"""The sample sets that come with sciml: where they are, and how they are loaded."""

import importlib.resources
from pathlib import Path

from ._dataset import DatasetSplits
from ._spectral_file import read_spectral

SHIPPED = {"navier-stokes": "navier_stokes.npz"}
_N_POINTS = 64


def load_shipped(name: str, n_points: int | None) -> DatasetSplits:
    """Load a shipped sample and evaluate it on a grid of ``n_points`` along each axis."""
    return read_spectral(_find(SHIPPED[name]), _N_POINTS if n_points is None else n_points)


def _find(file_name: str) -> Path:
    # A wheel carries the files inside the package, a checkout in data/ beside it.
    inside = Path(str(importlib.resources.files("sciml.data"))) / "_shipped" / file_name
    beside = Path(__file__).resolve().parents[2] / "data" / file_name
    for candidate in (inside, beside):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"the shipped sample {file_name} is neither at {inside} nor at {beside}: the installation "
        "is incomplete; reinstall sciml."
    )
