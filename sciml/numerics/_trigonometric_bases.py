"""Cosine, sine and real Fourier bases on a box."""

import abc
import math
from collections.abc import Sequence
from functools import lru_cache

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._full_precision import full_precision
from ._matmul_along import matmul_along
from ._plane_waves import from_plane_waves, n_waves, to_plane_waves
from ._spectral_basis import AbstractSeparableBasis, GridPoints, check_mixing, checked_modes


class AbstractCellBasis(AbstractSeparableBasis):
    """A basis whose functions are known at the centres of cells."""

    @abc.abstractmethod
    def on_cells(self, m: int, n: int) -> Float[np.ndarray, "modes points"]:
        """Return the first ``m`` functions at the centres of ``n`` cells, in float64."""

    @abc.abstractmethod
    def conjugates_on_cells(self, m: int, n: int) -> Float[np.ndarray, "modes points"]:
        """Return the conjugate of each function there: sines for cosines."""

    def functions(self, axis: int, n_points: int) -> Float[np.ndarray, "modes points"]:
        """Return the basis functions of an axis on its points, one a row, in float64."""
        return self._at_points(self.on_cells(self.n_modes[axis], n_points))

    def _at_points(self, on_cells: np.ndarray) -> np.ndarray:
        if self.points is GridPoints.CELLS:
            return on_cells
        return on_cells @ _nodes_to_cells(on_cells.shape[1])

    @property
    def mixing_shape(self) -> tuple[int, int]:
        """For each mode the function itself or its conjugate, along every axis."""
        return math.prod(self.n_modes), 2 ** len(self.n_modes)

    @full_precision
    def decode_mixed(
        self,
        weight: Float[Array, "positions parts out_channels in_channels"],
        z: Float[Array, "in_channels *modes"],
        grid: Sequence[int],
    ) -> Float[Array, "out_channels *space"]:
        """Mix the channels of each mode into itself and its conjugates, and decode."""
        check_mixing(weight, z, self)
        d, flat = len(self.n_modes), z.reshape(len(z), -1)
        rows = weight.reshape(len(weight), -1, len(z))
        h = lax.dot_general(flat, rows, (((0,), (2,)), ((1,), (0,))))
        h = h.T.reshape(*(2,) * d, -1, *self.n_modes)
        # Functions and conjugates of an axis are one list of twice as many functions.
        order = (d, *(i for axis in range(d) for i in (axis, d + 1 + axis)))
        h = jnp.transpose(h, order).reshape(-1, *(2 * m for m in self.n_modes))
        for axis in range(d - 1, -1, -1):
            m, n = self.n_modes[axis], grid[axis]
            both = np.concatenate([self.on_cells(m, n), self.conjugates_on_cells(m, n)])
            h = matmul_along(jnp.asarray(self._at_points(both).T, h.dtype), h, axis + 1)
        return h

    def coordinate_lines(self, axis: int) -> Float[np.ndarray, "lines modes"]:
        """Return the coefficients along one axis of the constant one and of its coordinate."""
        n = 8 * self.n_modes[axis]
        lines = np.stack([np.ones(n), (np.arange(n) + 0.5) / n])
        return lines @ self.on_cells(self.n_modes[axis], n).T / n


