"""A gallery of linear systems on grids: diffusion problems that tell solvers apart.

Unless said otherwise the box is open at the first face of axis 0 (zero Dirichlet) and closed
elsewhere, as in a pressure projection, and the right-hand side is `gaussian_sources`, zero outside
the fluid. Everything depends on ``key`` and the sizes alone.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from ..core import KeyArray, check_count, real_dtype
from ..numerics import StencilOperator
from ..numerics._fourier import check_n_points
from ._diffusion import diffusion_operator, pressure_operator
from ._grid_boundaries import Boundary, Dirichlet, Neumann, Periodic, face_pairs
from ._moving_obstacles import moving_balls, rotating_bar
from ._obstacles import fill_enclosed_parts, random_obstacles, thin_baffles
from ._random_coefficients import gaussian_sources, random_checkerboard, random_inclusions


@dataclasses.dataclass(frozen=True)
class LinearProblem:
    """A system ``A x = b`` on a grid.

    Parameters
    ----------
    name
        What it is, with its size.
    operator
        The matrix ``A``, symmetric and positive semidefinite.
    right_hand_side
        ``b``, shape ``(*space)``, zero in inactive cells.
    exact
        The discrete solution to rounding, where it is known. For a singular matrix the one
        without mean.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.problems import anisotropic_problem
    >>> problem = anisotropic_problem((8, 6), key=jax.random.key(31))
    >>> known = problem.with_known_answer(key=jax.random.key(32))
    >>> bool(jnp.allclose(known.operator.mv(known.exact), known.right_hand_side))
    True
    """

    name: str
    operator: StencilOperator
    right_hand_side: Float[Array, "*space"]
    exact: Float[Array, "*space"] | None = None

    def with_known_answer(self, *, key: KeyArray) -> "LinearProblem":
        """Return the problem whose solution is `gaussian_sources`, with ``b = A x``.

        Parameters
        ----------
        key
            Typed PRNG key.
        """
        answer = gaussian_sources(self.operator.n_points, dtype=self.operator.dtype, key=key)
        answer = jnp.where(self.operator.active, answer, jnp.zeros((), answer.dtype))
        return LinearProblem(self.name, self.operator, self.operator.mv(answer), answer)


def obstacle_problem(
    n_points: Sequence[int], *, dtype: DTypeLike | None = None, key: KeyArray
) -> LinearProblem:
    """Return the pressure problem among random balls and boxes; enclosed parts are filled.

    Parameters
    ----------
    n_points
        Cells along each axis.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Examples
    --------
    >>> import jax
    >>> obstacle_problem((32, 32), key=jax.random.key(31)).name
    'obstacles 32x32'
    """
    mask_key, source_key = jax.random.split(key)
    mask = random_obstacles(n_points, key=mask_key)
    mask = fill_enclosed_parts(mask, boundary=open_at_start(mask.ndim))
    return pressure_problem("obstacles", mask, dtype=dtype, key=source_key)


def baffle_problem(
    n_points: Sequence[int], *, dtype: DTypeLike | None = None, key: KeyArray
) -> LinearProblem:
    """Return the pressure problem in a maze of four walls one cell thick.

    Parameters
    ----------
    n_points
        Cells along each axis, at least two of them.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key, of the right-hand side.

    Examples
    --------
    >>> import jax
    >>> baffle_problem((32, 32), key=jax.random.key(31)).name
    'baffles 32x32'
    """
    return pressure_problem("baffles", thin_baffles(n_points), dtype=dtype, key=key)


def checkerboard_problem(
    n_points: Sequence[int],
    *,
    contrast: float | int = 1e4,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> LinearProblem:
    """Return diffusion on a random checkerboard of two coefficients.

    Parameters
    ----------
    n_points
        Cells along each axis.
    contrast
        The larger coefficient over the smaller.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Examples
    --------
    >>> import jax
    >>> checkerboard_problem((32, 32), key=jax.random.key(31)).name
    'checkerboard 1:10000 32x32'
    """
    k_key, source_key = jax.random.split(key)
    k = random_checkerboard(n_points, contrast=contrast, dtype=dtype, key=k_key)
    return _coefficient_problem(f"checkerboard 1:{contrast:g}", k, source_key)


def inclusion_problem(
    n_points: Sequence[int],
    *,
    contrast: float | int = 1e4,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> LinearProblem:
    """Return diffusion with random inclusions of another coefficient.

    Parameters
    ----------
    n_points
        Cells along each axis.
    contrast
        Coefficient of the inclusions; that of the background is 1.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Examples
    --------
    >>> import jax
    >>> inclusion_problem((32, 32), key=jax.random.key(31)).name
    'inclusions 1:10000 32x32'
    """
    k_key, source_key = jax.random.split(key)
    k = random_inclusions(n_points, contrast=contrast, dtype=dtype, key=k_key)
    return _coefficient_problem(f"inclusions 1:{contrast:g}", k, source_key)


def anisotropic_problem(
    n_points: Sequence[int],
    *,
    ratio: float | int = 100,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> LinearProblem:
    """Return diffusion that is ``ratio`` times weaker along axis 0 than along the others.

    Parameters
    ----------
    n_points
        Cells along each axis.
    ratio
        The anisotropy.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key, of the right-hand side.

    Examples
    --------
    >>> import jax
    >>> anisotropic_problem((32, 32), key=jax.random.key(31)).name
    'anisotropy 1:100 32x32'
    """
    n_points = check_n_points(n_points)
    weights = (1.0, *(float(ratio) for _ in n_points[1:]))
    operator = diffusion_operator(
        n_points, axis_weights=weights, boundary=open_at_start(len(n_points)), dtype=dtype
    )
    b = gaussian_sources(n_points, dtype=operator.dtype, key=key)
    return LinearProblem(_named(f"anisotropy 1:{ratio:g}", n_points), operator, b)


def eigenmode_problem(
    n_points: Sequence[int],
    *,
    boundary: Boundary | None = None,
    wavenumbers: Sequence[Sequence[int]] = ((1, 1), (3, 2)),
    dtype: DTypeLike | None = None,
) -> LinearProblem:
    r"""Return a Poisson problem whose discrete solution is known: a sum of eigenvectors.

    On a box of side 1 the vectors with the entries :math:`\sin(\pi m x_i)` (Dirichlet),
    :math:`\cos(\pi m x_i)` (Neumann) and :math:`\cos(2 \pi m x_i)` (periodic) are eigenvectors of
    the second difference, with the eigenvalues :math:`4 h^{-2} \sin^2(\pi m h / 2)` (periodic:
    :math:`2 m` for :math:`m`).

    Parameters
    ----------
    n_points
        Cells along each axis.
    boundary
        As in `diffusion_operator`, the same condition on both faces of an axis; zero Dirichlet by
        default.
    wavenumbers
        One tuple ``(m_0, m_1, ...)`` a mode, one entry an axis; missing entries are 1.
    dtype
        Real dtype; JAX's default where it is left out.

    Raises
    ------
    ValueError
        If the two faces of an axis differ, or a mode is constant (its eigenvalue is zero).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> problem = eigenmode_problem((8, 8))
    >>> b = problem.operator.mv(problem.exact)
    >>> bool(jnp.allclose(b, problem.right_hand_side, rtol=1e-4, atol=1e-3))
    True
    """
    n_points = check_n_points(n_points)
    boundary = Dirichlet() if boundary is None else boundary
    pairs = face_pairs(boundary, n_points)
    dtype = real_dtype() if dtype is None else dtype
    exact, b = np.zeros(n_points), np.zeros(n_points)
    for mode in wavenumbers:
        numbers = (tuple(mode) + (1,) * len(n_points))[: len(n_points)]
        value, eigenvalue = np.ones(()), 0.0
        for axis, (m, n, (low, high)) in enumerate(zip(numbers, n_points, pairs, strict=True)):
            check_count("wavenumbers", m, minimum=0)
            if type(low) is not type(high):
                raise ValueError(
                    f"axis {axis} of `boundary` must have one condition on both faces, got "
                    f"{type(low).__name__} and {type(high).__name__}."
                )
            phase = np.pi * m * (2 if isinstance(low, Periodic) else 1)
            x = (np.arange(n) + 0.5) / n
            wave = np.sin(phase * x) if isinstance(low, Dirichlet) else np.cos(phase * x)
            value = np.multiply.outer(value, wave)
            eigenvalue += (2 * n * np.sin(phase / (2 * n))) ** 2
        if eigenvalue < 1e-12 or not np.abs(value).max() > 1e-9:
            raise ValueError(f"mode {tuple(mode)} of `wavenumbers` vanishes or is constant.")
        exact += value
        b += eigenvalue * value
    operator = diffusion_operator(n_points, boundary=boundary, dtype=dtype)
    name = _named("eigenmodes", n_points)
    return LinearProblem(name, operator, jnp.asarray(b, dtype), jnp.asarray(exact, dtype))


def rotating_bar_problems(
    n_points: Sequence[int], *, n_steps: int, dtype: DTypeLike | None = None, key: KeyArray
) -> list[LinearProblem]:
    """Return the pressure problems of a bar that turns: one matrix and right-hand side a step.

    Parameters
    ----------
    n_points
        Cells along each axis, two or three of them.
    n_steps
        Length of the sequence.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key, of the right-hand sides.

    Examples
    --------
    >>> import jax
    >>> [p.name for p in rotating_bar_problems((16, 16), n_steps=2, key=jax.random.key(31))]
    ['rotating bar 16x16, step 0', 'rotating bar 16x16, step 1']
    """
    return _sequence("rotating bar", rotating_bar(n_points, n_steps=n_steps), dtype, key)


def moving_ball_problems(
    n_points: Sequence[int], *, n_steps: int, dtype: DTypeLike | None = None, key: KeyArray
) -> list[LinearProblem]:
    """Return the pressure problems of drifting balls: one matrix and right-hand side a step.

    Parameters
    ----------
    n_points
        Cells along each axis, two or three of them.
    n_steps
        Length of the sequence.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Examples
    --------
    >>> import jax
    >>> [p.name for p in moving_ball_problems((16, 16), n_steps=1, key=jax.random.key(31))]
    ['moving balls 16x16, step 0']
    """
    mask_key, key = jax.random.split(key)
    masks = moving_balls(n_points, n_steps=n_steps, key=mask_key)
    return _sequence("moving balls", masks, dtype, key)


def pressure_problem(
    name: str,
    mask: Bool[Array | np.ndarray, "*space"],
    *,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> LinearProblem:
    """Return the pressure problem of a mask, open at the first face of axis 0.

    Parameters
    ----------
    name
        What it is; the size is appended.
    mask
        True in fluid cells. Each fluid part needs a way to the open face.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key, of the right-hand side.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> problem = pressure_problem("empty", jnp.ones((8, 8), bool), key=jax.random.key(31))
    >>> problem.operator.diagonal[:2, 1].tolist()
    [5.0, 4.0]
    """
    operator = pressure_operator(mask, boundary=open_at_start(np.ndim(mask)), dtype=dtype)
    b = gaussian_sources(operator.n_points, dtype=operator.dtype, key=key)
    b = jnp.where(operator.active, b, jnp.zeros((), b.dtype))
    return LinearProblem(_named(name, operator.n_points), operator, b)


def open_at_start(n_axes: int) -> Boundary:
    """Return the boundary of the gallery: open at the first face of axis 0, walls elsewhere.

    Parameters
    ----------
    n_axes
        Number of space axes.

    Examples
    --------
    >>> [type(face).__name__ for face in open_at_start(2)[0]]
    ['Dirichlet', 'Neumann']
    """
    return [(Dirichlet(), Neumann()), *(Neumann() for _ in range(n_axes - 1))]


def _coefficient_problem(name, k, key):
    operator = diffusion_operator(k.shape, coefficient=k, boundary=open_at_start(k.ndim))
    b = gaussian_sources(k.shape, dtype=k.dtype, key=key)
    return LinearProblem(_named(name, k.shape), operator, b)


def _sequence(name, masks, dtype, key):
    problems = []
    for step, mask in enumerate(masks):
        # What the obstacles cut off at this step has no equation worth solving.
        mask = fill_enclosed_parts(mask, boundary=open_at_start(mask.ndim))
        one = pressure_problem(name, mask, dtype=dtype, key=jax.random.fold_in(key, step))
        problems.append(dataclasses.replace(one, name=f"{one.name}, step {step}"))
    return problems


def _named(name, n_points):
    return f"{name} {'x'.join(str(n) for n in n_points)}"
