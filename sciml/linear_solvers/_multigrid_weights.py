"""What is learned in the multigrid cycle: three numbers for each level."""

import functools
import importlib.resources
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_count, load


class MultigridWeights(eqx.Module):
    """Smoothing interval and coarse-correction factor of each level of a multigrid cycle.

    The numbers are stored without bounds and mapped into the range in which the cycle is positive
    definite, so every value is allowed:

    - ``lower = 2 sigmoid(raw_lower)``, in (0, 2),
    - ``upper = 2 - lower sigmoid(raw_upper)``, so that ``lower + upper > 2``,
    - ``scale = exp(raw_scale)``.

    The values at the start are the classical ones: ``lower`` 0.5, ``upper`` nearly 2, ``scale`` 1.

    Parameters
    ----------
    n_levels
        Levels with numbers of their own, the finest first; coarser ones share the last.
    n_sweeps
        Degree of the smoothing polynomial, before and after the coarse correction.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> [round(float(v), 2) for v in MultigridWeights().at(0, jnp.dtype(jnp.float32))]
    [0.5, 1.99, 1.0]
    """

    n_levels: int = eqx.field(static=True)
    n_sweeps: int = eqx.field(static=True)
    raw_lower: Float[Array, " levels"]
    raw_upper: Float[Array, " levels"]
    raw_scale: Float[Array, " levels"]

    def __init__(self, n_levels: int = 3, n_sweeps: int = 2):
        self.n_levels = check_count("n_levels", n_levels)
        self.n_sweeps = check_count("n_sweeps", n_sweeps)
        self.raw_lower = jnp.full(n_levels, -1.0986, jnp.float32)
        self.raw_upper = jnp.full(n_levels, -4.0, jnp.float32)
        self.raw_scale = jnp.zeros(n_levels, jnp.float32)

    def at(
        self, level: int, dtype: jnp.dtype
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """Return ``lower, upper, scale`` of a level.

        Parameters
        ----------
        level
            0 is the finest.
        dtype
            Precision of the result.
        """
        row = min(level, self.n_levels - 1)
        lower = 2 * jax.nn.sigmoid(self.raw_lower[row].astype(dtype))
        upper = 2 - lower * jax.nn.sigmoid(self.raw_upper[row].astype(dtype))
        return lower, upper, jnp.exp(self.raw_scale[row].astype(dtype))


def trained_weights(n_axes: int) -> MultigridWeights:
    """Return the weights that ship with sciml, trained on random obstacles.

    Parameters
    ----------
    n_axes
        2 or 3. In one dimension the cycle needs no training, and the classical values are
        returned; so they are for more than three.

    Examples
    --------
    >>> from sciml.linear_solvers import trained_weights
    >>> trained_weights(2).n_sweeps
    2
    """
    if n_axes not in (2, 3):
        return MultigridWeights()
    return _shipped(f"multigrid_{n_axes}d")


@functools.cache
def _shipped(name: str) -> MultigridWeights:
    # The first call may come from inside jax.jit, whose tracers must not be kept.
    with jax.ensure_compile_time_eval():
        return load(_folder(name))


def _folder(name: str) -> Path:
    return Path(str(importlib.resources.files("sciml.linear_solvers"))) / "weights" / name
