"""Optimisers that sciml's examples use; `fit` takes any optax gradient transformation."""

import math

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float

from ..core import check_count, check_non_negative, check_positive, cites
from ..core._bibliography import KINGMA_2015, SMITH_2019


@cites(SMITH_2019)
def one_cycle_schedule(
    peak_learning_rate: float,
    n_steps: int,
    *,
    warmup_fraction: float = 0.3,
    initial_divisor: float = 25.0,
    final_divisor: float = 1e4,
) -> optax.Schedule:
    r"""Return the one-cycle schedule: a cosine up to the peak, then a cosine down.

    With :math:`c(s) = (1 - \cos \pi s) / 2` the learning rate goes from ``peak / initial_divisor``
    to ``peak`` during the warm-up and from there to ``peak / initial_divisor / final_divisor`` at
    the last step, ``n_steps - 1``.

    Parameters
    ----------
    peak_learning_rate
        The largest learning rate.
    n_steps
        Steps of the whole run. Later steps keep the last learning rate.
    warmup_fraction
        Part of the run that goes up, between 0 and 1.
    initial_divisor, final_divisor
        See above.

    Returns
    -------
    optax.Schedule
        A function of the step, which starts at 0.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2019.

    Examples
    --------
    >>> schedule = one_cycle_schedule(1e-2, 101, warmup_fraction=0.2)
    >>> [f"{float(schedule(step)):.1e}" for step in (0, 20, 60, 100)]
    ['4.0e-04', '1.0e-02', '5.0e-03', '4.0e-08']
    """
    check_positive("peak_learning_rate", peak_learning_rate)
    check_positive("initial_divisor", initial_divisor)
    check_positive("final_divisor", final_divisor)
    check_non_negative("warmup_fraction", warmup_fraction)
    if warmup_fraction > 1:
        raise ValueError(f"`warmup_fraction` must be at most 1, got {warmup_fraction!r}.")
    last = check_count("n_steps", n_steps) - 1
    peak_step = warmup_fraction * last
    start = peak_learning_rate / initial_divisor
    end = start / final_divisor

    def schedule(count: ArrayLike) -> Float[Array, ""]:
        step = jnp.minimum(jnp.asarray(count, jnp.result_type(float)), float(last))
        # A stretch without length is never entered; the 1 keeps the unused branch finite.
        up = step / (peak_step or 1.0)
        down = (step - peak_step) / ((last - peak_step) or 1.0)
        return jnp.where(
            step < peak_step,
            start + (peak_learning_rate - start) * _cosine_ramp(up),
            peak_learning_rate + (end - peak_learning_rate) * _cosine_ramp(down),
        )

    return schedule


@cites(KINGMA_2015, SMITH_2019)
def one_cycle_adam(
    peak_learning_rate: float,
    n_steps: int,
    *,
    warmup_fraction: float = 0.3,
    initial_divisor: float = 25.0,
    final_divisor: float = 1e4,
    max_gradient_norm: float = 1.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Return Adam with clipping of the global gradient norm and a one-cycle learning rate.

    Parameters
    ----------
    peak_learning_rate, n_steps, warmup_fraction, initial_divisor, final_divisor
        See `one_cycle_schedule`. Good peaks for neural operators lie between 1e-3 and 1e-2.
    max_gradient_norm
        Gradients with a larger Euclidean norm over all parameters are scaled down to it.
    weight_decay
        Decoupled weight decay (AdamW), times the learning rate.

    Returns
    -------
    optax.GradientTransformation

    Examples
    --------
    >>> import jax.numpy as jnp, optax
    >>> optimizer = one_cycle_adam(1e-2, n_steps=100)
    >>> params = jnp.ones(3)
    >>> updates, _ = optimizer.update(jnp.ones(3), optimizer.init(params), params)
    >>> print(updates)
    [-0.0004 -0.0004 -0.0004]
    """
    check_positive("max_gradient_norm", max_gradient_norm)
    check_non_negative("weight_decay", weight_decay)
    schedule = one_cycle_schedule(
        peak_learning_rate,
        n_steps,
        warmup_fraction=warmup_fraction,
        initial_divisor=initial_divisor,
        final_divisor=final_divisor,
    )
    return optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),
        optax.adamw(schedule, weight_decay=weight_decay),
    )


def _cosine_ramp(s: Array) -> Array:
    return (1 - jnp.cos(math.pi * s)) / 2
