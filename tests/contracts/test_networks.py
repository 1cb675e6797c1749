"""Every network: each parameter gets a gradient, and a precision that comes in goes out.

None is left out, cut off or forgotten, and no constant turns float32 into float64 or back.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import linear_solvers, natural_gradient, neural_operators, nn
from sciml.numerics import Neighbours

from .test_public_classes import BUILDERS

Call = Callable[[Any, str], Any]

_random = np.random.default_rng(4178)


def _normal(*shape: int) -> np.ndarray:
    return _random.normal(size=shape)


def _ring() -> Neighbours:
    """Return four particles, each with itself and the two beside it."""
    index = np.array([[0, 1, 3], [1, 2, 0], [2, 3, 1], [3, 0, 2]])
    return Neighbours(jnp.asarray(index), jnp.ones((4, 3), bool), jnp.asarray(3))


def _particles(model: Any, dtype: str) -> Any:
    corners = 0.5 + 0.05 * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    position = corners + 1e-3 * np.cos(np.arange(48).reshape(6, 4, 2))
    types, mask = jnp.zeros(4, int), jnp.ones(4, bool)
    return model(jnp.asarray(position, dtype), types, mask, _ring())


def _on(*shapes: tuple[int, ...]) -> Call:
    """Return a call with one random field of each shape."""
    fields = [_normal(*shape) for shape in shapes]
    return lambda model, dtype: model(*(jnp.asarray(field, dtype) for field in fields))


def _forecast(n_in: int, channels: int, *n_points: int, context: int = 0) -> Call:
    inputs = _normal(n_in, channels, *n_points)
    around = _normal(context, *n_points)

    def call(model: Any, dtype: str) -> Any:
        more = {"context": jnp.asarray(around, dtype)} if context else {}
        return model(jnp.asarray(inputs, dtype), 3, **more)

    return call


# What each network of `BUILDERS` is called with. Those that other modules here contain, and those
# whose own tests say the same (graph solvers, neural ODEs, assimilation, GIOROM), are left out.
CALLS: dict[type, Call] = {
    linear_solvers.DirectionNetwork: _on((8, 6)),
    natural_gradient.BoundaryAnsatz: _on((1,)),
    natural_gradient.PeriodicMLP: _on((1,)),
    neural_operators.AutoregressiveFNO: _forecast(3, 2, 8, 6, context=1),
    neural_operators.FNO: _on((2, 8, 6)),
    neural_operators.GatedGain: _on((1, 8), (1, 8), (1, 8)),
    neural_operators.GraphNetworkSimulator: _particles,
    neural_operators.HighBandCorrection: _on((1, 8)),
    neural_operators.KernelReducedOrderModel: _on((3, 2), (2, 5, 2)),
    neural_operators.SpaceTimeFNO: _forecast(3, 2, 8, 6),
    neural_operators.SpatiotemporalFNO: _forecast(3, 2, 8, 6),
    neural_operators.TransformOnce: _on((2, 8, 6)),
    neural_operators.TransformOnceForecaster: _forecast(2, 1, 8),
    neural_operators.TransformOnceUNet: _on((1, 8, 6)),
    nn.ChannelLinear: _on((2, 5)),
    nn.ChannelMLP: _on((2, 5)),
    nn.Convolution: _on((2, 5, 4)),
    nn.FourierLayer: _on((3, 8, 6)),
    nn.PointMLP: _on((5, 2)),
    nn.SpectralConv: _on((2, 8, 6)),
    nn.UNet: _on((2, 8, 6)),
}


# Figures of the data, which training sets and no gradient moves; and a constant, of which the high
# band keeps nothing.
FIXED = (".feature_mean", ".feature_std", ".favour")
WITHOUT_INFLUENCE = {neural_operators.HighBandCorrection: (".layers[2].bias",)}


@pytest.mark.parametrize("cls", CALLS, ids=lambda cls: cls.__name__)
def test_every_parameter_gets_a_gradient(cls):
    call = CALLS[cls]

    @eqx.filter_jit
    def gradients(key):
        model = BUILDERS[cls](key)
        free, rest = eqx.partition(model, eqx.is_inexact_array)
        # Layers that start at zero keep the gradient from those before them.
        free = jax.tree.map(lambda leaf: leaf + 0.3 * _waves(leaf.shape), free)

        def goal(free):
            outputs = jax.tree.leaves(call(eqx.combine(free, rest), "float32"))
            return sum(jnp.sum(output * _waves(output.shape)) for output in outputs)

        return jax.grad(goal)(free)

    found = jax.tree_util.tree_leaves_with_path(gradients(jax.random.key(7919)))
    assert found
    for path, leaf in found:
        name, size = jax.tree_util.keystr(path), float(jnp.max(jnp.abs(leaf)))
        if name not in (*FIXED, *WITHOUT_INFLUENCE.get(cls, ())):
            assert 1e-6 < size < np.inf, f"{name}: {size}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cls", CALLS, ids=lambda cls: cls.__name__)
def test_precision_is_kept(cls, dtype, x64):
    def run(key):
        free, rest = eqx.partition(BUILDERS[cls](key), eqx.is_inexact_array)
        free = jax.tree.map(lambda leaf: leaf.astype(dtype), free)
        return CALLS[cls](eqx.combine(free, rest), dtype)

    # The suite's strict promotion would raise where two precisions meet.
    answers = jax.tree.leaves(eqx.filter_eval_shape(run, jax.random.key(7919)))
    assert {str(answer.dtype) for answer in answers} == {dtype}


def _waves(shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(np.cos(1.0 + np.arange(np.prod(shape))).reshape(shape), jnp.float32)