class CosineBasis(AbstractCellBasis):
    r"""Cosines :math:`1, \sqrt2 \cos \pi k x`: no boundary values and no period are assumed.

    On cell centres this is the discrete cosine transform of type II, and decoding that of type III,
    divided (multiplied) by the root of the number of points against the usual "ortho" scaling. The
    fields are continued evenly, so a field that is smooth up to the boundary keeps an error that
    falls with :math:`m^{-3/2}` at worst. A smooth periodic field is served better by a
    `FourierBasis`.

    Parameters
    ----------
    n_modes
        Cosines an axis.
    points
        Where the points lie. On `GridPoints.PERIODIC` the field is read, and written, through its
        trigonometric interpolant at the cell centres: otherwise the basis would move by half a cell
        with every change of grid.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> basis = CosineBasis((4,))
    >>> x = (jnp.arange(10) + 0.5) / 10
    >>> z = basis.encode(3 + jnp.cos(jnp.pi * x)[None])
    >>> [round(float(c), 3) for c in jnp.abs(z[0])]
    [3.0, 0.707, 0.0, 0.0]
    >>> basis.decode(z, (25,)).shape
    (1, 25)
    """

    n_modes: tuple[int, ...] = eqx.field(static=True)
    points: GridPoints = eqx.field(static=True)

    def __init__(self, n_modes: Sequence[int], *, points: GridPoints = GridPoints.CELLS):
        self.n_modes = checked_modes(n_modes)
        self.points = points

    def on_cells(self, m: int, n: int) -> Float[np.ndarray, "modes points"]:
        """Return the first ``m`` functions at the centres of ``n`` cells, in float64."""
        return _cosines(m, n)

    def conjugates_on_cells(self, m: int, n: int) -> Float[np.ndarray, "modes points"]:
        """Return zero for the constant, and the sine of each cosine."""
        return np.concatenate([np.zeros((1, n)), _sines(m - 1, n)])

    def with_modes(self, n_modes: Sequence[int]) -> "CosineBasis":
        """Return the basis with other numbers of modes."""
        return CosineBasis(n_modes, points=self.points)


class SineBasis(AbstractCellBasis):
    r"""Sines :math:`\sqrt2 \sin \pi k x`, :math:`k \geq 1`: for fields that vanish on the walls.

    On cell centres this is the discrete sine transform of type II.

    Parameters
    ----------
    n_modes
        Sines an axis.
    points
        As in `CosineBasis`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = (jnp.arange(10) + 0.5) / 10
    >>> z = SineBasis((3,)).encode(jnp.sin(2 * jnp.pi * x)[None])
    >>> [round(float(c), 3) for c in jnp.abs(z[0])]
    [0.0, 0.707, 0.0]
    """

    n_modes: tuple[int, ...] = eqx.field(static=True)
    points: GridPoints = eqx.field(static=True)

    def __init__(self, n_modes: Sequence[int], *, points: GridPoints = GridPoints.CELLS):
        self.n_modes = checked_modes(n_modes)
        self.points = points

    def on_cells(self, m: int, n: int) -> Float[np.ndarray, "modes points"]:
        """Return the first ``m`` functions at the centres of ``n`` cells, in float64."""
        return _sines(m, n)

    def conjugates_on_cells(self, m: int, n: int) -> Float[np.ndarray, "modes points"]:
        """Return the cosine of each sine."""
        return _cosines(m + 1, n)[1:]

    def with_modes(self, n_modes: Sequence[int]) -> "SineBasis":
        """Return the basis with other numbers of modes."""
        return SineBasis(n_modes, points=self.points)


