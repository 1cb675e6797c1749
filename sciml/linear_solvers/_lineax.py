"""Conjugate directions and flexible CG as lineax solvers: differentiable, under any transformation.

Gradients of `lineax.linear_solve` are implicit: ``dx = A^-1 (db - dA x)`` by one more solve with
the same solver. The network takes no part in them.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ..core import RealScalar, check_count, check_non_negative, cites
from ..core._constant import constant
from ._bibliography import KANEDA_2023, NOTAY_2000
from ._conjugate_directions import as_result, check_arguments, iterate
from ._nullspace import ConstantNullspace


class _State(eqx.Module):
    """The operator, negated if it is negative definite."""

    operator: lx.AbstractLinearOperator
    is_negated: bool = eqx.field(static=True)


class _AbstractDefiniteSolver(lx.AbstractLinearSolver):
    """What the solvers of semidefinite operators share: all but `compute`."""

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> _State:
        """Return the state of a solve; raise for operators that are not definite."""
        del options
        name = type(self).__name__
        if operator.in_structure() != operator.out_structure():
            raise ValueError(
                f"`{name}` needs a square operator; this one maps {operator.in_structure()} to "
                f"{operator.out_structure()}."
            )
        is_negated = lx.is_negative_semidefinite(operator)
        if not (is_negated or lx.is_positive_semidefinite(operator)):
            raise ValueError(
                f"`{name}` needs an operator with `lineax.positive_semidefinite_tag` or "
                "`negative_semidefinite_tag`. If it is definite, tag it with "
                "`lineax.TaggedLinearOperator`."
            )
        return _State(lx.linearise(-operator if is_negated else operator), is_negated)

    def transpose(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Return state and options for the transposed operator."""
        # `y0` belongs to the other system.
        kept = {}
        if "preconditioner" in options:
            kept["preconditioner"] = options["preconditioner"].transpose()
        return _State(state.operator.transpose(), state.is_negated), kept

    def conj(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Return state and options for the conjugate operator."""
        kept = {}
        if "preconditioner" in options:
            kept["preconditioner"] = lx.conj(options["preconditioner"])
        if "y0" in options:
            kept["y0"] = jax.tree.map(jnp.conj, options["y0"])
        return _State(lx.conj(state.operator), state.is_negated), kept

    def assume_full_rank(self) -> bool:
        """Return True: no gradient terms for a nullspace are needed."""
        return True


@cites(KANEDA_2023, NOTAY_2000)
class DeepConjugateDirection(_AbstractDefiniteSolver):
    """Conjugate directions with a learned direction, as a solver for `lineax.linear_solve`.

    The operator must be tagged positive or negative semidefinite. Success is judged on the
    recomputed true residual, in the 2-norm over all unknowns:
    ``||b - A x|| <= max(rtol ||b||, atol)``. The ``options`` of ``linear_solve`` may hold ``y0``
    (where to start) and ``preconditioner`` (a lineax operator: the safeguard).

    Parameters
    ----------
    direction
        ``q = direction(r)``, called with unit residuals of the structure of ``b``. It gets no
        gradient: `jax.lax.stop_gradient` is applied here. Build the solver inside the function
        that is differentiated; lineax refuses tangents of a solver that comes from outside. To
        train it see `fit_direction`.
    rtol, atol
        Tolerances.
    memory, safeguard, recompute_every
        As in `conjugate_directions`.
    max_steps
        The most steps; ten times the number of unknowns by default. The solves for gradients have
        the same limit, and always raise if they fail.
    nullspace
        Constants to project out of ``b``, ``x`` and their tangents (all-Neumann problems); for one
        array. The value is then the pseudo-inverse applied to ``b``, whether or not ``b`` was
        compatible: ``stats["incompatible_norm"]`` is the norm of what was taken out.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, lineax as lx
    >>> matrix = jnp.array([[3.0, 1.0], [1.0, 2.0]])
    >>> operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    >>> solver = DeepConjugateDirection(jnp.tanh, rtol=1e-6, atol=0.0)
    >>> x = lx.linear_solve(operator, jnp.array([1.0, 2.0]), solver).value
    >>> bool(jnp.allclose(matrix @ x, jnp.array([1.0, 2.0]), atol=1e-5))
    True
    """

    direction: Callable[[Any], Any]
    rtol: RealScalar
    atol: RealScalar
    memory: int = eqx.field(static=True)
    safeguard: bool = eqx.field(static=True)
    max_steps: int | None = eqx.field(static=True)
    recompute_every: int = eqx.field(static=True)
    nullspace: ConstantNullspace | None

    def __init__(
        self,
        direction: Callable[[Any], Any],
        rtol: RealScalar,
        atol: RealScalar,
        *,
        memory: int = 2,
        safeguard: bool = True,
        max_steps: int | None = None,
        recompute_every: int = 10,
        nullspace: ConstantNullspace | None = None,
    ):
        _check(direction, "direction", rtol, atol, memory, max_steps, recompute_every)
        self.direction = constant(direction)
        self.rtol = rtol
        self.atol = atol
        self.memory = memory
        self.safeguard = safeguard
        self.max_steps = max_steps
        self.recompute_every = recompute_every
        self.nullspace = nullspace

    def compute(
        self, state: _State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        """Solve for one right-hand side."""
        return _compute(self, self.direction, None, self.safeguard, state, vector, options)


@cites(NOTAY_2000)
class FlexibleCG(_AbstractDefiniteSolver):
    """Flexible conjugate gradients for `lineax.linear_solve`: any preconditioner, also nonlinear.

    As `DeepConjugateDirection`, with a preconditioner that is trusted. Unlike `lineax.CG` it does
    not presume a linear, symmetric, positive definite one.

    Parameters
    ----------
    preconditioner
        ``z = preconditioner(r)``, called with unit residuals; gets no gradient. None takes the
        linear one in ``options["preconditioner"]``, if there is one.
    rtol, atol, memory, max_steps, recompute_every, nullspace
        As in `DeepConjugateDirection`.

    Examples
    --------
    >>> import jax.numpy as jnp, lineax as lx
    >>> operator = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 4.0]))
    >>> operator = lx.TaggedLinearOperator(operator, lx.positive_semidefinite_tag)
    >>> solver = FlexibleCG(lambda r: r / jnp.array([1.0, 2.0, 3.0]), rtol=1e-6, atol=0.0)
    >>> x = lx.linear_solve(operator, jnp.ones(3), solver).value
    >>> bool(jnp.allclose(x, jnp.array([1.0, 0.5, 0.25])))
    True
    """

    preconditioner: Callable[[Any], Any] | None
    rtol: RealScalar
    atol: RealScalar
    memory: int = eqx.field(static=True)
    max_steps: int | None = eqx.field(static=True)
    recompute_every: int = eqx.field(static=True)
    nullspace: ConstantNullspace | None

    def __init__(
        self,
        preconditioner: Callable[[Any], Any] | None,
        rtol: RealScalar,
        atol: RealScalar,
        *,
        memory: int = 1,
        max_steps: int | None = None,
        recompute_every: int = 10,
        nullspace: ConstantNullspace | None = None,
    ):
        if preconditioner is not None:
            _check(preconditioner, "preconditioner", rtol, atol, memory, max_steps, recompute_every)
            preconditioner = constant(preconditioner)
        self.preconditioner = preconditioner
        self.rtol = rtol
        self.atol = atol
        self.memory = memory
        self.max_steps = max_steps
        self.recompute_every = recompute_every
        self.nullspace = nullspace

    def compute(
        self, state: _State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        """Solve for one right-hand side."""
        return _compute(self, None, self.preconditioner, False, state, vector, options)


def _check(function, name, rtol, atol, memory, max_steps, recompute_every) -> None:
    if not callable(function):
        raise TypeError(f"`{name}` must be callable, got {function!r}.")
    check_non_negative("rtol", rtol)
    check_non_negative("atol", atol)
    check_count("memory", memory, minimum=0)
    check_count("recompute_every", recompute_every)
    if max_steps is not None:
        check_count("max_steps", max_steps, minimum=0)


def _compute(
    solver: Any, direction, preconditioner, safeguard, state: _State, vector, options
) -> tuple[Any, Any, dict[str, Any]]:
    """Run the loop on the one array of ``vector``, or on all its leaves strung together."""
    given = options.get("preconditioner")
    if given is not None and preconditioner is None:
        if not isinstance(given, lx.AbstractLinearOperator):
            raise ValueError(
                "`options['preconditioner']` must be a lineax operator; pass nonlinear ones as "
                "`FlexibleCG(preconditioner, ...)`."
            )
        if given.in_structure() != state.operator.in_structure():
            raise ValueError(
                f"`options['preconditioner']` acts on {given.in_structure()}, the operator on "
                f"{state.operator.in_structure()}."
            )
        preconditioner = given.mv
    y0 = options.get("y0")
    if isinstance(vector, jax.Array):
        on_arrays, restore = (lambda function: function), (lambda x: x)
        b = vector
    else:
        b, restore = ravel_pytree(vector)

        def on_arrays(function):
            return lambda x: ravel_pytree(function(restore(x)))[0]

        y0 = None if y0 is None else ravel_pytree(y0)[0]
    if y0 is not None and state.is_negated:
        y0 = -y0
    removed = None
    if solver.nullspace is not None:
        # Tangents and cotangents may have any mean: what no `x` can reach is taken out beforehand.
        projected = solver.nullspace.project(b)
        removed = jnp.linalg.norm((b - projected).reshape(-1))
        b = projected
    product = _Product(on_arrays(state.operator.mv))
    checked = check_arguments(
        # An operator on trees does not take the one array that its leaves are strung to.
        state.operator if isinstance(vector, jax.Array) else product,
        b,
        y0,
        direction,
        solver.memory,
        solver.rtol,
        solver.atol,
        solver.max_steps,
        solver.recompute_every,
    )
    x, status, stats = iterate(
        product,
        *checked,
        direction=None if direction is None else on_arrays(direction),
        preconditioner=None if preconditioner is None else on_arrays(preconditioner),
        memory=solver.memory,
        safeguard=safeguard,
        nullspace=solver.nullspace,
        preconditioner_dtype=None,
        recompute_every=solver.recompute_every,
    )
    x = -x if state.is_negated else x
    stats = stats | {"max_steps": checked[-1]}
    if removed is not None:
        stats = stats | {"incompatible_norm": removed}
    return restore(x), as_result(status, lx.RESULTS), stats


class _Product:
    """A function with the interface of an operator."""

    def __init__(self, mv: Callable[[Array], Array]):
        self.mv = mv
