"""Grids that are parted over devices: the solves of one device, and what goes between them."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import AxisType

from sciml.linear_solvers import aspreconditioner, cg
from sciml.problems import diffusion_operator

SCRIPT = r"""
import re
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec
from sciml.linear_solvers import MultigridPreconditioner, MultigridWeights, conjugate_gradient
from sciml.linear_solvers import _parted_levels
from sciml.linear_solvers._grid_blocks import grid_blocks
from sciml.linear_solvers._parted_levels import PartedStencil
from sciml.problems import Dirichlet, Neumann, Periodic, diffusion_operator

# The grid is small, and its coarse levels are parted all the same.
_parted_levels.LEAST_POINTS = 40
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
N = (24, 12)
BOTH = (True, True)
rng = np.random.default_rng(71)
mask = np.ones(N, bool)
mask[4:9, 3:6] = mask[15, ::3] = mask[16:20, 8] = False
coefficient = jnp.asarray(10.0 ** rng.uniform(-1, 1, N))
A = diffusion_operator(N, coefficient=coefficient, mask=mask, boundary=[Dirichlet(), Neumann()])
b = jnp.asarray(np.where(mask, rng.normal(size=N), 0))

def mesh_of(*shape):
    names = ("rows", "columns")[: len(shape)]
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))

def cycle(plan, mesh=None):
    return MultigridPreconditioner(
        A, MultigridWeights(), plan=plan, dtype=jnp.float64, mesh=mesh)

def solve(M):
    arrays, static = eqx.partition((A, M), eqx.is_array)

    def solution(arrays, b):
        A, M = eqx.combine(arrays, static)
        found = conjugate_gradient(A, b, preconditioner=M, rtol=1e-10, n_history=40)
        return found.value, found.stats

    compiled = jax.jit(solution).lower(arrays, b).compile()
    return *compiled(*jax.device_put((arrays, b), compiled.input_shardings[0])), compiled.as_text()

M = cycle((BOTH, BOTH), mesh_of(4))
alone, found = solve(cycle((BOTH, BOTH))), solve(M)
assert int(alone[1]["num_steps"]) == int(found[1]["num_steps"]) < 20, found[1]
np.testing.assert_allclose(found[0], alone[0], atol=1e-12 * np.abs(alone[0]).max())
histories = [each[1]["residual_history"] for each in (found, alone)]
np.testing.assert_allclose(*histories, rtol=1e-6)
assert found[0].sharding.spec == PartitionSpec("rows"), found[0]
text = found[2]

kinds = [(type(level.operator).__name__, type(level.interpolation).__name__)
         for level in M.hierarchy.levels]
assert kinds == [("PartedStencil", "PartedInterpolation"),
                 ("PartedStencil", "GatheredInterpolation")], kinds
gathered = re.findall(r"= (\S+?)\{\S* all-gather(?:-start)?\(", text)
assert gathered == ["f64[12,6]"], gathered
assert "all-to-all" not in text
moved = re.findall(r"= f64\[(\S*?)\]\S* collective-permute(?:-start)?\(", text)
# Each product fetches two planes. Four of a level, its interpolation and the next one's: two more.
assert set(moved) == {"1,1,12", "1,1,6"}, moved
assert moved.count("1,1,6") == 8 + 1, moved

# Blocks along both axes.
apply = eqx.filter_jit(lambda M, r: M(r))
alone, found = (apply(cycle((BOTH,), mesh), b) for mesh in (None, mesh_of(2, 2)))
np.testing.assert_allclose(found, alone, atol=1e-13 * np.abs(alone).max())
assert found.sharding.spec == PartitionSpec("rows", "columns"), found

# Around a seam, between devices and within one.
for shape in ((4,), (2, 2)):
    for boundary in ([Periodic(), Neumann()], [Neumann(), Periodic()]):
        A = diffusion_operator(N, coefficient=coefficient, mask=mask, boundary=boundary)
        grid = grid_blocks(mesh_of(*shape), N, A.periodic)
        product = jax.jit(lambda A, b: PartedStencil(A, grid).mv(b))(A, b)
        np.testing.assert_allclose(product, A.mv(b), atol=1e-13 * np.abs(A.mv(b)).max())

try:
    grid_blocks(mesh_of(4), (30, 12), A.periodic)
except ValueError as error:
    assert "30 points, which the 4 devices of the mesh axis 'rows' cannot share" in str(error)
else:
    raise AssertionError("30 rows were parted over four devices")
print("done")
"""


def test_four_devices_solve_as_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    # XLA's threads: with fewer than devices they can wait for each other for ever.
    environment = os.environ | {"XLA_FLAGS": flags, "NPROC": "8"}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.strip().endswith("done")


def _mesh(*shape):
    names = ("rows", "columns", "layers")[: len(shape)]
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))


def test_scipy_door_takes_the_mesh_of_the_preconditioner(matrix, b):
    M = aspreconditioner(matrix, mesh=_mesh(1, 1))
    assert M.preconditioner.mesh == _mesh(1, 1)
    expected, _ = cg(matrix, b, rtol=1e-9)
    for mesh in (None, _mesh(1, 1)):
        x, info = cg(matrix, b, M=M, rtol=1e-9, mesh=mesh)
        assert info == 0
        np.testing.assert_allclose(x, expected, atol=1e-7)


def test_unfit_meshes_are_named(matrix, b):
    operator = diffusion_operator((7, 9))
    on_one = aspreconditioner(operator)
    on_mesh = aspreconditioner(operator, mesh=_mesh(1))
    line = scipy.sparse.eye_array(63, format="csr")
    for call, error, message in (
        (lambda: cg(matrix, b, mesh=_mesh(1)), TypeError, "got an operator of the type Sparse"),
        (lambda: cg(operator, b, M=on_one, mesh=_mesh(1)), ValueError, "and has none: make it"),
        (lambda: cg(operator, b, M=on_mesh, mesh=_mesh(1, 1)), ValueError, "{'rows': 1}: make it"),
        (lambda: cg(operator, b, mesh=_mesh(1), callback=print), ValueError, "leave out `callb"),
        (lambda: aspreconditioner(operator, mesh=_mesh(1, 1, 1)), ValueError, "has 2 axes: take"),
        (lambda: aspreconditioner(line, mesh=_mesh(1)), ValueError, "on no structured grid"),
    ):
        with pytest.raises(error, match=message):
            call()
