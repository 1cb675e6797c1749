"""Type aliases that signatures across sciml share (shapes as in rule S3, no batch axis)."""

import os
from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Array, Float, Inexact, Key

Field: TypeAlias = Float[Array, "channels *space"]
"""One snapshot: channels first, then the space axes; periodic grids leave out the end point."""

Trajectory: TypeAlias = Float[Array, "time channels *space"]
"""Snapshots in order of time."""

Spectrum: TypeAlias = Inexact[Array, "channels *modes"]
"""Fourier coefficients of a field; the last axis holds the half spectrum."""

KeyArray: TypeAlias = Key[Array, ""]
"""A typed PRNG key, as ``jax.random.key(seed)`` makes it."""

RealScalar: TypeAlias = Float[Array, ""] | float | int

Activation: TypeAlias = Callable[[Array], Array]

PathLike: TypeAlias = str | os.PathLike[str]
