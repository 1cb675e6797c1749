r"""Kernels around moving samples: rigid fits, polyharmonic splines, splats of first order.

All take samples with a mask (0 or 1); what masked ones hold has no effect. Splines and splats
act on what a rigid motion leaves over, so that a rigid motion leaves nothing for them to do.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...numerics import polar_rotation

# Relative to the spacing of the samples: keeps splines solvable where two samples meet.
_NUGGET = 1e-4
# Keeps the affine part solvable where samples lie on a line or are fewer than it takes.
_FLOOR = 1e-6
# Ridge of a splat's gradient, relative to the square of its width.
_RIDGE = 1e-2


def root(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the square root, zero below zero, with the slope zero there instead of infinity."""
    is_positive = x > 0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, x, 1)), 0)


class RigidFit(eqx.Module):
    """The rigid motion nearest to that of some samples: ``y = after + rotation (x - before)``."""

    rotation: Float[Array, "d d"]
    before: Float[Array, " d"]
    after: Float[Array, " d"]

    def __call__(self, x: Float[Array, "p d"]) -> Float[Array, "p d"]:
        """Move points."""
        return self.after[None] + (x - self.before[None]) @ self.rotation.T

    def rest(
        self, x: Float[Array, "p d"], y: Float[Array, "p d"], weight: Float[Array, " p"]
    ) -> Float[Array, "p d"]:
        """Return what the motion from x to y is beyond the rigid one, seen from before it."""
        back = (y - self.after[None]) @ self.rotation
        return weight[:, None] * (back - (x - self.before[None]))


def fit_rigid(
    x: Float[Array, "p d"], y: Float[Array, "p d"], weight: Float[Array, " p"]
) -> RigidFit:
    """Return the least-squares rigid motion of the samples."""
    total = jnp.sum(weight)
    before = (weight @ x) / total
    after = (weight @ y) / total
    covariance = (weight[:, None] * (y - after[None])).T @ (x - before[None])
    return RigidFit(polar_rotation(covariance), before, after)


def squared_distances(x: Float[Array, "m d"], y: Float[Array, "p d"]) -> Float[Array, "m p"]:
    """Return the squares of all distances, axis by axis: nothing cancels."""
    return sum((x[:, k, None] - y[None, :, k]) ** 2 for k in range(x.shape[1]))  # pyright: ignore


def polyharmonic(r2: Float[Array, "m p"], dim: int, *, smooth: bool) -> Float[Array, "m p"]:
    """Return the kernel: thin plates if smooth (``r^2 log r``, in space ``r^3``), else ``-r``."""
    r2 = jnp.maximum(r2, 1e-12)
    if not smooth:
        return -jnp.sqrt(r2)
    return 0.5 * r2 * jnp.log(r2) if dim == 2 else r2 * jnp.sqrt(r2)


def affine(x: Float[Array, "m d"]) -> Float[Array, "m k"]:
    """Return the columns 1 and coordinates."""
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)


def fit_spline(
    x: Float[Array, "p d"], values: Float[Array, "p c"], weight: Float[Array, " p"], *, smooth: bool
) -> Float[Array, "q c"]:
    """Return the coefficients of the spline through values at samples, affine part last."""
    d = x.shape[1]
    kernel = polyharmonic(squared_distances(x, x), d, smooth=smooth)
    kernel = weight[:, None] * kernel * weight[None, :]
    kernel = kernel + jnp.diag(_NUGGET + (1 - weight))
    tail = weight[:, None] * affine(x)
    corner = -_FLOOR * jnp.eye(d + 1, dtype=x.dtype)
    matrix = jnp.concatenate(
        [jnp.concatenate([kernel, tail], 1), jnp.concatenate([tail.T, corner], 1)]
    )
    right = jnp.concatenate(
        [weight[:, None] * values, jnp.zeros((d + 1, values.shape[1]), x.dtype)]
    )
    return jnp.linalg.solve(matrix, right)


def evaluate_spline(
    r2: Float[Array, "m p"], x: Float[Array, "m d"], coefficients: Float[Array, "q c"], *,
    smooth: bool,
) -> Float[Array, "m c"]:  # fmt: skip
    """Return the spline at points whose squared distances to the samples are ``r2``."""
    kernel = polyharmonic(r2, x.shape[1], smooth=smooth)
    return jnp.concatenate([kernel, affine(x)], axis=1) @ coefficients


class Splat(eqx.Module):
    """What Gaussians around the samples add up to at some points.

    Attributes
    ----------
    value
        The fit of first order at the points.
    gradient
        Its size.
    density
        Sum of the Gaussians.
    misfit
        Root of the mean square that the fit leaves, among the samples around.
    offset
        Distance of a point to the centre of the samples around it.
    """

    value: Float[Array, "m d"]
    gradient: Float[Array, " m"]
    density: Float[Array, " m"]
    misfit: Float[Array, " m"]
    offset: Float[Array, " m"]


