"""A basis of given or learned fields: principal components of data, for instance."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ..core import check_floating, check_shape
from ._frozen_array import FrozenArray
from ._full_precision import full_precision
from ._spectral_basis import AbstractSpectralBasis, check_mixing, checked_fields


class MatrixBasis(AbstractSpectralBasis):
    """Fields of your own as a basis, on one grid: a field of any dimension gets one list of modes.

    `MatrixBasis.from_energy` takes the principal components of data (proper orthogonal
    decomposition), which need the fewest coefficients for fields like those data. Unlike the other
    bases it knows no grid but its own.

    Parameters
    ----------
    matrix
        Basis fields ``(modes, *space)`` with ``mean(matrix[k] * matrix[l]) = 1 if k == l else 0``
        over space. They are kept as constants and not trained.

    Raises
    ------
    ValueError
        If the fields are not orthonormal, or not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(7)
    >>> fields = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 16))
    >>> basis = MatrixBasis.from_energy(fields[:, None], 1e-3)
    >>> basis.n_modes, basis.n_points
    ((2,), (16,))
    >>> z = basis.encode(jnp.asarray(fields[:1]))
    >>> bool(jnp.allclose(basis.decode(z, (16,)), fields[:1], atol=1e-5))
    True
    """

    frozen: FrozenArray = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, matrix: Shaped[Array | np.ndarray, "modes *space"]):
        check_floating("matrix", matrix)
        fields = np.asarray(matrix)
        if fields.ndim < 2 or not fields.size:
            raise ValueError(
                f"`matrix` must hold basis fields (modes, *space), got shape {fields.shape}."
            )
        flat = fields.reshape(len(fields), -1).astype(np.float64)
        defect = np.max(np.abs(flat @ flat.T / flat.shape[1] - np.eye(len(flat))))
        if not defect <= 1e-4:
            raise ValueError(
                "`matrix` must be orthonormal in the mean over space; its products differ from 0 "
                f"and 1 by up to {defect:.1e}."
            )
        self.frozen = FrozenArray(fields)
        self.n_modes = (len(fields),)

    @property
    def matrix(self) -> Float[np.ndarray, "modes *space"]:
        """The basis fields, read-only."""
        return self.frozen.values

    @property
    def n_points(self) -> tuple[int, ...]:
        """The only grid of the basis."""
        return self.matrix.shape[1:]

    @property
    def mixing_shape(self) -> tuple[int, int]:
        """One matrix a mode: given fields have no conjugates."""
        return self.n_modes[0], 1

    @full_precision
    def decode_mixed(
        self,
        weight: Float[Array, "positions parts out_channels in_channels"],
        z: Float[Array, "in_channels modes"],
        grid: Sequence[int],
    ) -> Float[Array, "out_channels *space"]:
        """Mix the channels of each mode and decode."""
        check_mixing(weight, z, self)
        return self.decode(jnp.einsum("moi,im->om", weight[:, 0], z), grid)

    @property
    def product_grid(self) -> tuple[int, ...]:
        """The grid of the basis: it knows no other."""
        return self.n_points

    @classmethod
    def from_energy(
        cls, us: Shaped[Array | np.ndarray, "batch channels *space"], tol: float
    ) -> "MatrixBasis":
        """Return the principal components that leave at most ``tol`` of the data.

        Parameters
        ----------
        us
            Fields, the training set for instance. All channels share the basis, each scaled to the
            same energy.
        tol
            Bound on the root of the share of energy left out. On other fields than these the error
            is larger: `truncation_error` tells.

        Raises
        ------
        ValueError
            As in the other bases.
        """
        us = checked_fields(us, tol)
        shape, n = us.shape[2:], int(np.prod(us.shape[2:]))
        rows = np.moveaxis(us, 1, 0).reshape(us.shape[1], -1, n).astype(np.float64)
        scale = np.sqrt(np.mean(rows**2, axis=(1, 2), keepdims=True))
        rows = (rows / scale).reshape(-1, n)
        # The smaller of the two Gram matrices has the same positive eigenvalues.
        if len(rows) < n:
            values, vectors = np.linalg.eigh(rows @ rows.T)
            vectors = rows.T @ vectors
        else:
            values, vectors = np.linalg.eigh(rows.T @ rows)
        lost = np.cumsum(values) / np.sum(values)  # if the first i + 1 are left out
        first = int(np.searchsorted(lost, tol**2, side="right"))
        kept, _ = np.linalg.qr(vectors[:, first:][:, ::-1])
        return cls((kept.T * np.sqrt(n)).reshape(-1, *shape))

    @full_precision
    def encode(self, u: Float[Array, "channels *space"]) -> Float[Array, "channels modes"]:
        """Return the coefficients of ``u``.

        Raises
        ------
        ValueError
            If ``u`` is on another grid.
        """
        check_floating("u", u)
        check_shape("u", u, ("channels", *self.n_points))
        return u.reshape(len(u), -1) @ self._flat(u).T / np.prod(self.n_points).item()

    @full_precision
    def decode(
        self, z: Float[Array, "channels modes"], grid: Sequence[int]
    ) -> Float[Array, "channels *space"]:
        """Return the field with the coefficients ``z``; ``grid`` must be that of the basis.

        Raises
        ------
        ValueError
            If a shape does not fit, or ``grid`` is another one.
        """
        check_floating("z", z)
        check_shape("z", z, ("channels", *self.n_modes))
        if tuple(grid) != self.n_points:
            raise ValueError(
                f"this basis is known on the grid {self.n_points} only, not on {tuple(grid)}: take "
                "a CosineBasis or FourierBasis to change grids."
            )
        return (z @ self._flat(z)).reshape(len(z), *self.n_points)

    @full_precision
    def position_fields(self) -> Float[np.ndarray, "fields *modes"]:
        """Return the coefficients of the constant one, then of the coordinates, in float64."""
        lines = [(np.arange(n) + 0.5) / n for n in self.n_points]
        fields = np.stack([np.ones(self.n_points), *np.meshgrid(*lines, indexing="ij")])
        flat = self.matrix.reshape(len(self.matrix), -1).astype(np.float64)
        return fields.reshape(len(fields), -1) @ flat.T / flat.shape[1]

    def _flat(self, like: Array) -> Array:
        return jnp.asarray(self.matrix.reshape(len(self.matrix), -1), like.dtype)
