"""What the samples did from frame to frame, prepared once for any number of queries."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._sample_kernels import (
    RigidFit,
    evaluate_spline,
    fit_rigid,
    fit_spline,
    local_weights,
    polyharmonic,
    root,
    splat,
    squared_distances,
)

# The candidates for a query's position, in this order.
TRACKS: Sequence[str] = (
    "reference spline",
    "reference least squares",
    "carried by a smooth spline",
    "carried by a rough spline",
    "carried by splats",
)
N_CARRIED = 3
_SPLAT_WIDTH = 0.8
# Lengths enter as logarithms; this much of a spacing counts as nothing.
_NOTHING = 1e-3
# Beyond so many spacings a wall is far.
_FAR = 3.0


class SampleMotion(eqx.Module):
    """Samples in units of their spacing, and what was fitted to them; leading axis: frames.

    Attributes
    ----------
    origin, spacing
        Centre of the samples in the first frame, and the mean distance to the nearest one.
    reference, weight
        Samples in the first frame, and which of them are real (1) or padding (0).
    before, after
        Samples in a frame and in the next one.
    from_reference, step
        Rigid motions from the first frame to the next one, and from a frame to the next one.
    reference_rest, step_rest
        What the samples do beyond them.
    reference_spline, smooth_spline, rough_spline
        Coefficients of splines through the former and, twice, the latter.
    """

    origin: Float[Array, " d"]
    spacing: Float[Array, ""]
    reference: Float[Array, "p d"]
    weight: Float[Array, " p"]
    before: Float[Array, "t p d"]
    after: Float[Array, "t p d"]
    from_reference: RigidFit
    step: RigidFit
    reference_rest: Float[Array, "t p d"]
    step_rest: Float[Array, "t p d"]
    reference_spline: Float[Array, "t q d"]
    smooth_spline: Float[Array, "t q d"]
    rough_spline: Float[Array, "t q d"]


def prepare(samples: Float[Array, "frames p d"], weight: Float[Array, " p"]) -> SampleMotion:
    """Return the fits to the motion of samples."""
    d = samples.shape[2]
    samples = jnp.where(weight[None, :, None] > 0, samples, 0)
    origin = (weight @ samples[0]) / jnp.sum(weight)
    r2 = squared_distances(samples[0], samples[0])
    far = jnp.asarray(jnp.finfo(r2.dtype).max, r2.dtype)
    other = (weight[:, None] * weight[None, :] > 0) & ~jnp.eye(len(weight), dtype=bool)
    nearest = root(jnp.min(jnp.where(other, r2, far), 1))
    several = jnp.sum(weight) > 1
    spacing = jnp.sum(jnp.where(several, weight * nearest, 0)) / jnp.sum(weight)
    spacing = jnp.where(spacing > 0, spacing, 1)
    x = weight[None, :, None] * (samples - origin[None, None]) / spacing
    reference = x[0]

    def one(before, after):
        whole = fit_rigid(reference, after, weight)
        step = fit_rigid(before, after, weight)
        whole_rest = whole.rest(reference, after, weight)
        step_rest = step.rest(before, after, weight)
        centred = weight[:, None] * (before - step.before[None])
        smooth = fit_spline(centred, step_rest, weight, smooth=True)
        rough = fit_spline(centred, step_rest, weight, smooth=False)
        return whole, step, whole_rest, step_rest, smooth, rough

    whole, step, whole_rest, step_rest, smooth, rough = jax.lax.map(
        lambda pair: one(*pair), (x[:-1], x[1:])
    )
    n_frames, n = whole_rest.shape[:2]
    # One matrix for all frames.
    many = jnp.swapaxes(whole_rest, 0, 1).reshape(n, n_frames * d)
    spline = fit_spline(reference, many, weight, smooth=True)
    spline = jnp.swapaxes(spline.reshape(-1, n_frames, d), 0, 1)
    return SampleMotion(
        origin,
        spacing,
        reference,
        weight,
        x[:-1],
        x[1:],
        whole,
        step,
        whole_rest,
        step_rest,
        spline,
        smooth,
        rough,
    )


def n_features(dim: int) -> int:
    """Return how many numbers describe the situation of a query."""
    n = len(TRACKS)
    return n * (n - 1) // 2 + 14 + 2 * dim


def follow(
    motion: SampleMotion,
    queries: Float[Array, "m d"],
    bounds: Float[Array, "d 2"],
    n_neighbours: int,
    read,
):
    """Carry queries through the frames and return ``read(tracks, features)`` of each frame.

    ``tracks`` (query, track, dim) are positions in units of the spacing, from the origin;
    ``features`` (query, feature) are the same after a rotation or a shift but for the walls.
    """
    start = (queries - motion.origin[None]) / motion.spacing
    walls = (bounds - motion.origin[:, None]) / motion.spacing
    low, high = walls[None, :, 0], walls[None, :, 1]
    d = queries.shape[1]
    r2 = squared_distances(start, motion.reference)
    index, local, distance = local_weights(r2, start, motion.reference, motion.weight, n_neighbours)
    plate = polyharmonic(r2, d, smooth=True)
    base = jnp.concatenate([plate, jnp.ones_like(start[:, :1]), start], 1)
    n_near = min(3, n_neighbours)
    far = jnp.where(motion.weight > 0, 0, jnp.finfo(r2.dtype).max / 4)

    def frame(carry, now):
        position, worst = carry
        whole, step = now.from_reference, now.step
        rest = jnp.einsum("mk,mkd->md", local, now.reference_rest[index])
        tracks = [whole(start + base @ now.reference_spline), whole(start + rest)]
        distances = [squared_distances(p, now.before) for p in position]
        moved = []
        for p, q2, smooth, coefficients in (
            (position[0], distances[0], True, now.smooth_spline),
            (position[1], distances[1], False, now.rough_spline),
        ):
            more = evaluate_spline(q2, p - step.before[None], coefficients, smooth=smooth)
            moved.append(step(p + more))
        around = splat(
            distances[2], position[2], now.before, now.step_rest, motion.weight, _SPLAT_WIDTH
        )
        moved.append(step(position[2] + around.value))
        moved = [jnp.clip(p, low, high) for p in moved]
        tracks = [jnp.clip(p, low, high) for p in tracks] + moved
        pairs = [_size(a - b) for i, a in enumerate(tracks) for b in tracks[:i]]
        nearest = root(jnp.min(distances[0] + far[None, :], 1))
        state = jnp.stack([nearest, around.gradient, around.misfit, around.offset], 1)
        worst = jnp.maximum(worst, state)
        mine = now.after[index[:, 0]]
        spread = [_size(now.after[index[:, k]] - mine) for k in range(n_near)]
        lengths = [
            *pairs,
            _size(moved[0] - mine),
            jnp.max(jnp.stack(spread), 0),
            around.density,
            distance[:, 0],
            distance[:, n_near - 1],
            _size(moved[0] - start),
        ]
        lengths = jnp.concatenate([jnp.stack(lengths, 1), state, worst], 1)
        here = moved[0]
        to_walls = jnp.minimum(jnp.concatenate([here - low, high - here], 1), _FAR)
        features = jnp.concatenate([jnp.log(lengths + _NOTHING), to_walls], 1)
        return (jnp.stack(moved), worst), read(jnp.stack(tracks, 1), features)

    first = jnp.broadcast_to(start, (N_CARRIED, *start.shape))
    per_frame = _Frame(
        motion.before,
        motion.after,
        motion.from_reference,
        motion.step,
        motion.reference_rest,
        motion.step_rest,
        motion.reference_spline,
        motion.smooth_spline,
        motion.rough_spline,
    )
    worst = jnp.zeros((len(start), 4), start.dtype)
    return jax.lax.scan(frame, (first, worst), per_frame)[1]


class _Frame(eqx.Module):
    before: Array
    after: Array
    from_reference: RigidFit
    step: RigidFit
    reference_rest: Array
    step_rest: Array
    reference_spline: Array
    smooth_spline: Array
    rough_spline: Array


def _size(x: Float[Array, "m d"]) -> Float[Array, " m"]:
    return root(jnp.sum(x**2, 1))
