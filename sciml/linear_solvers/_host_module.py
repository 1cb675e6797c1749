"""Modules that act on the host alone."""

import equinox as eqx


class AbstractHostModule(eqx.Module):
    """A module whose methods are bound as Python binds them.

    Equinox makes a PyTree of each bound method, so that it can be passed to `jax.jit`. Nobody does
    that with a bandit, and it takes longer than all of its arithmetic.
    """

    __getattribute__ = object.__getattribute__
