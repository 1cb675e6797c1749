"""A stack of equal layers, one after another."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import KeyArray, check_count, split_keys

Layer = TypeVar("Layer", bound=eqx.Module)

# A loop over layers stores its intermediate results in one array, which costs a copy of each and a
# tenth of the time. Short stacks are written out: that compiles as fast up to about this depth.
_WRITTEN_OUT = 8


def make_stack(
    make_layer: Callable[[KeyArray], Layer], n_layers: int, key: KeyArray
) -> tuple[Layer, ...]:
    """Return ``n_layers`` layers.

    Each has arrays of its own: were they parts of one array, each step of a training would copy
    the weights out of it and their gradients into it.

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
    >>> len(stack), stack[0].weight.shape
    (3, (2, 2))
    >>> apply_stack(stack, jax.numpy.ones((2, 8))).shape
    (2, 8)
    """
    keys = split_keys(key, check_count("n_layers", n_layers))
    return tuple(make_layer(layer_key) for layer_key in keys)


def apply_stack(
    stack: Sequence[Layer],
    v: Array,
    *,
    apply_last: Callable[[Layer, Array], Array] | None = None,
) -> Array:
    """Apply the layers of `make_stack` one after another.

    Up to eight layers are written out; more run in `jax.lax.scan`, so that the program does not
    grow with the depth.

    Parameters
    ----------
    stack
        What `make_stack` returned.
    v
        The input of the first layer; each layer must keep its shape.
    apply_last
        How the last layer is applied, if it differs: a function of layer and input.

    Returns
    -------
    Array
        The output of the last layer.
    """
    *layers, last = stack
    if len(stack) <= _WRITTEN_OUT:
        for layer in layers:
            v = layer(v)  # pyright: ignore[reportCallIssue]
    else:
        arrays, static = eqx.partition(layers, eqx.is_array)
        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)

        def apply(v, arrays):
            return eqx.combine(arrays, static[0])(v), None

        v, _ = jax.lax.scan(apply, v, together)
    return last(v) if apply_last is None else apply_last(last, v)  # pyright: ignore[reportCallIssue]