def splat(
    r2: Float[Array, "m p"],
    x: Float[Array, "m d"],
    samples: Float[Array, "p d"],
    values: Float[Array, "p d"],
    weight: Float[Array, " p"],
    width: float,
) -> Splat:
    """Splat samples onto points: Shepard's normalisation, and a gradient by least squares."""
    d = x.shape[1]
    # Far from all samples the nearest ones still count: the floor is uniform.
    kernel = (jnp.exp(-0.5 * r2 / width**2) + 1e-12) * weight[None, :]
    pairs = [(i, j) for i in range(d) for j in range(i, d)]
    content = [jnp.ones_like(samples[:, :1]), samples, values]
    content += [samples[:, i, None] * samples[:, j, None] for i, j in pairs]
    content += [samples[:, i, None] * values for i in range(d)]
    content += [jnp.sum(values**2, 1, keepdims=True)]
    moments = kernel @ jnp.concatenate(content, 1)
    density = moments[:, 0]
    moments = moments[:, 1:] / density[:, None]
    centre, mean = moments[:, :d], moments[:, d : 2 * d]
    second = dict(zip(pairs, moments[:, 2 * d : 2 * d + len(pairs)].T, strict=True))
    covariance = [
        [second[min(i, j), max(i, j)] - centre[:, i] * centre[:, j] for j in range(d)]
        for i in range(d)
    ]
    for i in range(d):
        covariance[i][i] = covariance[i][i] + _RIDGE * width**2
    first = 2 * d + len(pairs)
    cross = [
        moments[:, first + i * d : first + (i + 1) * d] - centre[:, i, None] * mean
        for i in range(d)
    ]
    gradient = _solve_symmetric(covariance, cross)
    offset = x - centre
    value = mean + sum(gradient[i] * offset[:, i, None] for i in range(d))
    explained = sum(jnp.sum(gradient[i] * cross[i], 1) for i in range(d))
    misfit = moments[:, -1] - jnp.sum(mean**2, 1) - explained
    size = sum(jnp.sum(g**2, 1) for g in gradient)
    return Splat(
        value,
        root(jnp.asarray(size)),
        density,
        root(misfit),
        root(jnp.sum(offset**2, 1)),
    )


def _solve_symmetric(a, b):
    """Solve small systems by their adjugate; entries are arrays over points."""
    if len(a) == 2:
        det = a[0][0] * a[1][1] - a[0][1] * a[1][0]
        inverse = [[a[1][1], -a[0][1]], [-a[1][0], a[0][0]]]
    else:
        inverse = [
            [
                a[(j + 1) % 3][(i + 1) % 3] * a[(j + 2) % 3][(i + 2) % 3]
                - a[(j + 1) % 3][(i + 2) % 3] * a[(j + 2) % 3][(i + 1) % 3]
                for j in range(3)
            ]
            for i in range(3)
        ]
        det = sum(a[0][j] * inverse[j][0] for j in range(3))
    n = len(a)
    return [sum(inverse[i][j][:, None] * b[j] for j in range(n)) / det[:, None] for i in range(n)]


def local_weights(
    r2: Float[Array, "m p"],
    x: Float[Array, "m d"],
    samples: Float[Array, "p d"],
    weight: Float[Array, " p"],
    n_neighbours: int,
) -> tuple[Array, Float[Array, "m k"], Float[Array, "m k"]]:
    """Return neighbours, their weights in moving least squares of first order, and distances."""
    far = jnp.asarray(jnp.finfo(r2.dtype).max / 4, r2.dtype)
    rest = jnp.where(weight[None, :] > 0, r2, far)
    column = jnp.arange(r2.shape[1])[None]
    found = []
    # One minimum after the other: on CPUs much cheaper than `top_k`, which sorts.
    for _ in range(n_neighbours):
        k = jnp.argmin(rest, axis=1)
        found.append((jnp.min(rest, axis=1), k))
        rest = jnp.where(column == k[:, None], far, rest)
    near, index = (jnp.stack(parts, 1) for parts in zip(*found, strict=True))
    real = near < far
    # The reach is a little beyond the last neighbour that there is.
    reach = 1.1 * jnp.max(jnp.where(real, near, 0), 1, keepdims=True) + 1e-12
    w = jnp.where(real, jnp.maximum(1 - near / reach, 0) ** 2, 0)
    offset = (samples[index] - x[:, None]) / jnp.sqrt(reach)[..., None]
    offset = jnp.where(real[..., None], offset, 0)
    total = jnp.sum(w, 1, keepdims=True)
    mean = jnp.einsum("mk,mkd->md", w, offset) / total
    centred = offset - mean[:, None]
    covariance = jnp.einsum("mk,mki,mkj->mij", w, centred, centred) / total[..., None]
    d = x.shape[1]
    rows = [[covariance[:, i, j] + (1e-5 if i == j else 0) for j in range(d)] for i in range(d)]
    slope = _solve_symmetric(rows, [mean[:, i, None] for i in range(d)])
    tilt = sum(centred[..., i] * slope[i] for i in range(d))
    return index, w / total * (1 - tilt), root(jnp.where(real, near, 0))
