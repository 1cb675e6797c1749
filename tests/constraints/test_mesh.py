"""Least squares inside `jax.shard_map`: the points of one problem on several devices."""

import os
import subprocess
import sys

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from sciml.constraints import (
    ImplicitAdjoint, LevenbergMarquardt, NormalForm, OnFailure, least_squares)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
mesh = jax.make_mesh((2, 2), ("point", "problem"), axis_types=(AxisType.Auto,) * 2)
t = jnp.linspace(0.0, 2.0, 20)
data = jnp.stack([3 * jnp.exp(-rate * t) + 0.1 * jnp.sin(9 * t) for rate in (1.5, 0.7)])
START = jnp.array([1.0, 0.5, 0.1])


def fitted(t, data, shared, options, unit=1.0, axis_name=None):
    def residual(w, points, rate):
        # Closes over what all devices share.
        rows = shared * w[0] * jnp.exp(-rate * w[1] * points[0]) + w[2] - points[1]
        return unit * rows

    points, rate = (t, data), jnp.asarray(0.9, t.dtype)
    return least_squares(
        residual, START.astype(t.dtype), points, rate, throw=False, axis_name=axis_name, **options)


def alone(t, data, shared, options, unit=1.0):
    return jnp.stack([fitted(t, each, shared, options, unit).value for each in data])


def parted(t, data, shared, options, unit=1.0):
    def on_device(t, data, shared):
        found = fitted(t, data[0], shared, options, unit, "point")
        return found.value[None], found.stats["residual_norm"][None]

    specs = (P("point"), P("problem", "point"), P())
    found = jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=P("problem"))
    value, norms = found(t, data, shared)
    assert norms.shape == (2,)
    return value


SHARED = jnp.asarray(0.8)
GRAM = LevenbergMarquardt(form=NormalForm.gram)
for options in ({"chunk": 4}, {"solver": GRAM, "fixed": jnp.array([False, False, True])}):
    found = []
    for fit in (alone, parted):
        def loss(*inputs, fit=fit):
            value = fit(*inputs, options)
            return jnp.sum(value**2), value
        found.append(jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(t, data, SHARED))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-8, atol=1e-10, err_msg=str(options))
        assert jnp.any(one != 0)

# Forwards.
def along(fit):
    def moved(offset):
        return fit(t + offset, data * (1 + offset), SHARED + offset, {"solver": GRAM})
    return jax.jit(lambda: jax.jvp(moved, (jnp.asarray(0.0),), (jnp.asarray(1.0),))[1])()

np.testing.assert_allclose(along(parted), along(alone), rtol=1e-8, atol=1e-10)

# One of the two problems fails: the slope of what both share is not known, and says so; without
# the failed one it is that of the other.
def slope(on_failure):
    adjoint = ImplicitAdjoint(on_failure=on_failure)
    few = {"solver": LevenbergMarquardt(max_steps=1, newton_steps=0), "adjoint": adjoint}
    # The start solves the first.
    solved = data.at[0].set(SHARED * jnp.exp(-0.45 * t) + 0.1)
    def loss(shared, fit=parted, data=solved):
        return jnp.sum(fit(t, data, shared, few) ** 2)
    return jax.jit(jax.grad(loss))(SHARED), jax.grad(loss)(SHARED, alone, solved[:1])

assert jnp.isnan(slope(OnFailure.nan)[0])
other, expected = slope(OnFailure.zero)
np.testing.assert_allclose(other, expected, rtol=1e-8)
assert expected != 0

# In a unit whose squares float32 cannot hold; the rows of each device have a size of their own.
inputs = [x.astype(jnp.float32) for x in (t, data, SHARED)]
one, other = (jax.jit(lambda *x: fit(*x, {"chunk": 4}, 1e-20))(*inputs) for fit in (alone, parted))
np.testing.assert_allclose(other, one, rtol=1e-3)


# A function that closes over points of its own device only, and points that say which.
def by_index(t, data):
    def on_device(t, data):
        def residual(w, rows, _):
            return w[0] * jnp.exp(-w[1] * t[rows]) - data[rows]
        rows = jnp.arange(t.shape[0])
        return least_squares(residual, START[:2], rows, axis_name="point", throw=False).value
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(P("point"), P("point")), out_specs=P())(t, data)

expected = least_squares(
    lambda w, p, _: w[0] * jnp.exp(-w[1] * p[0]) - p[1], START[:2], (t, data[0])).value
np.testing.assert_allclose(jax.jit(by_index)(t, data[0]), expected, rtol=1e-8)
print("all equal")
"""


def test_points_on_several_devices_change_nothing():
    """Values, residuals and derivatives are those of one device."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        # XLA's threads: with fewer than devices they can wait for each other for ever.
        env=os.environ | {"XLA_FLAGS": flags, "NPROC": "8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "all equal"
