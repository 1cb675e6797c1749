r"""Spectral bases behind one interface: encode a field into few real coefficients, and decode them.

The basis functions :math:`\phi_k` are orthonormal in the mean over the domain, on the grid as in
the continuum: :math:`\frac1N \sum_j \phi_k(x_j) \phi_l(x_j) = \delta_{kl}`. So

.. math::
   z_k = \frac1N \sum_j \phi_k(x_j) u_j, \qquad
   \frac1N \sum_j u_j^2 = \sum_k z_k^2 + \text{tail},

whatever the number of points: coefficients of one function agree on all grids that resolve it. (The
"ortho" scaling of transform libraries differs by the root of ``N``, and with it a model that was
trained on one grid sees other numbers on another.) Few modes of many points are cheapest as a
product with a small dense matrix, an axis at a time, on any number of points and in any precision.
"""

import abc
import enum
from collections.abc import Iterable, Sequence
from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ..core import check_count, check_floating, check_positive, check_shape
from ._energy_modes import fewest_modes
from ._matmul_along import matmul_along

Basis = TypeVar("Basis", bound="AbstractSeparableBasis")


class GridPoints(enum.Enum):
    """Where the points of an axis of length one lie."""

    CELLS = "centres of n cells: (j + 1/2) / n"
    """Points of the discrete cosine transform of type II."""

    PERIODIC = "j / n, for periodic fields"
    """Points of a `sciml.data.FieldDataset`: the end point is left out."""


class AbstractSpectralBasis(eqx.Module):
    """A set of orthonormal fields; a field is kept as its coefficients.

    Arrays have no batch axis; use `jax.vmap`.
    """

    n_modes: eqx.AbstractVar[tuple[int, ...]]

    @property
    @abc.abstractmethod
    def product_grid(self) -> tuple[int, ...]:
        """Points on which the product of two fields reaches the kept modes without aliasing.

        Two exceptions: of an even number of Fourier modes the last one meets its own square, and
        products of sines are cosines, which no grid of sines holds.
        """

    @abc.abstractmethod
    def encode(self, u: Float[Array, "channels *space"]) -> Float[Array, "channels *modes"]:
        """Return the coefficients of ``u``."""

    @abc.abstractmethod
    def decode(
        self, z: Float[Array, "channels *modes"], grid: Sequence[int]
    ) -> Float[Array, "channels *space"]:
        """Return the field with the coefficients ``z`` on a grid of ``grid`` points an axis."""

    @property
    @abc.abstractmethod
    def mixing_shape(self) -> tuple[int, int]:
        """Leading axes of the weight of `decode_mixed`: a matrix of channels for each."""

    @abc.abstractmethod
    def decode_mixed(
        self,
        weight: Float[Array, "positions parts out_channels in_channels"],
        z: Float[Array, "in_channels *modes"],
        grid: Sequence[int],
    ) -> Float[Array, "out_channels *space"]:
        """Mix the channels of each mode, in phase and out of phase, and decode.

        With one matrix a mode no layer could take a derivative: that of a cosine is a sine. So the
        conjugate functions (sines for cosines) get weights of their own, where a basis has them.
        Random weights of variance ``1 / (parts * in_channels)`` keep the variance.
        """

    @abc.abstractmethod
    def position_fields(self) -> Float[np.ndarray, "fields *modes"]:
        """Return the coefficients of the constant one, then of the coordinates, in float64."""

    def tail_energy(self, u: Float[Array, "channels *space"]) -> Float[Array, ""]:
        """Return the energy that the basis does not hold: mean square over space, all channels.

        It is computed from the difference, since the difference of two nearly equal energies would
        be rounding.
        """
        rest = u - self.decode(self.encode(u), u.shape[1:])
        return jnp.sum(jnp.mean(jnp.square(rest), axis=tuple(range(1, u.ndim))))

    def truncation_error(self, u: Float[Array, "channels *space"]) -> Float[Array, ""]:
        """Return the relative L2 error of the best approximation in the basis: the error floor."""
        total = jnp.sum(jnp.mean(jnp.square(u), axis=tuple(range(1, u.ndim))))
        known = total > 0
        return jnp.where(known, jnp.sqrt(self.tail_energy(u) / jnp.where(known, total, 1.0)), 0.0)


