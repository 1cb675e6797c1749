r"""The material point method with affine velocities (MLS-MPM, APIC) and quadratic weights.

Particles carry mass, velocity, its gradient C and the deformation F. In each step they give

.. math:: m_i v_i = \sum_p w_{ip} \left( m_p v_p + \left( m_p C_p
          - \Delta t \tfrac{4}{h^2} V_p \tau_p \right) (x_i - x_p) \right)

to the nodes of a grid, gravity and walls act there, and they take velocity and gradient back.
Mass, momentum and angular momentum are conserved to round-off but for gravity and walls.
"""

import enum
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ...core import (
    RealScalar,
    check_count,
    check_finite,
    check_floating,
    check_positive,
    check_shape,
    cites,
    real_dtype,
)
from ...numerics import full_precision
from ._materials import AbstractMaterial

# Nodes beyond each face: a particle at the face must have its whole stencil.
_MARGIN = 2
# Part of the time that a wave takes from node to node which a step may use; the limit was measured
# to lie above 1 for all materials (tests/problems/test_material_points.py).
_COURANT = 0.6


class Wall(enum.Enum):
    """What a face of the box does to the velocity of the particles there."""

    SLIP = "nothing passes, sliding is free"
    STICKY = "nothing passes and nothing slides"
    OPEN = "there is no wall; particles must not come closer than two cells"


class ParticleState(eqx.Module):
    """Particles at one time.

    Attributes
    ----------
    position, velocity
        ``(particle, dim)``.
    affine
        The gradient of the velocity around a particle, ``(particle, dim, dim)``.
    deformation
        The remembered deformation gradient, ``(particle, dim, dim)``.
    memory
        A number that the material keeps.
    mass, volume
        Of each particle, at rest. A particle without mass drifts along and changes nothing.
    particle_type
        Index into the materials.
    """

    position: Float[Array, "p d"]
    velocity: Float[Array, "p d"]
    affine: Float[Array, "p d d"]
    deformation: Float[Array, "p d d"]
    memory: Float[Array, " p"]
    mass: Float[Array, " p"]
    volume: Float[Array, " p"]
    particle_type: Int[Array, " p"]


