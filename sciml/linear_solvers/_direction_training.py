"""Training of direction networks: the scale-free loss, on Ritz mixtures and on residuals of solves.

loss = mean_b ||b - a A y||^2 / ||b||^2,   y = network(b),   a = (y.b) / (y.A y)
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import KeyArray, Solution, check_count, check_key, check_positive, cites
from ..numerics import full_precision
from ._bibliography import KANEDA_2023
from ._conjugate_directions import conjugate_directions
from ._ritz import ritz_rhs


class DirectionBatch(eqx.Module):
    """Right-hand sides of one operator.

    Parameters
    ----------
    operator
        Anything with ``mv``.
    rhs
        Shape ``(batch, *space)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import diffusion_operator
    >>> DirectionBatch(diffusion_operator((8, 6)), jnp.ones((3, 8, 6))).rhs.shape
    (3, 8, 6)
    """

    operator: Any
    rhs: Float[Array, "batch *space"]


@cites(KANEDA_2023)
def direction_loss(
    model: Callable[[Any], Any], batch: DirectionBatch, key: KeyArray
) -> Float[Array, ""]:
    """Return the mean of ``||b - a A y||^2 / ||b||^2`` with the best factor ``a`` in the A-norm.

    It is 0 for a perfect direction of whatever length and sign, and about 1 for noise.

    Parameters
    ----------
    model
        ``y = model(b)`` for one right-hand side.
    batch
        An operator and right-hand sides.
    key
        Not used.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, lineax as lx
    >>> batch = DirectionBatch(lx.DiagonalLinearOperator(jnp.array([1.0, 4.0])), jnp.ones((3, 2)))
    >>> exact = lambda b: -7 * b / jnp.array([1.0, 4.0])
    >>> bool(jnp.allclose(direction_loss(exact, batch, jax.random.key(0)), 0.0, atol=1e-6))
    True
    """
    del key

    def one(b: Array) -> Array:
        # Of size one: the squares below must not leave the range.
        b = _of_size_one(b)
        norm = jnp.linalg.norm(b.reshape(-1))
        b = b / jnp.where(norm > 0, norm, jnp.ones_like(norm))
        y = _of_size_one(model(b))
        image = batch.operator.mv(y)
        curvature = jnp.sum(y * image)
        safe = jnp.where(curvature > 0, curvature, jnp.ones_like(curvature))
        a = jnp.where(curvature > 0, jnp.sum(y * b) / safe, jnp.zeros_like(safe))
        return jnp.sum((b - a * image) ** 2)

    return jnp.mean(jax.vmap(one)(batch.rhs))


def _of_size_one(u: Array) -> Array:
    size = jnp.max(jnp.abs(u))
    return u / jax.lax.stop_gradient(jnp.where(size > 0, size, jnp.ones_like(size)))


def solve_residuals(
    operator: Any,
    rhs: Float[Array, "count *space"],
    direction: Callable[[Any], Any],
    *,
    preconditioner: Callable[[Any], Any] | None = None,
    n_steps: int = 20,
    memory: int = 2,
    safeguard: bool = False,
) -> Float[Array, "kept *space"]:
    """Return the unit residuals that a direction meets while it solves.

    The mean loss over Ritz mixtures says little about a solve, whose residuals are what the
    direction could not remove so far; train on them, too.

    Parameters
    ----------
    operator
        Anything with ``mv``.
    rhs
        Right-hand sides to solve for.
    direction, preconditioner, memory, safeguard
        As in `conjugate_directions`.
    n_steps
        Steps of each solve.

    Returns
    -------
    Array
        Up to ``count * n_steps`` residuals; fewer if solves end early.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.problems import diffusion_operator
    >>> rhs = jax.random.normal(jax.random.key(31), (2, 8, 6))
    >>> solve_residuals(diffusion_operator((8, 6)), rhs, jnp.tanh, n_steps=3).shape
    (6, 8, 6)
    """
    kept = _collect(
        operator,
        rhs,
        direction,
        preconditioner,
        check_count("n_steps", n_steps),
        check_count("memory", memory, minimum=0),
        bool(safeguard),
    )
    kept = kept.reshape(-1, *rhs.shape[1:])
    there = jnp.any(kept != 0, axis=tuple(range(1, kept.ndim)))
    there &= jnp.all(jnp.isfinite(kept), axis=tuple(range(1, kept.ndim)))
    return kept[there]


@eqx.filter_jit
def _collect(operator, rhs, direction, preconditioner, n_steps, memory, safeguard) -> Array:
    def one(b):
        return conjugate_directions(
            operator,
            b,
            direction=direction,
            preconditioner=preconditioner,
            memory=memory,
            safeguard=safeguard,
            rtol=0.0,
            max_steps=n_steps,
            n_residuals=n_steps,
        ).stats["residuals"]

    # One after the other: under vmap a network that is dropped in one lane would still be called.
    return jax.lax.map(one, rhs)


class DirectionBatches:
    """Batches for `sciml.train.fit`: each of one operator, drawn anew in every step.

    Parameters
    ----------
    operators
        The family to train for, all on the same grid.
    rhs
        For each operator its right-hand sides, shape ``(count, *space)``.
    batch_size
        Right-hand sides in a batch.
    seed
        ``batches[step]`` depends on it and on ``step`` alone.
    """

    def __init__(
        self,
        operators: Sequence[Any],
        rhs: Sequence[Float[Array, "count *space"]],
        batch_size: int,
        *,
        seed: int,
    ):
        if not operators or len(operators) != len(rhs):
            raise ValueError(
                f"`operators` and `rhs` must be as many, one at least; got {len(operators)} and "
                f"{len(rhs)}."
            )
        self.operators = list(operators)
        self.rhs = [np.asarray(r) for r in rhs]
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = check_count("seed", seed, minimum=0)

    def __getitem__(self, step: int) -> DirectionBatch:
        """Return the batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        k = int(rng.integers(len(self.operators)))
        chosen = rng.integers(len(self.rhs[k]), size=self.batch_size)
        return DirectionBatch(self.operators[k], jnp.asarray(self.rhs[k][chosen]))


