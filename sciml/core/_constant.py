"""Trees that derivatives do not see."""

import equinox as eqx
import jax
from jaxtyping import PyTree


def constant(tree: PyTree) -> PyTree:
    """Return the tree with `jax.lax.stop_gradient` on its floating-point arrays.

    What cannot be differentiated (integers, functions, strings) stays as it is.
    """
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree
    )
