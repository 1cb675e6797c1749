"""Products of float32 matrices that are float32 on a GPU too."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")


def full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function whose matrix products and convolutions keep the precision of their factors.

    On a GPU with tensor cores JAX rounds the factors of float32 products to TensorFloat-32, with 10
    bits behind the point: an error of 3e-4 where a Fourier transform by FFT has 1e-7, enough to
    spoil a Newton step, a least-squares fit or the order of an integrator without a word. Every
    entry point of sciml that multiplies matrices is decorated with this one. It holds while the
    function is traced and changes no global setting; nothing happens on a CPU, nor in float64.

    Who wants the faster products, to train a network for instance, says so and is obeyed::

        with jax.default_matmul_precision("tensorfloat32"):
            model = sciml.train.fit(...).value

    Parameters
    ----------
    function
        Any function of arrays.

    Returns
    -------
    Callable
        A function with the same arguments and results.

    Notes
    -----
    Derivatives of products, convolutions and loops are made of products of the same precision.
    What JAX traces long after the function is not reached and must be decorated for itself: rules
    of `jax.custom_jvp` and `jax.custom_vjp`, JAX's own rules for matrix factorisations, and a
    vector field that `diffrax.BacksolveAdjoint` calls once more on its way back.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> traced = jax.make_jaxpr(full_precision(jnp.dot))(jnp.ones(3), jnp.ones(3))
    >>> traced.eqns[-1].params["precision"]
    (Precision.HIGHEST, Precision.HIGHEST)
    """

    @functools.wraps(function)
    def precise(*args: P.args, **kwargs: P.kwargs) -> T:
        if jax.config.jax_default_matmul_precision is not None:  # type: ignore[attr-defined]
            return function(*args, **kwargs)
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise
