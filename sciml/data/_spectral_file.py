r"""Smooth periodic fields as short Fourier series, in an npz file.

A smooth field on 64 x 64 points is a sum of few waves, so their coefficients need less room than
the points, and give the field on every other grid as well. Kept are the :math:`c_{km}` with
:math:`k^2 + m^2 \le K^2` of half the plane (:math:`m > 0`, or :math:`m = 0` and :math:`k \ge 0`;
the others follow from reality), as pairs of float32, so that

.. math:: u(x, y) = \sum_{(k, m)} w_{km} \, \mathrm{Re}\,
          c_{km} \, e^{2 \pi i (k x / L_x + m y / L_y)},
          \qquad w_{00} = 1, \quad w_{km} = 2 \text{ otherwise}.

The arrays are ``modes`` (mode, 2) with the integers k and m, and for each part ``<part>/values``
(sample, time, channel, mode, 2) and ``<part>/context`` (1, channel, mode, 2).
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..core import PathLike, atomic_path, check_count
from ._dataset import DatasetSplits, FieldDataset
from ._file_errors import file_error
from ._npz import open_npz
from ._options import build_dataset
from ._own_format import VERSION, checksum, parse_header, seal_header, verify_checksum

_FORMAT = "sciml Fourier series"


def write_spectral(
    path: PathLike, splits: DatasetSplits, *, max_wavenumber: int, attributes: dict[str, Any]
) -> Path:
    """Store periodic splits on a square grid as the coefficients with ``|(k, m)| <= K``.

    Parameters
    ----------
    path
        An npz file, written whole or not at all.
    splits
        Periodic two-dimensional fields, with a shared context or none.
    max_wavenumber
        The ``K`` above, below half the number of points.
    attributes
        Facts added to those of the data, for instance the error of the truncation.
    """
    modes = half_plane_modes(max_wavenumber)
    arrays: dict[str, np.ndarray] = {"modes": modes}
    metadata = {}
    for name, part in splits.items():
        arrays[f"{name}/values"] = to_coefficients(part.values, modes)
        if part.context is not None:
            arrays[f"{name}/context"] = to_coefficients(part.context, modes)
        metadata[name] = {
            "channels": part.channels,
            "axes": part.axes,
            "domain_extent": part.domain_extent,
            "dt": part.dt,
            "start_time": part.start_time,
            "context_names": part.context_names,
            "attributes": part.attributes | attributes,
        }
    sums = {key: checksum(array) for key, array in arrays.items()}
    header = {"format": _FORMAT, "version": VERSION, "parts": metadata, "sha256": sums}
    path = Path(path)
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, header=np.array(seal_header(header)), **arrays)
    return path


def read_spectral(path: Path, n_points: int) -> DatasetSplits:
    """Read a file of `write_spectral` and evaluate its fields on a square grid."""
    n_points = check_count("n_points", n_points)
    parts: dict[str, FieldDataset] = {}
    with open_npz(path) as file:
        header = parse_header(path, str(file.read("header")), _FORMAT)

        def checked(key: str) -> np.ndarray:
            array = file.read(key)
            verify_checksum(path, key, array, header)
            return array

        modes = checked("modes")
        if modes.dtype.kind != "i" or modes.shape != (len(modes), 2) or modes.size == 0:
            raise file_error(
                path, f"expected integers (mode, 2), got {modes.dtype} {modes.shape}.", key="modes"
            )
        for name, metadata in header["parts"].items():
            if not isinstance(metadata, dict):
                raise file_error(path, f"part {name!r} is not described.", key="header")
            kinds = ("values", "context") if metadata.get("context_names") else ("values",)
            fields = {}
            for kind in kinds:
                key = f"{name}/{kind}"
                coefficients = checked(key)
                pairs = (coefficients.dtype.name, *coefficients.shape[-2:])
                if pairs != ("float32", len(modes), 2):
                    raise file_error(
                        path, f"expected a pair of float32 a mode, got {pairs}.", key=key
                    )
                fields[kind] = from_coefficients(coefficients, modes, n_points)
            parts[name] = build_dataset(path, **fields, **metadata)
    return DatasetSplits(**parts)


def half_plane_modes(max_wavenumber: int) -> Int[np.ndarray, "mode 2"]:
    """Return the pairs (k, m) of half the disc ``k^2 + m^2 <= K^2``."""
    radius = check_count("max_wavenumber", max_wavenumber)
    k, m = np.meshgrid(np.arange(-radius, radius + 1), np.arange(radius + 1), indexing="ij")
    kept = (k**2 + m**2 <= radius**2) & ((m > 0) | (k >= 0))
    return np.stack([k[kept], m[kept]], axis=-1).astype(np.int32)


def to_coefficients(
    fields: Float[np.ndarray, "*batch x y"], modes: Int[np.ndarray, "mode 2"]
) -> Float[np.ndarray, "*batch mode 2"]:
    """Return the coefficients of the modes as real pairs in float32."""
    if 2 * np.abs(modes).max() >= min(fields.shape[-2:]):
        raise ValueError(
            "`max_wavenumber` must lie below half the number of points, got "
            f"{np.abs(modes).max()} for {fields.shape[-2:]} points."
        )
    spectrum = np.fft.rfft2(fields.astype(np.float64), norm="forward")
    kept = spectrum[..., modes[:, 0], modes[:, 1]]
    return np.stack([kept.real, kept.imag], axis=-1).astype(np.float32)


def from_coefficients(
    coefficients: Float[np.ndarray, "*batch mode 2"],
    modes: Int[np.ndarray, "mode 2"],
    n_points: int,
) -> Float[np.ndarray, "*batch x y"]:
    """Evaluate the series at ``i L / n`` along both axes, in float32.

    Two small matrix products: exact at the points of every grid, a coarse one included, where
    an FFT would first have to fold the high wavenumbers.
    """
    k, m = modes[:, 0], modes[:, 1]
    radius = int(np.abs(modes).max())
    weights = np.where((k == 0) & (m == 0), 1, 2).astype(np.float32)
    shape = (*coefficients.shape[:-2], 2 * radius + 1, radius + 1)
    table = np.zeros(shape, np.complex64)
    pairs = np.ascontiguousarray(coefficients * weights[:, None])
    table[..., k + radius, m] = pairs.view(np.complex64)[..., 0]
    x = np.arange(n_points) / n_points
    # float64 angles, rounded once: the phase error then is that of float32 itself.
    rows = np.exp(2j * np.pi * np.outer(x, np.arange(-radius, radius + 1))).astype(np.complex64)
    angles = 2 * np.pi * np.outer(np.arange(radius + 1), x)
    # Rows alternate like the real and imaginary parts in the memory of a complex array.
    columns = np.stack([np.cos(angles), -np.sin(angles)], axis=1).reshape(-1, n_points)
    return (rows @ table).view(np.float32) @ columns.astype(np.float32)
