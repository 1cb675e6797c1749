r"""What particles are made of: the Kirchhoff stress of a deformation, and what flow forgets of it.

Water: :math:`\tau = K (J - 1) J\, 1 + J \eta (L + L^T)`. Elastic: fixed-corotated energy,
:math:`\tau = 2 \mu (F - R) F^T + \lambda (J - 1) J\, 1`. Sand: Hencky's energy,
:math:`\tau = U (2 \mu \varepsilon + \lambda \,\mathrm{tr}\, \varepsilon) U^T` with
:math:`\varepsilon = \log \Sigma`, and Drucker-Prager's return to the cone of friction.
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import RealScalar, check_non_negative, check_positive, cites, real_dtype
from ...numerics import full_precision, polar_rotation, signed_svd

# What the logarithm of a stretch sees at least: a crushed particle keeps a finite stress.
_LEAST_STRETCH = 0.05


class AbstractMaterial(eqx.Module):
    """A material: all of its methods take arrays over particles.

    Attributes
    ----------
    density
        Mass per volume (per area in two dimensions) at rest.
    """

    density: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def wave_speed(self) -> Float[Array, ""]:
        """Return the speed of the fastest wave at rest, which bounds the time step."""

    def kinematic_viscosity(self) -> Float[Array, ""]:
        """Return viscosity over density, which bounds the time step, too."""
        return jnp.zeros((), self.density.dtype)

    @abc.abstractmethod
    def stress(
        self, deformation: Float[Array, "p d d"], velocity_gradient: Float[Array, "p d d"]
    ) -> Float[Array, "p d d"]:
        """Return the Kirchhoff stress, symmetric."""

    def relax(
        self, deformation: Float[Array, "p d d"], memory: Float[Array, " p"]
    ) -> tuple[Float[Array, "p d d"], Float[Array, " p"]]:
        """Return the part of the deformation that is remembered, and the particles' memory."""
        return deformation, memory


class Water(AbstractMaterial):
    """A weakly compressible fluid.

    Parameters
    ----------
    bulk_modulus
        Pressure per relative change of volume. Density changes are about the square of the
        flow's speed over that of sound; the time step is inverse to the latter.
    density
        At rest.
    viscosity
        Dynamic viscosity.
    volume_limits
        Least and largest volume over that at rest that a particle remembers: splashes do not
        pull themselves together.

    Examples
    --------
    >>> float(Water(bulk_modulus=100.0).wave_speed())
    10.0
    """

    bulk_modulus: Float[Array, ""]
    density: Float[Array, ""]
    viscosity: Float[Array, ""]
    volume_limits: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        bulk_modulus: RealScalar = 100.0,
        *,
        density: RealScalar = 1.0,
        viscosity: RealScalar = 0.0,
        volume_limits: tuple[float, float] = (0.6, 1.1),
    ):
        check_positive("bulk_modulus", bulk_modulus)
        check_positive("density", density)
        check_non_negative("viscosity", viscosity)
        low, high = volume_limits
        if not 0 < low < 1 <= high:
            raise ValueError(f"`volume_limits` must enclose 1, got {volume_limits}.")
        self.bulk_modulus = _scalar(bulk_modulus)
        self.density = _scalar(density)
        self.viscosity = _scalar(viscosity)
        self.volume_limits = (float(low), float(high))

    def wave_speed(self):
        """Return the speed of sound."""
        return jnp.sqrt(self.bulk_modulus / self.density)

    def kinematic_viscosity(self):
        """Return viscosity over density at rest."""
        return self.viscosity / self.density

    def stress(self, deformation, velocity_gradient):
        """Return pressure and viscous stress."""
        j = jnp.linalg.det(deformation)[:, None, None]
        symmetric = velocity_gradient + jnp.swapaxes(velocity_gradient, 1, 2)
        pressure = self.bulk_modulus.astype(j.dtype) * (j - 1) * j
        eye = jnp.eye(deformation.shape[-1], dtype=j.dtype)[None]
        return pressure * eye + j * self.viscosity.astype(j.dtype) * symmetric

    def relax(self, deformation, memory):
        """Keep the volume only."""
        d = deformation.shape[-1]
        j = jnp.clip(jnp.linalg.det(deformation), *self.volume_limits)
        return (j ** (1 / d))[:, None, None] * jnp.eye(d, dtype=j.dtype)[None], memory


class ElasticSolid(AbstractMaterial):
    """A solid that returns to its shape (fixed-corotated elasticity; plane strain in 2-D).

    Parameters
    ----------
    youngs_modulus
        Stiffness.
    poisson_ratio
        In [0, 0.5).
    density
        At rest.

    Examples
    --------
    >>> round(float(ElasticSolid(300.0, poisson_ratio=0.25).wave_speed()), 2)
    18.97
    """

    youngs_modulus: Float[Array, ""]
    poisson_ratio: Float[Array, ""]
    density: Float[Array, ""]

    def __init__(
        self,
        youngs_modulus: RealScalar = 300.0,
        *,
        poisson_ratio: RealScalar = 0.3,
        density: RealScalar = 1.0,
    ):
        _check_solid(youngs_modulus, poisson_ratio, density)
        self.youngs_modulus = _scalar(youngs_modulus)
        self.poisson_ratio = _scalar(poisson_ratio)
        self.density = _scalar(density)

    def wave_speed(self):
        """Return the speed of pressure waves."""
        mu, lame = _lame(self.youngs_modulus, self.poisson_ratio)
        return jnp.sqrt((lame + 2 * mu) / self.density)

    @full_precision
    def stress(self, deformation, velocity_gradient):
        """Return the stress of stretch and change of volume."""
        mu, lame = _lame(self.youngs_modulus, self.poisson_ratio)
        j = jnp.linalg.det(deformation)[:, None, None]
        mu, lame = mu.astype(j.dtype), lame.astype(j.dtype)
        stretch = deformation - polar_rotation(deformation)
        eye = jnp.eye(deformation.shape[-1], dtype=j.dtype)[None]
        return 2 * mu * stretch @ jnp.swapaxes(deformation, 1, 2) + lame * (j - 1) * j * eye


