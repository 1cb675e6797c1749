"""Finite-volume diffusion: measured second order, exact layers, structure of the matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg

from sciml.problems._diffusion import boundary_source, diffusion_operator, pressure_operator
from sciml.problems._grid_boundaries import Dirichlet, Neumann, Periodic
from sciml.problems._mac_projection import close_walls, face_divergence, project_velocity


def centres(n_points):
    return np.meshgrid(*[(np.arange(n) + 0.5) / n for n in n_points], indexing="ij")


def solve_discrete(n_points, f, arguments, singular=False):
    """The discrete solution, by a direct solver; without mean if the matrix is singular."""
    operator = diffusion_operator(n_points, **arguments)
    b = np.asarray(f + boundary_source(n_points, **arguments)).ravel()
    matrix = operator.to_scipy().tocsc()
    if not singular:
        return scipy.sparse.linalg.spsolve(matrix, b).reshape(n_points)
    u = np.zeros(b.size)
    u[1:] = scipy.sparse.linalg.spsolve(matrix[1:, 1:], (b - b.mean())[1:])
    return (u - u.mean()).reshape(n_points)


def manufactured(case, n):
    """Return sizes, arguments, source, exact values at the centres, and whether singular."""
    e = np.exp
    if case == "dirichlet":
        (x, y), shape = centres((n, 5 * n // 4)), (n, 5 * n // 4)
        s, t = centres((shape[1],))[0], centres((shape[0],))[0]
        u = e(x) * np.sin(2 * y + 0.3)
        faces = [
            (Dirichlet(np.sin(2 * s + 0.3)), Dirichlet(np.e * np.sin(2 * s + 0.3))),
            (Dirichlet(e(t) * np.sin(0.3)), Dirichlet(e(t) * np.sin(2.3))),
        ]
        return shape, {"boundary": faces}, 3 * u, u, False
    if case == "neumann":
        (x, y), shape = centres((n, n)), (n, n)
        t = centres((n,))[0]
        u = np.cos(np.pi * x) + y**3
        faces = [Neumann(), (Neumann(0 * t), Neumann(3.0))]
        return shape, {"boundary": faces}, np.pi**2 * np.cos(np.pi * x) - 6 * y, u - u.mean(), True
    if case == "mixed":
        (x, y), shape = centres((n, n)), (n, n)
        t = centres((n,))[0]
        u = np.sin(x) * e(y)
        faces = [
            (Dirichlet(0.0), Neumann(np.cos(1.0) * e(t))),
            (Neumann(-np.sin(t)), Dirichlet(np.sin(t) * np.e)),
        ]
        return shape, {"boundary": faces}, 0 * u, u, False
    if case == "periodic":
        (x, y), shape = centres((n, 2 * n)), (n, 2 * n)
        u = np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y)
        f = 4 * np.pi**2 * (1 + 1 / 4) * u
        return shape, {"boundary": Periodic(), "domain_extent": (1.0, 2.0)}, f, u, True
    if case == "coefficient":
        (x, y), shape = centres((n, n)), (n, n)
        u, k = np.sin(np.pi * x) * np.sin(np.pi * y), 1 + x + y**2
        gradient = np.pi * np.cos(np.pi * x) * np.sin(np.pi * y)
        gradient_y = np.pi * np.sin(np.pi * x) * np.cos(np.pi * y)
        f = 2 * np.pi**2 * k * u - gradient - 2 * y * gradient_y
        return shape, {"coefficient": k}, f, u, False
    if case == "tensor":
        (x, y), shape = centres((n, n)), (n, n)
        u = np.sin(np.pi * x) * np.sin(np.pi * y)
        gradient = np.pi * np.cos(np.pi * x) * np.sin(np.pi * y)
        f = np.pi**2 * ((1 + x) + 100 * e(x)) * u - gradient
        tensor = np.stack([1 + x, e(x)])
        return shape, {"coefficient": tensor, "axis_weights": (1, 100)}, f, u, False
    (x, y, z), shape = centres((n, n, n)), (n, n, n)
    u = np.sin(np.pi * x) * np.cos(np.pi * y) * np.cos(2 * np.pi * z)
    faces = [Dirichlet(), Neumann(), Periodic()]
    return shape, {"boundary": faces, "axis_weights": (1, 2, 3)}, np.pi**2 * 15 * u, u, False


@pytest.mark.parametrize(
    "case", ["dirichlet", "neumann", "mixed", "periodic", "coefficient", "tensor", "three"]
)
def test_second_order(case, x64):
    errors = []
    for n in (8, 16) if case == "three" else (12, 24, 48):
        shape, arguments, f, exact, singular = manufactured(case, n)
        u = solve_discrete(shape, f, arguments, singular)
        errors.append(np.abs(u - exact).max())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 0.02
    np.testing.assert_allclose(orders, 2.0, atol=0.35)
    np.testing.assert_allclose(orders[-1], 2.0, atol=0.2)


def test_layers_are_exact(x64):
    """Jumps of 1e6 at faces: the solution is piecewise linear, and the scheme finds it."""
    k = np.repeat([1.0, 1e-3, 1e3, 0.5], [3, 2, 4, 1])
    length, n = 2.5, k.size
    h = length / n
    for low, high, flux in (
        (Dirichlet(2.0), Dirichlet(-1.0), None),
        (Dirichlet(2.0), Neumann(0.7), 0.7),
    ):
        arguments = {"coefficient": k, "domain_extent": length, "boundary": [(low, high)]}
        resistance = h / k
        if flux is None:
            flux = (-1.0 - 2.0) / resistance.sum()
        exact = 2.0 + flux * (np.cumsum(resistance) - resistance / 2)
        u = solve_discrete((n,), np.zeros(n), arguments)
        np.testing.assert_allclose(u, exact, rtol=1e-9, atol=1e-9)


def random_setup(shape, rng):
    mask = rng.random(shape) > 0.3
    k = rng.uniform(0.5, 2, size=(len(shape), *shape))
    faces = [Periodic(), (Dirichlet(), Neumann()), Dirichlet()][: len(shape)]
    return {
        "mask": mask,
        "coefficient": k,
        "boundary": faces,
        "axis_weights": (1, 20, 3)[: len(shape)],
        "obstacle": Dirichlet(),
    }


@pytest.mark.parametrize("shape", [(7,), (6, 5), (3, 4, 5)])
def test_matrix(shape, x64):
    """`mv` is the matrix; it is symmetric, semidefinite and empty in solid cells."""
    rng = np.random.default_rng(9041)
    arguments = random_setup(shape, rng)
    operator = diffusion_operator(shape, **arguments)
    matrix = operator.to_scipy().toarray()
    u = rng.normal(size=shape)
    np.testing.assert_allclose(operator.mv(jnp.asarray(u)).ravel(), matrix @ u.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-10
    solid = ~arguments["mask"].ravel()
    assert not matrix[solid].any()
    # A fluid cell loses what its faces to solid cells and to the box let out, and nothing else.
    arguments["obstacle"] = Neumann()
    arguments["boundary"] = [Periodic(), Neumann(), Neumann()][: len(shape)]
    closed = diffusion_operator(shape, **arguments)
    np.testing.assert_allclose(closed.mv(jnp.ones(shape)), 0, atol=1e-9)


def test_against_a_loop(x64):
    """Every entry and every boundary term, written out cell by cell."""
    rng = np.random.default_rng(377)
    shape, extent, weights = (4, 3), (2.0, 0.5), (1.0, 7.0)
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]], bool)
    k = rng.uniform(0.5, 2, size=shape)
    low, high = rng.normal(size=3), rng.normal(size=4)
    held = rng.normal(size=shape)
    arguments = {
        "domain_extent": extent,
        "coefficient": k,
        "axis_weights": weights,
        "mask": mask,
        "boundary": [(Dirichlet(low), Neumann(0.4)), (Neumann(-0.2), Dirichlet(high))],
        "obstacle": Dirichlet(held),
    }
    matrix, source = np.zeros((12, 12)), np.zeros(shape)
    for i, j in np.ndindex(shape):
        row = 3 * i + j
        for axis, step in ((0, -1), (0, 1), (1, -1), (1, 1)):
            if not mask[i, j]:
                continue
            h, w = extent[axis] / shape[axis], weights[axis]
            a, b = (i + step, j) if axis == 0 else (i, j + step)
            half = 2 * w * k[i, j] / h**2
            value = None
            if 0 <= a < 4 and 0 <= b < 3:
                if mask[a, b]:
                    face = w / h**2 * 2 / (1 / k[i, j] + 1 / k[a, b])
                    matrix[row, row] += face
                    matrix[row, 3 * a + b] -= face
                    continue
                value = held[a, b]
            elif (axis, step) == (0, -1):
                value = low[j]
            elif (axis, step) == (1, 1):
                value = high[i]
            if value is None:
                source[i, j] += (0.4 if axis == 0 else -0.2) / h
            else:
                matrix[row, row] += half
                source[i, j] += half * value
    operator = diffusion_operator(shape, **arguments)
    np.testing.assert_allclose(operator.to_scipy().toarray(), matrix, rtol=1e-13)
    np.testing.assert_allclose(boundary_source(shape, **arguments), source, rtol=1e-13)


def test_jit_grad_and_dtype(x64):
    """The assembly traces, differentiates in the coefficient, and keeps the precision."""
    rng = np.random.default_rng(61)
    k, u = jnp.asarray(rng.uniform(0.5, 2, (4, 5))), jnp.asarray(rng.normal(size=(4, 5)))
    mask = jnp.asarray(rng.random((4, 5)) > 0.3)

    def energy(k):
        return jnp.vdot(u, diffusion_operator((4, 5), coefficient=k, mask=mask).mv(u))

    direction = jnp.asarray(rng.normal(size=(4, 5)))
    gradient = jax.jit(jax.grad(energy))(k)
    difference = (energy(k + 1e-6 * direction) - energy(k - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-7)
    assert not np.asarray(gradient)[~np.asarray(mask)].any()
    single = diffusion_operator((4, 5), coefficient=k.astype(jnp.float32))
    assert single.dtype == jnp.float32
    assert pressure_operator(mask).dtype == jnp.float64
    assert pressure_operator(mask, dtype=jnp.float32).dtype == jnp.float32


@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3)])
@pytest.mark.parametrize("faces", ["walls", "open", "periodic"])
def test_projection(shape, faces, x64):
    """What the pressure operator is for: no divergence is left, and closed faces stay closed."""
    rng = np.random.default_rng(88)
    mask = rng.random(shape) > 0.2
    boundary = {
        "walls": [Neumann()] * len(shape),
        "open": [(Neumann(), Dirichlet(0.3)), *([Neumann()] * (len(shape) - 1))],
        "periodic": [Periodic(), *([Neumann()] * (len(shape) - 1))],
    }[faces]
    velocity = []
    for axis in range(len(shape)):
        u = rng.normal(size=tuple(n + (a == axis) for a, n in enumerate(shape)))
        first, last = [(slice(None),) * axis + (end,) for end in (0, -1)]
        if axis == 0 and faces == "open":
            u[first] = 0
        elif axis == 0 and faces == "periodic":
            u[last] = u[first]
        else:
            u[first] = u[last] = 0
        velocity.append(jnp.asarray(u))
    velocity = close_walls(velocity, mask, boundary=boundary)
    operator = pressure_operator(mask, boundary=boundary)
    b = -face_divergence(velocity, mask) + boundary_source(
        shape, domain_extent=shape, mask=mask, boundary=boundary
    )
    pressure = np.linalg.lstsq(operator.to_scipy().toarray(), np.asarray(b).ravel(), rcond=None)[0]
    pressure = jnp.asarray(pressure.reshape(shape))
    projected = project_velocity(velocity, pressure, mask, boundary=boundary)
    assert float(jnp.abs(face_divergence(velocity, mask)).max()) > 0.5
    np.testing.assert_allclose(face_divergence(projected, mask), 0, atol=1e-11)
    for before, after in zip(
        projected, close_walls(projected, mask, boundary=boundary), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_moving_walls(x64):
    """The obstacles' own velocity is imposed on their faces only."""
    mask = jnp.array([[True, True, False, True]])
    velocity = (jnp.zeros((2, 4)), jnp.zeros((1, 5)))
    moving = (jnp.full((2, 4), 3.0), jnp.full((1, 5), 2.0))
    closed = close_walls(velocity, mask, moving)
    np.testing.assert_array_equal(closed[1], [[0, 0, 2, 2, 0]])
    np.testing.assert_array_equal(closed[0], [[0, 0, 3, 0]] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coefficient": -1.0}, "coefficient"),
        ({"coefficient": np.array([[1.0, 1.0], [1.0, 0.0]])}, "smallest entry is 0"),
        ({"coefficient": np.ones((3, 2))}, "axis 0 of `coefficient`"),
        ({"mask": np.zeros((2, 2), bool)}, "no fluid cells"),
        ({"mask": np.ones((2, 3), bool)}, "axis 1 of `mask`"),
        ({"boundary": [Dirichlet()]}, "2 entries"),
        ({"boundary": [(Periodic(), Dirichlet()), Dirichlet()]}, "one face only"),
        ({"boundary": Periodic()}, "3 points"),
        ({"axis_weights": (1,)}, "one entry an axis"),
        ({"axis_weights": (1, 0)}, "axis_weights"),
    ],
)
def test_misuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        diffusion_operator((2, 2), **arguments)


def test_misuse_of_boundaries():
    with pytest.raises(TypeError, match="boundary"):
        diffusion_operator((2, 2), boundary=[(Dirichlet(), Neumann(), Neumann()), Dirichlet()])
    with pytest.raises(TypeError, match="`obstacle`"):
        diffusion_operator((2, 2), obstacle=Periodic())
    with pytest.raises(ValueError, match="axis 0 of `boundary`"):
        boundary_source((2, 3), boundary=[Dirichlet(np.ones(2)), Dirichlet()])
    # A zero in a solid cell is nobody's coefficient.
    k = np.array([[1.0, 1.0], [1.0, 0.0]])
    operator = diffusion_operator((2, 2), coefficient=k, mask=k > 0)
    assert np.isfinite(operator.to_scipy().toarray()).all()
