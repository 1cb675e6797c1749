"""A stack of equal layers whose weights share one leading axis."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array

from ..core import KeyArray, check_count

Layer = TypeVar("Layer", bound=eqx.Module)

# A loop over layers stores its intermediate results in one array, which costs a copy of each and a
# tenth of the time. Short stacks are written out: that compiles as fast up to about this depth.
_WRITTEN_OUT = 8


def make_stack(make_layer: Callable[[KeyArray], Layer], n_layers: int, key: KeyArray) -> Layer:
    """Return ``n_layers`` layers as one module, each array with a leading layer axis.

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


def apply_stack(
    stack: Layer, v: Array, *, apply_last: Callable[[Layer, Array], Array] | None = None
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
    arrays, static = eqx.partition(stack, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def apply(layer, v):
        return eqx.combine(layer, static)(v)  # pyright: ignore[reportCallIssue]

    def apply_to_end(layer, v):
        return apply(layer, v) if apply_last is None else apply_last(eqx.combine(layer, static), v)

    n_layers = len(leaves[0])
    if n_layers > _WRITTEN_OUT:
        before = jax.tree.map(lambda leaf: leaf[:-1], arrays)
        v, _ = jax.lax.scan(lambda v, layer: (apply(layer, v), None), v, before)
        return apply_to_end(jax.tree.map(lambda leaf: leaf[-1], arrays), v)
    # Of `split`, the derivative is one concatenation; that of indexing is a sum of padded arrays.
    parts = zip(*(jax.lax.split(leaf, (1,) * n_layers) for leaf in leaves), strict=True)
    *layers, last = (jax.tree.unflatten(structure, [part[0] for part in p]) for p in parts)
    for layer in layers:
        v = apply(layer, v)
    return apply_to_end(last, v)