@cites(
    """@article{klar2016druckerprager,
  author = {Klar, Gergely and Gast, Theodore and Pradhana, Andre and Fu, Chuyuan and
            Schroeder, Craig and Jiang, Chenfanfu and Teran, Joseph},
  title = {Drucker-{P}rager Elastoplasticity for Sand Animation},
  journal = {ACM Transactions on Graphics},
  volume = {35},
  number = {4},
  year = {2016}
}"""
)
class Sand(AbstractMaterial):
    """Dry grains: they bear pressure, shear within the cone of friction, and no tension.

    What a particle gained in volume while it flew apart is given back before it bears load again;
    that is its memory.

    Parameters
    ----------
    youngs_modulus
        Stiffness of the packed grains.
    poisson_ratio
        In [0, 0.5).
    friction_angle
        In degrees, between 0 and 90.
    density
        At rest.

    References
    ----------
    .. [1] Klar et al., "Drucker-Prager elastoplasticity for sand animation", ACM Transactions on
       Graphics 35(4), 2016.

    Examples
    --------
    >>> float(Sand(300.0).friction_angle)
    35.0
    """

    youngs_modulus: Float[Array, ""]
    poisson_ratio: Float[Array, ""]
    friction_angle: Float[Array, ""]
    density: Float[Array, ""]

    def __init__(
        self,
        youngs_modulus: RealScalar = 300.0,
        *,
        poisson_ratio: RealScalar = 0.3,
        friction_angle: RealScalar = 35.0,
        density: RealScalar = 1.0,
    ):
        _check_solid(youngs_modulus, poisson_ratio, density)
        check_positive("friction_angle", friction_angle)
        if isinstance(friction_angle, float | int) and friction_angle >= 90:
            raise ValueError(f"`friction_angle` must be below 90 degrees, got {friction_angle}.")
        self.youngs_modulus = _scalar(youngs_modulus)
        self.poisson_ratio = _scalar(poisson_ratio)
        self.friction_angle = _scalar(friction_angle)
        self.density = _scalar(density)

    def wave_speed(self):
        """Return the speed of pressure waves."""
        mu, lame = _lame(self.youngs_modulus, self.poisson_ratio)
        return jnp.sqrt((lame + 2 * mu) / self.density)

    @full_precision
    def stress(self, deformation, velocity_gradient):
        """Return the stress of the logarithmic strain."""
        u, stretch, _ = signed_svd(deformation)
        mu, lame = (x.astype(stretch.dtype) for x in _lame(self.youngs_modulus, self.poisson_ratio))
        strain = jnp.log(jnp.maximum(stretch, _LEAST_STRETCH))
        principal = 2 * mu * strain + lame * jnp.sum(strain, -1, keepdims=True)
        return (u * principal[:, None, :]) @ jnp.swapaxes(u, 1, 2)

    @full_precision
    def relax(self, deformation, memory):
        """Return to the cone of friction; the volume that is gained there is remembered."""
        d = deformation.shape[-1]
        u, stretch, v = signed_svd(deformation)
        mu, lame = (x.astype(stretch.dtype) for x in _lame(self.youngs_modulus, self.poisson_ratio))
        strain = jnp.log(jnp.maximum(stretch, _LEAST_STRETCH)) + memory[:, None] / d
        volume = jnp.sum(strain, -1)
        deviator = strain - volume[:, None] / d
        size = jnp.sqrt(jnp.sum(deviator**2, -1))
        sin = jnp.sin(jnp.deg2rad(self.friction_angle)).astype(stretch.dtype)
        slope = math.sqrt(2 / 3) * 2 * sin / (3 - sin)
        excess = size + (d * lame + 2 * mu) / (2 * mu) * volume * slope
        apart = volume >= 0
        unit = deviator / jnp.where(size > 0, size, 1)[:, None]
        strain = strain - jnp.maximum(excess, 0)[:, None] * unit
        strain = jnp.where(apart[:, None], 0, strain)
        kept = (u * jnp.exp(strain)[:, None, :]) @ jnp.swapaxes(v, 1, 2)
        return kept, jnp.where(apart, volume, 0)


def _scalar(value: RealScalar) -> Float[Array, ""]:
    return jnp.asarray(value, real_dtype())


def _lame(youngs_modulus, poisson_ratio):
    e, nu = youngs_modulus, poisson_ratio
    return e / (2 * (1 + nu)), e * nu / ((1 + nu) * (1 - 2 * nu))


def _check_solid(youngs_modulus, poisson_ratio, density):
    check_positive("youngs_modulus", youngs_modulus)
    check_non_negative("poisson_ratio", poisson_ratio)
    check_positive("density", density)
    if isinstance(poisson_ratio, float | int) and poisson_ratio >= 0.5:
        raise ValueError(f"`poisson_ratio` must be below 0.5, got {poisson_ratio}.")
