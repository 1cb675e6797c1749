"""A stack of equal layers whose weights share one leading axis, run by `jax.lax.scan`."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array

from ..core import KeyArray, check_count

Layer = TypeVar("Layer", bound=eqx.Module)


def make_stack(make_layer: Callable[[KeyArray], Layer], n_layers: int, key: KeyArray) -> Layer:
    """Return ``n_layers`` layers as one module, each array with a leading layer axis.

    The stack compiles as fast as one layer, whatever its depth.

    Parameters
    ----------
    make_layer
        Makes a layer of a key; all layers must have the same shapes.
    n_layers
        Their number.
    key
        PRNG key, split among the layers.

    Examples
    --------
    >>> import jax
    >>> from sciml.nn import ChannelLinear, apply_stack
    >>> stack = make_stack(lambda key: ChannelLinear(2, 2, key=key), 3, jax.random.key(7))
    >>> stack.weight.shape
    (3, 2, 2)
    >>> apply_stack(stack, jax.numpy.ones((2, 8))).shape
    (2, 8)
    """
    return eqx.filter_vmap(make_layer)(jax.random.split(key, check_count("n_layers", n_layers)))


def apply_stack(stack: eqx.Module, v: Array) -> Array:
    """Apply the layers of `make_stack` one after another.

    Parameters
    ----------
    stack
        What `make_stack` returned.
    v
        The input of the first layer; each layer must keep its shape.

    Returns
    -------
    Array
        The output of the last layer.
    """
    arrays, static = eqx.partition(stack, eqx.is_array)

    def body(v, layer):
        return eqx.combine(layer, static)(v), None  # pyright: ignore[reportCallIssue]

    return jax.lax.scan(body, v, arrays)[0]