@cites(
    """@article{hu2018mlsmpm,
  author = {Hu, Yuanming and Fang, Yu and Ge, Ziheng and Qu, Ziyin and Zhu, Yixin and
            Pradhana, Andre and Jiang, Chenfanfu},
  title = {A Moving Least Squares Material Point Method with Displacement Discontinuity and
           Two-Way Rigid Body Coupling},
  journal = {ACM Transactions on Graphics},
  volume = {37},
  number = {4},
  year = {2018}
}""",
    """@article{jiang2015apic,
  author = {Jiang, Chenfanfu and Schroeder, Craig and Selle, Andrew and Teran, Joseph and
            Stomakhin, Alexey},
  title = {The Affine Particle-in-Cell Method},
  journal = {ACM Transactions on Graphics},
  volume = {34},
  number = {4},
  year = {2015}
}""",
)
class MaterialPointMethod(eqx.Module):
    """Water, elastic bodies and sand in a box of two or three dimensions.

    Particles stay inside the box as long as none passes a cell in a step.

    Parameters
    ----------
    materials
        One a particle type.
    cell_size
        Distance of the nodes. Two particles a cell along each axis is usual.
    bounds
        Lower and upper end of the box along each axis, whole numbers of cells apart. The last axis
        points upwards.
    gravity
        Downward acceleration.
    walls
        What the faces of the box do.
    floor
        What the lower face does; by default the same as the walls.

    Raises
    ------
    ValueError
        If there is no material, the box is not of whole cells, or has neither two nor three
        dimensions.

    References
    ----------
    .. [1] Hu et al., "A moving least squares material point method with displacement discontinuity
       and two-way rigid body coupling", ACM Transactions on Graphics 37(4), 2018.
    .. [2] Jiang et al., "The affine particle-in-cell method", ACM Transactions on Graphics 34(4),
       2015.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import MaterialPointMethod, Water, march_particles
    >>> method = MaterialPointMethod([Water()], cell_size=1 / 16)
    >>> state = method.state(jnp.array([[0.5, 0.5], [0.5, 0.53]]), spacing=1 / 32)
    >>> march_particles(method, state, dt=0.01, n_frames=3).value.shape
    (4, 2, 2)
    """

    materials: tuple[AbstractMaterial, ...]
    cell_size: float = eqx.field(static=True)
    bounds: tuple[tuple[float, float], ...] = eqx.field(static=True)
    gravity: Float[Array, ""]
    walls: Wall = eqx.field(static=True)
    floor: Wall = eqx.field(static=True)

    def __init__(
        self,
        materials: Sequence[AbstractMaterial],
        *,
        cell_size: float,
        bounds: Sequence[Sequence[float | int]] = ((0.0, 1.0), (0.0, 1.0)),
        gravity: RealScalar = 9.8,
        walls: Wall = Wall.SLIP,
        floor: Wall | None = None,
    ):
        self.materials = tuple(materials)
        if not self.materials:
            raise ValueError("`materials` is empty; give one a particle type.")
        for material in self.materials:
            if not isinstance(material, AbstractMaterial):
                raise TypeError(f"`materials` must hold materials such as Water(), got {material}.")
        check_positive("cell_size", cell_size)
        check_finite("bounds", bounds)
        self.bounds = tuple((float(a), float(b)) for a, b in bounds)
        if len(self.bounds) not in (2, 3):
            raise ValueError(f"`bounds` must have two or three axes, got {len(self.bounds)}.")
        for axis, (low, high) in enumerate(self.bounds):
            cells = (high - low) / cell_size
            if not (round(cells) >= 3 and abs(cells - round(cells)) < 1e-6 * cells):
                raise ValueError(
                    f"axis {axis} of `bounds` must be a whole number of cells, at least 3; "
                    f"({high:g} - {low:g}) / {cell_size:g} = {cells:.6g}."
                )
        check_finite("gravity", gravity)
        for name, wall in (("walls", walls), ("floor", floor)):
            if not isinstance(wall, Wall) and not (name == "floor" and wall is None):
                raise TypeError(f"`{name}` must be a member of `Wall`, got {wall!r}.")
        self.cell_size = float(cell_size)
        self.gravity = jnp.asarray(gravity, real_dtype())
        self.walls = walls
        self.floor = walls if floor is None else floor

    @property
    def dim(self) -> int:
        """2 or 3."""
        return len(self.bounds)

    @property
    def n_nodes(self) -> tuple[int, ...]:
        """Nodes along each axis, at the centres of the cells, with a margin of two."""
        return tuple(round((b - a) / self.cell_size) + 2 * _MARGIN for a, b in self.bounds)

    def largest_step(self) -> float:
        """Return a time step within the stability limits of all materials at rest.

        A step of ``dt`` takes the part ``8 nu dt / h^2`` of a particle's rate of strain away, which
        must stay below two; with waves at the same time the rates add.
        """
        h = self.cell_size
        rates = [
            float(material.wave_speed()) / h + 4 * float(material.kinematic_viscosity()) / h**2
            for material in self.materials
        ]
        return _COURANT / max(rates)

    def state(
        self,
        position: Float[Array, "p d"] | np.ndarray,
        *,
        spacing: float,
        velocity: Float[Array, "p d"] | np.ndarray | None = None,
        particle_type: Int[Array, " p"] | np.ndarray | None = None,
    ) -> ParticleState:
        """Return particles at rest density and without strain.

        Parameters
        ----------
        position
            Inside the box.
        spacing
            Distance of neighbours: a particle fills ``spacing`` to the power of the dimension.
        velocity
            At rest by default.
        particle_type
            Index into the materials, 0 by default.

        Raises
        ------
        ValueError
            If a particle lies outside the box, or a type has no material.
        """
        check_positive("spacing", spacing)
        check_floating("position", position)
        check_finite("position", position)
        x = jnp.asarray(position)
        n, d = x.shape if x.ndim == 2 else (0, 0)
        check_shape("position", x, ("particle", self.dim))
        check_count("the number of particles", n)
        if not isinstance(position, Tracer):
            self._check_inside(np.asarray(position))
        v = jnp.zeros_like(x) if velocity is None else jnp.asarray(velocity, x.dtype)
        check_shape("velocity", v, (n, d))
        check_finite("velocity", v)
        types = np.zeros(n, np.int32) if particle_type is None else np.asarray(particle_type)
        check_shape("particle_type", types, (n,))
        if types.dtype.kind not in "iu":
            raise TypeError(f"`particle_type` must hold integers, got dtype {types.dtype}.")
        if types.min() < 0 or types.max() >= len(self.materials):
            raise ValueError(
                f"`particle_type` must lie between 0 and {len(self.materials) - 1}, one number a "
                f"material; got {types.min()} to {types.max()}."
            )
        density = jnp.stack([m.density for m in self.materials]).astype(x.dtype)[types]
        volume = jnp.full(n, spacing**d, x.dtype)
        return ParticleState(
            x,
            v,
            jnp.zeros((n, d, d), x.dtype),
            jnp.broadcast_to(jnp.eye(d, dtype=x.dtype), (n, d, d)),
            jnp.zeros(n, x.dtype),
            density * volume,
            volume,
            jnp.asarray(types, jnp.int32),
        )

    @full_precision
    def step(self, state: ParticleState, dt: Float[Array, ""]) -> ParticleState:
        """Return the particles one step later; pure, for use inside `jax.jit`.

        Parameters
        ----------
        state
            The particles now.
        dt
            The step; `largest_step` is a safe one.
        """
        h, x, dtype = self.cell_size, state.position, state.position.dtype
        d = x.shape[1]
        nodes, weights, offsets = self._stencil(x)
        stress = self._by_type(
            state, lambda material: material.stress(state.deformation, state.affine)
        )
        scale = (4 / h**2) * dt.astype(dtype) * state.volume
        affine = state.mass[:, None, None] * state.affine - scale[:, None, None] * stress
        momentum = (state.mass[:, None] * state.velocity)[:, None] + jnp.einsum(
            "pij,pkj->pki", affine, offsets
        )
        mass = jnp.broadcast_to(state.mass[:, None, None], (*nodes.shape, 1))
        rows = weights[..., None] * jnp.concatenate([momentum, mass], -1)
        grid = jnp.zeros((math.prod(self.n_nodes), d + 1), dtype)
        grid = grid.at[nodes.reshape(-1)].add(rows.reshape(-1, d + 1))
        heavy = grid[:, d:] > 0
        velocity = jnp.where(heavy, grid[:, :d] / jnp.where(heavy, grid[:, d:], 1), 0)
        velocity = velocity.at[:, d - 1].add(-dt.astype(dtype) * self.gravity.astype(dtype))
        velocity = self._apply_walls(velocity)
        seen = weights[..., None] * velocity[nodes]
        v = jnp.sum(seen, 1)
        c = (4 / h**2) * jnp.einsum("pki,pkj->pij", seen, offsets)
        eye = jnp.eye(d, dtype=dtype)[None]
        trial = (eye + dt.astype(dtype) * c) @ state.deformation
        deformation, memory = self._by_type(
            state, lambda material: material.relax(trial, state.memory)
        )
        x = x + dt.astype(dtype) * v
        return ParticleState(
            x, v, c, deformation, memory, state.mass, state.volume, state.particle_type
        )

    def momentum(self, state: ParticleState) -> Float[Array, " d"]:
        """Return the sum of mass times velocity."""
        return jnp.sum(state.mass[:, None] * state.velocity, 0)

    def angular_momentum(self, state: ParticleState) -> Float[Array, "..."]:
        """Return the angular momentum about the origin, with that of the gradients.

        A number in two dimensions, a vector in three.
        """
        inner = self.cell_size**2 / 4
        x, v = state.position, state.velocity
        tensor = x[:, None, :] * v[:, :, None] + inner * state.affine
        tensor = jnp.sum(state.mass[:, None, None] * tensor, 0)
        if x.shape[1] == 2:
            return tensor[1, 0] - tensor[0, 1]
        rotation = tensor - tensor.T
        return jnp.stack([rotation[2, 1], rotation[0, 2], rotation[1, 0]])

    def _check_inside(self, position: np.ndarray) -> None:
        low, high = np.array(self.bounds).T
        outside = ~((position >= low) & (position <= high)).all(-1)
        if outside.any():
            worst = int(np.argmax(outside))
            raise ValueError(
                f"{int(outside.sum())} particles lie outside the box {self.bounds}; the first is "
                f"number {worst} at {position[worst].tolist()}."
            )

    def _stencil(
        self, x: Float[Array, "p d"]
    ) -> tuple[Int[Array, "p k"], Float[Array, "p k"], Float[Array, "p k d"]]:
        """Return flat indices of the 3^d nodes around each particle, weights, and offsets."""
        h, d = self.cell_size, x.shape[1]
        low = jnp.asarray([a for a, _ in self.bounds], x.dtype)
        s = (x - low[None]) / h + (_MARGIN - 0.5)
        top = jnp.asarray(self.n_nodes, x.dtype) - 3
        base = jnp.clip(jnp.floor(s - 0.5), 0, top[None])
        f = s - base
        one_axis = jnp.stack([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1) ** 2, 0.5 * (f - 0.5) ** 2], 1)
        shifts = np.array(list(itertools.product(range(3), repeat=d)))
        weights = jnp.ones((len(x), len(shifts)), x.dtype)
        for axis in range(d):
            weights = weights * one_axis[:, shifts[:, axis], axis]
        offsets = (jnp.asarray(shifts, x.dtype)[None] - f[:, None]) * h
        strides = np.cumprod([1, *self.n_nodes[:0:-1]])[::-1].copy()
        flat = base.astype(jnp.int32) @ jnp.asarray(strides, jnp.int32)
        reach = jnp.asarray(shifts @ strides, jnp.int32)
        return flat[:, None] + reach[None], weights, offsets

    def _apply_walls(self, velocity: Float[Array, "nodes d"]) -> Float[Array, "nodes d"]:
        d = self.dim
        v = velocity.reshape(*self.n_nodes, d)
        for axis, n in enumerate(self.n_nodes):
            shape = [n if a == axis else 1 for a in range(d)]
            index = np.arange(n).reshape(shape)
            for is_low, face in ((True, index <= _MARGIN), (False, index >= n - 1 - _MARGIN)):
                wall = self.floor if is_low and axis == d - 1 else self.walls
                if wall is Wall.STICKY:
                    v = jnp.where(face[..., None], 0, v)
                elif wall is Wall.SLIP:
                    inward = (
                        jnp.maximum(v[..., axis], 0) if is_low else jnp.minimum(v[..., axis], 0)
                    )
                    v = v.at[..., axis].set(jnp.where(face, inward, v[..., axis]))
        return v.reshape(-1, d)

    def _by_type(self, state: ParticleState, apply: Callable[[AbstractMaterial], Any]) -> Any:
        """Return what each particle's own material gives."""
        found = apply(self.materials[0])
        for k, material in enumerate(self.materials[1:], start=1):
            mine = state.particle_type == k

            def choose(new, old, mine=mine):
                return jnp.where(mine.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            found = jax.tree.map(choose, apply(material), found)
        return found