class FourierBasis(AbstractSeparableBasis):
    r"""Real Fourier series: 1, then :math:`\sqrt2 \cos 2\pi k x`, :math:`\sqrt2 \sin 2\pi k x`.

    The right basis of smooth periodic fields. Coefficients are real and stand in the order of their
    frequency, so a smaller basis is a corner of a larger one, and the plain sum of their squares is
    the energy.

    Parameters
    ----------
    n_modes
        Functions an axis: ``2 k + 1`` hold the frequencies up to ``k``. An even number ends with a
        cosine whose sine is not kept.
    points
        Where the points lie.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.arange(16) / 16
    >>> z = FourierBasis((5,)).encode(3 + jnp.sin(2 * jnp.pi * x)[None])
    >>> [round(float(c), 3) for c in jnp.abs(z[0])]
    [3.0, 0.0, 0.707, 0.0, 0.0]
    """

    n_modes: tuple[int, ...] = eqx.field(static=True)
    points: GridPoints = eqx.field(static=True)

    def __init__(self, n_modes: Sequence[int], *, points: GridPoints = GridPoints.PERIODIC):
        self.n_modes = checked_modes(n_modes)
        self.points = points

    def functions(self, axis: int, n_points: int) -> Float[np.ndarray, "modes points"]:
        """Return the basis functions of an axis on its points, one a row, in float64."""
        return _fourier(self.n_modes[axis], n_points, self.points is GridPoints.CELLS)

    @property
    def mixing_shape(self) -> tuple[int, int]:
        """For each plane wave the real and the imaginary part of a complex weight."""
        return n_waves(self.n_modes), 2

    @full_precision
    def decode_mixed(
        self,
        weight: Float[Array, "positions parts out_channels in_channels"],
        z: Float[Array, "in_channels *modes"],
        grid: Sequence[int],
    ) -> Float[Array, "out_channels *space"]:
        """Mix the channels of each plane wave by complex weights, and decode.

        It commutes with shifts, but for the highest wave of an even number of modes.
        """
        check_mixing(weight, z, self)
        real, imaginary = weight[:, 0], weight[:, 1]
        # A complex product as one real product of twice the size.
        rows = [jnp.concatenate(row, -1) for row in ((real, -imaginary), (imaginary, real))]
        waves = to_plane_waves(z).reshape(2 * len(z), -1)
        h = lax.dot_general(waves, jnp.concatenate(rows, -2), (((0,), (2,)), ((1,), (0,))))
        h = from_plane_waves(h.T.reshape(2, -1, len(weight)), self.n_modes)
        return self.decode(h, grid)

    def coordinate_lines(self, axis: int) -> Float[np.ndarray, "lines modes"]:
        """Return the coefficients along one axis of one, of cosine and of sine of the position."""
        return np.eye(3, self.n_modes[axis]) / np.sqrt([[1.0], [2.0], [2.0]])

    def with_modes(self, n_modes: Sequence[int]) -> "FourierBasis":
        """Return the basis with other numbers of modes."""
        return FourierBasis(n_modes, points=self.points)


def _cosines(m: int, n: int) -> np.ndarray:
    # The angle is reduced before it is rounded: its cosine stays exact on large grids.
    angle = np.pi * (np.outer(np.arange(m), 2 * np.arange(n) + 1) % (4 * n)) / (2 * n)
    functions = math.sqrt(2) * np.cos(angle)
    functions[0] = 1.0
    return functions


def _sines(m: int, n: int) -> np.ndarray:
    angle = np.pi * (np.outer(np.arange(1, m + 1), 2 * np.arange(n) + 1) % (4 * n)) / (2 * n)
    functions = math.sqrt(2) * np.sin(angle)
    if m == n:
        functions[-1] /= math.sqrt(2)
    return functions


@lru_cache(maxsize=64)
def _fourier(m: int, n: int, cells: bool) -> np.ndarray:
    frequency = (np.arange(m) + 1) // 2
    position = 2 * np.arange(n) + int(cells)
    angle = np.pi * (np.outer(frequency, position) % (2 * n)) / n
    is_cosine = (np.arange(m) % 2 == 1)[:, None]
    functions = math.sqrt(2) * np.where(is_cosine, np.cos(angle), np.sin(angle))
    functions[0] = 1.0
    if m == n and n % 2 == 0:
        functions[-1] = (-1.0) ** np.arange(n)  # the grid's highest frequency, at its own scale
    functions.flags.writeable = False
    return functions


@lru_cache(maxsize=16)
def _nodes_to_cells(n: int) -> np.ndarray:
    """Return the trigonometric interpolation from ``j / n`` to ``(i + 1/2) / n``.

    On an even number of points the highest wave would vanish between the points; it is kept as it
    is, which makes the matrix orthogonal. A field that the grid resolves has none of it.
    """
    nodes, cells = _fourier(n, n, False), _fourier(n, n, True)
    return cells.T @ nodes / n