class AbstractSeparableBasis(AbstractSpectralBasis):
    """Products of functions of one coordinate each, ``n_modes[i]`` of them along axis ``i``."""

    points: eqx.AbstractVar[GridPoints]

    @abc.abstractmethod
    def functions(self, axis: int, n_points: int) -> Float[np.ndarray, "modes points"]:
        """Return the basis functions of an axis on its points, one a row, in float64."""

    @abc.abstractmethod
    def with_modes(self: Basis, n_modes: Sequence[int]) -> Basis:
        """Return the basis with other numbers of modes."""

    @property
    def product_grid(self) -> tuple[int, ...]:
        """Points on which the product of two fields reaches the kept modes without aliasing."""
        return tuple(-(-3 * m // 2) for m in self.n_modes)

    def encode(self, u: Shaped[Array, "channels *space"]) -> Float[Array, "channels *modes"]:
        """Return the coefficients of ``u``.

        Raises
        ------
        ValueError
            If the number of axes differs or an axis has fewer points than modes.
        TypeError
            If ``u`` is not real floating-point.
        """
        check_floating("u", u)
        axes = tuple(f"space_{axis}" for axis in range(len(self.n_modes)))
        check_shape("u", u, ("channels", *axes))
        for axis, n in enumerate(u.shape[1:]):
            matrix = self._matrix(axis, n) / n
            u = matmul_along(jnp.asarray(matrix, u.dtype), u, axis + 1)
        return u

    def decode(
        self, z: Float[Array, "channels *modes"], grid: Sequence[int]
    ) -> Float[Array, "channels *space"]:
        """Return the field with the coefficients ``z``.

        Parameters
        ----------
        z
            Coefficients ``(channels, *n_modes)``.
        grid
            Points of each axis, at least as many as modes.

        Raises
        ------
        ValueError
            If shapes do not fit or an axis has fewer points than modes.
        """
        check_floating("z", z)
        check_shape("z", z, ("channels", *self.n_modes))
        if len(grid) != len(self.n_modes):
            raise ValueError(
                f"`grid` must have the points of each of the {len(self.n_modes)} axes, "
                f"got {tuple(grid)}."
            )
        for axis in range(len(grid) - 1, -1, -1):
            matrix = self._matrix(axis, grid[axis]).T
            z = matmul_along(jnp.asarray(matrix, z.dtype), z, axis + 1)
        return z

    @abc.abstractmethod
    def coordinate_lines(self, axis: int) -> Float[np.ndarray, "lines modes"]:
        """Return the coefficients along one axis of the constant one and of its coordinates."""

    def position_fields(self) -> Float[np.ndarray, "fields *modes"]:
        """Return the coefficients of the constant one, then of the coordinates, in float64."""
        lines = [self.coordinate_lines(axis) for axis in range(len(self.n_modes))]
        constants = [line[0] for line in lines]
        fields = [_outer(constants)]
        for axis, line in enumerate(lines):
            for coordinate in line[1:]:
                fields.append(_outer([*constants[:axis], coordinate, *constants[axis + 1 :]]))
        return np.stack(fields)

    @classmethod
    def from_energy(
        cls: type[Basis],
        us: Shaped[Array | np.ndarray, "batch channels *space"],
        tol: float,
        *,
        points: GridPoints | None = None,
    ) -> Basis:
        """Return the smallest basis that leaves at most ``tol`` of the data, as a relative norm.

        Parameters
        ----------
        us
            Fields, the training set for instance.
        tol
            Bound on the root of the share of energy left out, over all fields of each channel. A
            model in this basis cannot have a smaller error than the fields leave out.
        points
            Where the points lie; None for the default of the class.

        Returns
        -------
        AbstractSeparableBasis
            With as few coefficients as possible; the axes may get different numbers.

        Raises
        ------
        ValueError
            If ``us`` is empty, zero everywhere in a channel, not finite, or ``tol`` is not
            between 0 and 1.
        """
        us = checked_fields(us, tol)
        kwargs = {} if points is None else {"points": points}
        full = cls(us.shape[2:], **kwargs)  # pyright: ignore[reportCallIssue]
        energy = np.zeros(us.shape[1:])
        for u in us:
            z = u.astype(np.float64)
            for axis, n in enumerate(us.shape[2:]):
                z = np.moveaxis(
                    np.tensordot(full.functions(axis, n) / n, z, (1, axis + 1)), 0, axis + 1
                )
            energy += z**2
        return full.with_modes(fewest_modes(energy, tol))

    def _matrix(self, axis: int, n_points: int) -> np.ndarray:
        m = self.n_modes[axis]
        if n_points < m:
            raise ValueError(
                f"axis {axis} has {n_points} points and cannot hold n_modes[{axis}]={m} modes: use "
                "a finer grid or a basis with fewer modes."
            )
        return self.functions(axis, n_points)


def check_mixing(weight: Array, z: Array, basis: AbstractSpectralBasis) -> None:
    """Raise ``ValueError`` unless weight and coefficients fit each other and the basis."""
    check_shape("z", z, ("in_channels", *basis.n_modes))
    check_shape("weight", weight, (*basis.mixing_shape, "out_channels", len(z)))


def checked_modes(n_modes: Sequence[int]) -> tuple[int, ...]:
    """Return the modes as a tuple of positive integers, at least one."""
    if not isinstance(n_modes, Iterable):
        raise TypeError(
            "`n_modes` must hold the modes of each axis, for instance (12, 12); got "
            f"{type(n_modes).__name__}."
        )
    result = tuple(check_count(f"n_modes[{axis}]", m) for axis, m in enumerate(n_modes))
    if not result:
        raise ValueError("`n_modes` needs the modes of each axis, got none.")
    return result


def checked_fields(us: Shaped[Array | np.ndarray, "..."], tol: float) -> np.ndarray:
    """Return fields ``(batch, channels, *space)`` on the host; raise unless they can be ranked."""
    check_floating("us", us)
    us = np.asarray(us)
    check_positive("tol", tol)
    if tol >= 1:
        raise ValueError(f"`tol` is a share of the norm and must be below 1, got {tol!r}.")
    if us.ndim < 3 or us.size == 0:
        raise ValueError(f"`us` must hold fields (batch, channels, *space), got shape {us.shape}.")
    for i, u in enumerate(us):
        if not np.isfinite(u).all():
            raise ValueError(f"`us` must be finite, but field {i} is not.")
    for channel in range(us.shape[1]):
        if not us[:, channel].any():
            raise ValueError(f"channel {channel} of `us` is zero everywhere.")
    return us


def _outer(vectors: Sequence[np.ndarray]) -> np.ndarray:
    result = np.ones(())
    for vector in vectors:
        result = np.multiply.outer(result, vector)
    return result
