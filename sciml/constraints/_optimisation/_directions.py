r"""Newton directions of the Karush-Kuhn-Tucker system, exact and inexact.

:math:`K z = -(\nabla_x L, c)` with :math:`K = \begin{pmatrix} B & G^T \\ G & 0 \end{pmatrix}`.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...core import KeyArray, check_count, check_positive, cites
from .._bibliography import HONG_2023


class AbstractDirection(eqx.Module):
    """How the linear system of each Newton step is solved."""

    @abc.abstractmethod
    def solve(
        self,
        matrix: Float[Array, "n n"],
        right: Float[Array, " n"],
        rtol: Float[Array, ""],
        key: KeyArray,
    ) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        """Return a solution to ``rtol`` if it can, and what it took (products or sketches)."""


class DenseDirection(AbstractDirection):
    """LU factorisation: the right choice for up to some thousand unknowns.

    Examples
    --------
    >>> from sciml.constraints import DenseDirection
    >>> DenseDirection()
    DenseDirection()
    """

    def solve(
        self,
        matrix: Float[Array, "n n"],
        right: Float[Array, " n"],
        rtol: Float[Array, ""],
        key: KeyArray,
    ) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        """Return the solution; least squares where the matrix is singular."""
        del rtol, key
        direct = jnp.linalg.solve(matrix, right)
        sound = jnp.all(jnp.isfinite(direct))
        pinv = jnp.linalg.lstsq(matrix, right)[0]
        return jnp.where(sound, direct, pinv), jnp.asarray(1, jnp.int32)


@cites(HONG_2023)
class SketchedDirection(AbstractDirection):
    """Randomised sketch-and-project: products with a few random rows at a time.

    Each sketch ``S`` moves the iterate to the nearest point that solves ``S K z = S b``. It
    converges at a rate that falls with the squared condition number of ``K``: a research method,
    slower than `DenseDirection` at every size that was measured here.

    Parameters
    ----------
    size
        Rows of a sketch.
    coordinates
        True picks rows of the matrix (block Kaczmarz), False mixes all rows with Gaussian weights.
    max_sketches
        Sketches at most in one direction.

    References
    ----------
    .. [1] I. Hong et al., "Constrained Optimization via Exact Augmented Lagrangian and Randomized
       Iterative Sketching", ICML, 2023.

    Examples
    --------
    >>> from sciml.constraints import SketchedDirection
    >>> SketchedDirection(size=4).max_sketches
    2000
    """

    size: int = eqx.field(static=True)
    coordinates: bool = eqx.field(static=True)
    max_sketches: int = eqx.field(static=True)

    def __init__(self, *, size: int = 4, coordinates: bool = False, max_sketches: int = 2000):
        self.size = check_count("size", size)
        self.coordinates = bool(coordinates)
        self.max_sketches = check_count("max_sketches", max_sketches)

    def solve(
        self,
        matrix: Float[Array, "n n"],
        right: Float[Array, " n"],
        rtol: Float[Array, ""],
        key: KeyArray,
    ) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        """Sketch until the residual is small enough or the sketches are used up."""
        n = right.shape[0]
        size = min(self.size, n)
        target = rtol * jnp.linalg.norm(right)

        def goes_on(state):
            z, count = state
            return (jnp.linalg.norm(matrix @ z - right) > target) & (count < self.max_sketches)

        def sketch(state):
            z, count = state
            each = jax.random.fold_in(key, count)
            if self.coordinates:
                rows = jax.random.choice(each, n, (size,), replace=False)
                part, rest = matrix[rows], (matrix @ z - right)[rows]
            else:
                mixer = jax.random.normal(each, (size, n), matrix.dtype)
                part, rest = mixer @ matrix, mixer @ (matrix @ z - right)
            return z - jnp.linalg.lstsq(part, rest)[0], count + 1

        return jax.lax.while_loop(
            goes_on, sketch, (jnp.zeros_like(right), jnp.asarray(0, jnp.int32))
        )


class KrylovDirection(AbstractDirection):
    """Minimal residuals with a fixed number of Krylov vectors (Arnoldi), inexact as asked.

    Parameters
    ----------
    max_krylov
        Vectors at most.

    Examples
    --------
    >>> from sciml.constraints import KrylovDirection
    >>> KrylovDirection(30).max_krylov
    30
    """

    max_krylov: int = eqx.field(static=True)

    def __init__(self, max_krylov: int = 50):
        self.max_krylov = check_count("max_krylov", max_krylov)

    def solve(
        self,
        matrix: Float[Array, "n n"],
        right: Float[Array, " n"],
        rtol: Float[Array, ""],
        key: KeyArray,
    ) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        """Return the iterate of least residual in the Krylov space."""
        del key
        n = right.shape[0]
        m = min(self.max_krylov, n)
        size = jnp.linalg.norm(right)
        basis = jnp.zeros((m + 1, n), right.dtype).at[0].set(right / jnp.where(size > 0, size, 1))
        images = jnp.zeros((m, n), right.dtype)

        def solution(images, count):
            used = jnp.where((jnp.arange(m, dtype=jnp.int32) < count)[:, None], images, 0)
            return jnp.linalg.lstsq(used.T, right)[0]

        def goes_on(state):
            _, _, count, residual = state
            return (residual > rtol * size) & (count < m)

        def extend(state):
            basis, images, count, _ = state
            image = matrix @ basis[count]
            images = images.at[count].set(image)
            rest = image
            for _ in range(2):
                rest = rest - basis.T @ (basis @ rest)
            length = jnp.linalg.norm(rest)
            basis = basis.at[count + 1].set(rest / jnp.where(length > 0, length, 1))
            weights = solution(images, count + 1)
            residual = jnp.linalg.norm(images.T @ weights - right)
            return basis, images, count + 1, residual

        start = (basis, images, jnp.asarray(0, jnp.int32), size)
        basis, images, count, _ = jax.lax.while_loop(goes_on, extend, start)
        return basis[:m].T @ solution(images, count), count


def check_forcing(forcing: float) -> float:
    """Return the forcing term; raise unless it is between 0 and 1."""
    check_positive("forcing_term", forcing)
    if forcing >= 1:
        raise ValueError(f"`forcing_term` must be below 1, got {forcing}.")
    return float(forcing)
