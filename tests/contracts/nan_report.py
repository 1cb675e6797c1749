"""How a NaN that was put in somewhere is reported, and small problems to put it in.

Each entry of `STAGES` (made by `nan_stages` and `nan_conditions`) puts one NaN where a user or a
fault could and makes the call. A NaN may be refused, end in a failed status, show in the answer (of
a pure function of arrays, which has no status), or have no effect where the documentation says that
it has none (masked places). What it must never do is vanish into a finite answer or a success.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import (
    constraints,
    data,
    natural_gradient,
    neural_operators,
)
from sciml.core import Solution, is_successful

STAGES: dict[str, dict[str, Callable[[], Any]]] = {}
REPORTED = ("refused", "failed status", "shows in the answer", "no effect, as documented")
NAN = float("nan")
KEY = jax.random.key(90149)


class Found(NamedTuple):
    """How a NaN was reported, and the words of the report."""

    how: str
    detail: str


class NoEffect(NamedTuple):
    """What an entry returns where its NaN must not matter: with it and without."""

    dirty: Any
    clean: Any


def at(stage: str, where: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Return a decorator that enters a case."""

    def enter(function: Callable[[], Any]) -> Callable[[], Any]:
        STAGES.setdefault(stage, {})[where] = function
        return function

    return enter


def report(function: Callable[[], Any]) -> Found:
    """Make the call of a case, in float64, and say how its NaN was reported."""
    with jax.enable_x64(True):
        try:
            result = function()
        except (ValueError, TypeError) as error:
            return Found("refused", str(error)[:200])
        except RuntimeError as error:
            return Found("failed status", str(error)[:200])
        if isinstance(result, NoEffect):
            is_equal = eqx.tree_equal(result.dirty, result.clean)
            return Found(REPORTED[3] if is_equal else "changed the answer", "")
        solutions = jax.tree.leaves(result, is_leaf=lambda x: isinstance(x, Solution))
        for leaf in solutions:
            if isinstance(leaf, Solution) and not bool(jnp.all(is_successful(leaf.result))):
                return Found("failed status", "")
        leaves = [np.asarray(x) for x in jax.tree.leaves(result) if eqx.is_array_like(x)]
        if any(x.dtype.kind in "fc" and np.isnan(x).any() for x in leaves):
            is_status = any(isinstance(leaf, Solution) for leaf in solutions)
            return Found("success with a NaN" if is_status else REPORTED[2], "")
        return Found("silent", "")


def with_nan(a: Any, where: Any = 0) -> np.ndarray:
    """Return a copy with one NaN."""
    a = np.array(a, float)
    a.flat[where] = np.nan
    return a


def values() -> np.ndarray:
    """Return values of a small data set."""
    return np.random.default_rng(8).normal(size=(3, 4, 1, 8))


def dataset_of(values: np.ndarray) -> data.FieldDataset:
    """Return a data set of an array."""
    return data.FieldDataset.from_array(values, dt=0.1, domain_extent=1.0)


def poisoned(model: Any) -> Any:
    """Return the model with a NaN in each array of floating-point weights."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda a: a.at[(0,) * a.ndim].set(jnp.nan), arrays), rest)


def small_fno() -> neural_operators.AutoregressiveFNO:
    """Return a small forecaster."""
    options = {"hidden_channels": 2, "n_layers": 1, "key": KEY}
    return neural_operators.AutoregressiveFNO(1, 1, (2,), **options)


def line_layer() -> constraints.HardConstraint:
    """Return a hard constraint on a polynomial in one variable."""
    basis = constraints.CoordinateBasis(lambda x, p: x[0] ** jnp.arange(3), coordinates=("x",))
    return constraints.HardConstraint(
        basis, [constraints.Residual(lambda jet, x, p: jet["u"] - p * x[0], ("u",))]
    )


def line_points(**options: Any) -> dict[str, Any]:
    """Return points for `line_layer`."""
    return {"pde": jnp.linspace(0.0, 1.0, 6)[:, None]} | options


def short_march(network: Any = None, rhs: Any = None, **options: Any) -> Any:
    """March a small network by one step."""
    network = (
        natural_gradient.PeriodicMLP(1, width=2, depth=1, key=KEY) if network is None else network
    )
    rhs = (lambda t, x, u: natural_gradient.laplacian(u)(x)) if rhs is None else rhs
    points = natural_gradient.CollocationPoints.grid(8, 1)
    return natural_gradient.march(rhs, network, points, t1=0.01, dt=0.01, throw=False, **options)
