"""PRNG keys for the parts of a module."""

import functools

import jax

from ._types import KeyArray


@functools.partial(jax.jit, static_argnums=1)
def split_keys(key: KeyArray, n: int = 2) -> tuple[KeyArray, ...]:
    """Return the keys of ``jax.random.split(key, n)`` one by one, for use in constructors.

    Outside `jax.jit` each ``keys[i]`` of an array of keys is compiled for itself; this is one
    program for each ``n``.

    Parameters
    ----------
    key
        A typed PRNG key.
    n
        How many keys, at least one.
    """
    keys = jax.random.split(key, n)
    return tuple(keys[i] for i in range(n))