@cites(KANEDA_2023)
@full_precision
def fit_direction(
    network: Any,
    operators: Sequence[Any],
    *,
    key: KeyArray,
    n_vectors: int = 500,
    n_rhs: int = 400,
    n_steps: int = 500,
    n_rounds: int = 2,
    residual_steps: int = 20,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    progress: bool = True,
) -> Solution:
    """Train a direction network for a family of operators.

    The first round takes Ritz mixtures alone, as published. Each further round adds residuals
    that the network of the round before meets during unsafeguarded solves. The learning rate of a
    round falls to zero along a cosine.

    Parameters
    ----------
    network
        The start, for instance `DirectionNetwork`.
    operators
        The family, all on the same grid, in the precision to train in.
    key
        For all random numbers.
    n_vectors, n_rhs
        Ritz vectors and right-hand sides for each operator. Published: 10 000 and 20 000.
    n_steps
        Training steps over all rounds.
    n_rounds
        Rounds; 1 trains as published.
    residual_steps
        Steps of a solve whose residuals are collected.
    batch_size, learning_rate
        Of Adam. Published: 10 and 1e-4.
    progress
        Show a bar.

    Returns
    -------
    Solution
        ``value`` is the network. ``stats`` has ``n_steps``, ``seconds``, and ``loss`` with the
        last loss of each round.

    Raises
    ------
    ValueError
        If there are fewer steps than rounds, or a count is below one.
    """
    check_key(key)
    check_positive("learning_rate", learning_rate)
    n_steps = check_count("n_steps", n_steps)
    n_rounds = check_count("n_rounds", n_rounds)
    if n_steps < n_rounds:
        raise ValueError(f"`n_steps` = {n_steps} must be at least `n_rounds` = {n_rounds}.")
    import optax  # here, and `fit`: who solves need not wait for what trains

    from ..train import fit

    seed_key, key = jax.random.split(key)
    keys = jax.random.split(key, len(operators) + n_rounds)
    ritz = [
        ritz_rhs(a, n_vectors, n_rhs, key=k)
        for a, k in zip(operators, keys[n_rounds:], strict=True)
    ]
    seed = int(jax.random.randint(seed_key, (), 0, 2**31 - 1))
    rhs, losses, seconds, done = ritz, [], 0.0, 0
    solution = None
    for k in range(n_rounds):
        if k:
            n_solves = max(1, n_rhs // residual_steps)
            met = [
                solve_residuals(a, b[:n_solves], network, n_steps=residual_steps)
                for a, b in zip(operators, ritz, strict=True)
            ]
            rhs = [jnp.concatenate([b, m]) for b, m in zip(ritz, met, strict=True)]
        n_round = n_steps * (k + 1) // n_rounds - done
        solution = fit(
            network,
            DirectionBatches(operators, rhs, batch_size, seed=seed + k),
            optimizer=optax.adam(optax.cosine_decay_schedule(learning_rate, n_round)),
            n_steps=n_round,
            key=keys[k],
            loss=direction_loss,
            progress=progress,
        )
        network = solution.value
        done += n_round
        losses.append(solution.stats["loss"])
        seconds += float(solution.stats["seconds"])
    assert solution is not None  # for the type checker: there is one round at least
    stats = {"n_steps": done, "seconds": seconds, "loss": np.asarray(losses)}
    return Solution(network, solution.result, stats)
