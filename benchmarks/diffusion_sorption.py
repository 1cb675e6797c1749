"""The one-dimensional diffusion-sorption problem: our reference, and what the methods share.

``u_t = D / R(u) u_xx`` on 0 < x < 1, 0 < t <= 500, with the retardation factor
``R = 1 + (1 - phi) / phi rho k n u^(n - 1)``, ``u(0, t) = 1`` and a constant initial value ``u0``
from U(0, 0.2), as in PDEBench. **At the right end ``u = -D u_x``**, the sign that PDEBench's
generator has; the paper writes it with a plus. Time is in units of 500.

The reference is a finite-volume method of lines with SciPy's LSODA, 400 cells. The jump at the
corner (0, 0) is part of the problem.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from scipy.integrate import solve_ivp

from sciml.constraints import CoordinateBasis, Residual

D, HORIZON = 5e-4, 500.0
POROSITY, DENSITY, FREUNDLICH, EXPONENT = 0.29, 2880.0, 3.5e-4, 0.874
SORPTION = (1 - POROSITY) / POROSITY * DENSITY * FREUNDLICH * EXPONENT
LARGEST_START = 0.2


def retardation(u, power=np.power, root=np.sqrt):
    """Return R(u), guarded where u is zero or below."""
    positive = 0.5 * (u + root(u**2 + 4e-6))
    return 1 + SORPTION * power(positive, EXPONENT - 1)


@dataclasses.dataclass(frozen=True)
class Reference:
    """Solutions at cell centres: ``(starts, times, cells)``."""

    starts: np.ndarray
    times: np.ndarray
    x: np.ndarray
    values: np.ndarray


def reference(starts, n_cells: int = 400, n_times: int = 50) -> Reference:
    """Solve for constant initial values; the times are evenly spaced and end at 1."""
    dx = 1 / n_cells
    ratio = 2 * D / dx
    times = np.linspace(0, 1, n_times + 1)[1:]

    def rhs(_, u):
        slopes = np.empty(n_cells + 1)
        slopes[1:-1] = np.diff(u) / dx
        slopes[0] = (u[0] - 1.0) / (dx / 2)
        at_end = ratio / (1 + ratio) * u[-1]
        slopes[-1] = (at_end - u[-1]) / (dx / 2)
        return HORIZON * D / retardation(u) * np.diff(slopes) / dx

    values = []
    for start in starts:
        found = solve_ivp(
            rhs,
            (0.0, 1.0),
            np.full(n_cells, start),
            method="LSODA",
            t_eval=times,
            rtol=1e-7,
            atol=1e-9,
            lband=1,
            uband=1,
        )
        if not found.success:
            raise RuntimeError(found.message)
        values.append(found.y.T)
    return Reference(np.asarray(starts), times, (np.arange(n_cells) + 0.5) * dx, np.array(values))


class Features(eqx.Module):
    """A small network of time, place, initial value and, unless plain, similarity variables.

    Those are the error functions of a linear diffusion from both ends, inputs and first two basis
    functions.
    """

    mlp: eqx.nn.MLP
    plain: bool = eqx.field(static=True)

    def __init__(self, n_basis: int, *, width: int = 48, plain: bool = False, key):
        self.plain = plain
        self.mlp = eqx.nn.MLP(6, n_basis, width, 2, activation=jnp.tanh, key=key, dtype=jnp.float64)

    def __call__(self, x, u0):
        """Return the basis functions at (t, x)."""
        t, place = x[0], x[1]
        width = jnp.sqrt(4 * 0.06 * (t + 1e-4))
        left, right = erfc(place / width), erfc((1 - place) / width)
        if self.plain:
            left, right = jnp.zeros_like(left), jnp.zeros_like(right)
        inputs = jnp.stack([2 * t - 1, 2 * place - 1, left, right, 10 * u0 - 1, jnp.sqrt(t + 1e-4)])
        if self.plain:
            return self.mlp(inputs)
        return jnp.concatenate([jnp.stack([left, right]), self.mlp(inputs)[2:]])


def basis_of(net):
    """Return the basis; the initial value is the lift."""
    return CoordinateBasis(net, coordinates=("t", "x"), lift=lambda x, u0: u0)


def residuals(*, background: bool = False):
    """Return the blocks: equation, both ends, start; on demand some equation everywhere."""

    def equation(jet, x, u0):
        rate = HORIZON * D / retardation(jet["u"], jnp.power, jnp.sqrt)
        # The solution's time derivative grows like 1 / t at the corner.
        return jnp.sqrt(x[0] + 1e-3) * (jet["u_t"] - rate * jet["u_xx"])

    needs = ("u", "u_t", "u_xx")
    return [
        *(
            [Residual(equation, needs, name="background", everywhere=True, weight=0.2)]
            if background
            else []
        ),
        Residual(equation, needs),
        Residual(lambda j, x, u0: j["u"] - 1, ("u",), name="left", everywhere=True, weight=10.0),
        Residual(
            lambda j, x, u0: j["u"] + D * j["u_x"],
            ("u", "u_x"),
            name="right",
            everywhere=True,
            weight=10.0,
        ),
        Residual(lambda j, x, u0: j["u"] - u0, ("u",), name="start", everywhere=True, weight=10.0),
    ]


def points(n_interior: int, seed: int):
    """Return points of all blocks: dense towards t = 0 and both ends."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(size=n_interior) ** 2
    place = 0.5 - 0.5 * np.cos(np.pi * rng.uniform(size=n_interior))
    place = 0.5 * place + 0.5 * rng.uniform(size=n_interior)
    times = np.linspace(0.02, 1, 40) ** 2
    inner = np.linspace(0.02, 0.98, 40)
    return {
        "pde": jnp.asarray(np.stack([t, place], 1)),
        "left": jnp.asarray(np.stack([times, np.zeros(40)], 1)),
        "right": jnp.asarray(np.stack([times, np.ones(40)], 1)),
        "start": jnp.asarray(np.stack([np.zeros(40), inner], 1)),
    }


def relative_errors(predictions, truth: Reference, until: float = 1.0) -> np.ndarray:
    """Return the relative L2 error of each start over all times up to one."""
    kept = truth.times <= until + 1e-12
    wrong = np.linalg.norm((predictions - truth.values)[:, kept], axis=(1, 2))
    return wrong / np.linalg.norm(truth.values[:, kept], axis=(1, 2))


def evaluation_grid(truth: Reference):
    """Return all (t, x) of a reference as points."""
    grid = np.stack(np.meshgrid(truth.times, truth.x, indexing="ij"), -1)
    return jnp.asarray(grid.reshape(-1, 2))
