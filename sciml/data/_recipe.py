"""What a generated Navier-Stokes set consists of: equation, initial fields, times, precision."""

import dataclasses
import enum
from typing import Any

import jax
import numpy as np

from ..core import KeyArray, check_count, check_non_negative, check_positive
from ..problems import (
    NavierStokes2D,
    fno_forcing,
    gaussian_random_field,
    kolmogorov_forcing,
    kolmogorov_vorticity,
    mcwilliams_vorticity,
)


class Forcing(enum.Enum):
    """Steady source of vorticity."""

    NONE = "none"
    FNO = "fno"
    KOLMOGOROV = "kolmogorov"

    def field(self, n_points: tuple[int, int], domain_extent: float) -> jax.Array | None:
        """Return the forcing ``(1, x, y)`` on a grid, or None."""
        if self is Forcing.NONE:
            return None
        if self is Forcing.FNO:
            return fno_forcing(n_points, domain_extent)
        return kolmogorov_forcing(n_points, domain_extent)


class InitialField(enum.Enum):
    """Random vorticity that a trajectory starts from, before the warm-up."""

    GAUSSIAN_RANDOM_FIELD = "Gaussian random field, amplitude of the public FNO files"
    MCWILLIAMS = "McWilliams isotropic turbulence"
    KOLMOGOROV = "Kolmogorov flow, log-normal spectrum"

    def draw(self, n_points: tuple[int, int], domain_extent: float, key: KeyArray) -> jax.Array:
        """Return one field ``(1, x, y)``."""
        if self is InitialField.GAUSSIAN_RANDOM_FIELD:
            return gaussian_random_field(n_points, domain_extent, key=key)
        if self is InitialField.MCWILLIAMS:
            return mcwilliams_vorticity(n_points, domain_extent, key=key)
        return kolmogorov_vorticity(n_points, domain_extent, key=key)


@dataclasses.dataclass(frozen=True)
class NavierStokesRecipe:
    r"""How one trajectory of the vorticity equation is made.

    The equation is that of `sciml.problems.NavierStokes2D` on a periodic square. A random
    initial field is marched by ETDRK4 for ``warm_up`` without being recorded, and then recorded
    every ``dt``, the state after the warm-up first. The defaults are the benchmark of the
    Fourier neural operator, with smooth flows after the warm-up.

    Parameters
    ----------
    n_points
        Points along each of the two axes.
    viscosity
        Kinematic viscosity, in length squared over time.
    dt
        Time between snapshots.
    n_snapshots
        Snapshots a trajectory.
    solver_dt
        Time step of the solver; it divides ``dt`` and ``warm_up``. With the default viscosity
        and forcing, 0.1 leaves an error of about 1e-7.
    warm_up
        Time before the first snapshot, in which the random field becomes a flow.
    forcing
        A member of `Forcing`.
    initial_field
        A member of `InitialField`. McWilliams and Kolmogorov flows usually live on a square of
        side :math:`2 \pi`.
    drag
        Linear (Rayleigh) drag, one over time.
    domain_extent
        Side of the square.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range, or ``solver_dt`` does not divide the times.

    Examples
    --------
    >>> NavierStokesRecipe(dt=0.2, solver_dt=0.1).steps_per_snapshot
    2
    """

    n_points: int = 64
    viscosity: float = 1e-3
    dt: float = 0.2
    n_snapshots: int = 64
    solver_dt: float = 0.1
    warm_up: float = 10.0
    forcing: Forcing = Forcing.FNO
    initial_field: InitialField = InitialField.GAUSSIAN_RANDOM_FIELD
    drag: float = 0.0
    domain_extent: float = 1.0

    def __post_init__(self):
        check_count("n_points", self.n_points, minimum=4)
        check_count("n_snapshots", self.n_snapshots)
        for name in ("viscosity", "dt", "solver_dt", "domain_extent"):
            check_positive(name, getattr(self, name))
        for name in ("warm_up", "drag"):
            check_non_negative(name, getattr(self, name))
        for name, kind in (("forcing", Forcing), ("initial_field", InitialField)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"`{name}` must be a member of {kind.__name__} "
                    f"({', '.join(member.name for member in kind)}), got {getattr(self, name)!r}."
                )
        if self.steps_per_snapshot < 1:
            raise ValueError(f"`solver_dt` {self.solver_dt} is larger than `dt` {self.dt}.")
        for name in ("dt", "warm_up"):
            ratio = getattr(self, name) / self.solver_dt
            if abs(ratio - round(ratio)) > 1e-6 * max(ratio, 1.0):
                raise ValueError(
                    f"`{name}` must be a whole number of solver steps, got {getattr(self, name)} "
                    f"= {ratio:.6g} * {self.solver_dt}."
                )

    @property
    def steps_per_snapshot(self) -> int:
        """Solver steps between snapshots."""
        return round(self.dt / self.solver_dt)

    @property
    def warm_up_steps(self) -> int:
        """Solver steps before the first snapshot."""
        return round(self.warm_up / self.solver_dt)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of points along x and y."""
        return (self.n_points, self.n_points)

    def problem(self) -> NavierStokes2D:
        """Return the equation."""
        return NavierStokes2D(
            self.grid,
            viscosity=self.viscosity,
            domain_extent=self.domain_extent,
            drag=self.drag,
            forcing=self.forcing.field(self.grid, self.domain_extent),
        )

    def context(self) -> np.ndarray | None:
        """Return the forcing as ``(1, 1, x, y)``, or None."""
        forcing = self.forcing.field(self.grid, self.domain_extent)
        return None if forcing is None else np.asarray(forcing)[None]

    def as_attributes(self) -> dict[str, Any]:
        """Return what a dataset's other fields do not say, as strings and numbers."""
        return {
            "viscosity": self.viscosity,
            "drag": self.drag,
            "forcing": self.forcing.value,
            "solver_n_points": self.n_points,
            "solver_dt": self.solver_dt,
            "warm_up": self.warm_up,
            "equation": "2-D incompressible Navier-Stokes, vorticity form, periodic",
            "initial_field": self.initial_field.value,
        }
