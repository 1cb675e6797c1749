r"""Which expert is responsible where: partitions of the domain.

A router gives two sets of weights at a point: :math:`\varphi_k(x)`, which sum to one and mix the
experts' fields, and the weights with which the point counts in each expert's objective.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..core import (
    check_count,
    check_finite,
    check_floating,
    check_non_negative,
    check_not_traced,
    check_positive,
    check_shape,
)
from ..numerics import full_precision

# Boxes are not cut along an axis where they are a narrower part of the domain than this.
_LEAST_WIDTH = 1e-6


class AbstractRouter(eqx.Module):
    """A partition of the domain between experts: boxes, a learned gate, chance."""

    @property
    @abc.abstractmethod
    def n_experts(self) -> int:
        """Return how many experts there are."""

    @abc.abstractmethod
    def weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the share of each expert in the field at a point; the sum is one."""

    @abc.abstractmethod
    def fit_weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the weight of a point in the objective of each expert."""

    @property
    @abc.abstractmethod
    def is_sparse(self) -> bool:
        """Whether most points have weight in few experts, so that they are worth sorting."""


class BoxRouter(AbstractRouter):
    """Equal boxes, with smooth windows where they overlap.

    Parameters
    ----------
    lower, upper
        Corners of the domain, ``(d,)``.
    splits
        Into how many parts each axis is cut; their product is the number of experts.
    overlap
        Half the width of the zone in which two neighbours mix, over the width of a box: up to
        0.5. With 0 the field jumps where boxes meet; otherwise it has three continuous
        derivatives, and each expert is fitted on its enlarged box.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> router = BoxRouter((0.0, 0.0), (1.0, 1.0), (1, 4), overlap=0.2)
    >>> router.weights(jnp.array([0.3, 0.25]))
    Array([0.5, 0.5, 0. , 0. ], dtype=float32)
    """

    lower: tuple[float, ...] = eqx.field(static=True)
    upper: tuple[float, ...] = eqx.field(static=True)
    splits: tuple[int, ...] = eqx.field(static=True)
    overlap: float = eqx.field(static=True)

    def __init__(
        self,
        lower: Sequence[float | int] | ArrayLike,
        upper: Sequence[float | int] | ArrayLike,
        splits: Sequence[int],
        *,
        overlap: float | int = 0.0,
    ):
        self.lower, self.upper = _corners(lower, upper)
        self.splits = tuple(check_count("splits", n) for n in splits)
        if len(self.splits) != len(self.lower):
            raise ValueError(
                f"`splits` must have one entry an axis, {len(self.lower)}; got {self.splits}."
            )
        self.overlap = _checked_overlap(overlap)

    @property
    def n_experts(self) -> int:
        """Return the number of boxes."""
        return int(np.prod(self.splits))

    @property
    def is_sparse(self) -> bool:
        """Return True."""
        return True

    def weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the windows at a point."""
        return _shares(x, *self._boxes(), self.overlap)

    def fit_weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return 1 in each box that is not zero at the point.

        A point that is no number belongs to all: it must not vanish.
        """
        return jnp.where(self.weights(x) == 0, 0.0, 1.0).astype(x.dtype)

    def _boxes(self):
        lower, upper = np.array(self.lower), np.array(self.upper)
        index = np.stack(np.meshgrid(*map(np.arange, self.splits), indexing="ij"), -1)
        index = index.reshape(-1, len(self.splits))
        n = np.array(self.splits)
        edges = (lower + (upper - lower) * index / n, lower + (upper - lower) * (index + 1) / n)
        return edges


class TreeRouter(AbstractRouter):
    """Boxes of unequal size, as `split_by_importance` makes them where a solution is hard.

    Parameters
    ----------
    lower, upper
        Corners of the boxes, ``(experts, d)``. They must tile the domain.
    overlap
        As for `BoxRouter`, over the smallest width along each axis.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> router = TreeRouter([[0.0], [0.2]], [[0.2], [1.0]])
    >>> router.weights(jnp.array([0.3]))
    Array([0., 1.], dtype=float32)
    """

    lower: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    upper: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    overlap: float = eqx.field(static=True)

    def __init__(
        self,
        lower: Sequence[Any] | ArrayLike,
        upper: Sequence[Any] | ArrayLike,
        *,
        overlap: float | int = 0.0,
    ):
        pairs = [
            _corners(low, high)
            for low, high in zip(np.asarray(lower), np.asarray(upper), strict=True)
        ]
        if not pairs:
            raise ValueError("`lower` and `upper` must hold at least one box.")
        low, high = np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])
        _snap(low, high)
        self.lower = tuple(map(tuple, low.tolist()))
        self.upper = tuple(map(tuple, high.tolist()))
        self.overlap = _checked_overlap(overlap)
        volume = np.prod(high - low, axis=1).sum()
        whole = np.prod(high.max(0) - low.min(0))
        inside = (low[:, None] < high) & (low < high[:, None])
        clash = inside.all(-1) & ~np.eye(len(low), dtype=bool)
        if clash.any() or abs(volume - whole) > 1e-9 * whole:
            raise ValueError(
                f"the boxes must tile the domain: they fill {volume / whole:.6g} of it, and "
                f"{int(clash.sum()) // 2} pairs of them overlap."
            )

    @property
    def n_experts(self) -> int:
        """Return the number of boxes."""
        return len(self.lower)

    @property
    def is_sparse(self) -> bool:
        """Return True."""
        return True

    def weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the windows at a point."""
        return _shares(x, np.array(self.lower), np.array(self.upper), self.overlap)

    def fit_weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return 1 in each box that is not zero at the point.

        A point that is no number belongs to all: it must not vanish.
        """
        return jnp.where(self.weights(x) == 0, 0.0, 1.0).astype(x.dtype)


@full_precision
def split_by_importance(
    points: ArrayLike,
    importance: ArrayLike,
    lower: Sequence[float | int] | ArrayLike,
    upper: Sequence[float | int] | ArrayLike,
    n_experts: int,
    *,
    overlap: float | int = 0.0,
) -> TreeRouter:
    """Cut a domain into boxes of equal importance, for instance of equal squared residual.

    The box with the most importance is cut at its weighted median along the axis where its
    importance spreads most (in units of the box), until there are enough.

    Parameters
    ----------
    points
        Where the importance is known, ``(m, d)``.
    importance
        Zero or positive, ``(m,)``.
    lower, upper
        Corners of the domain.
    n_experts
        Number of boxes.
    overlap
        As for `TreeRouter`.

    Returns
    -------
    TreeRouter
        The boxes.

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, the importance is negative or zero everywhere
        in the domain, or no point lies there.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 1, 101)[:, None]
    >>> router = split_by_importance(x, np.exp(-5 * x[:, 0]), (0.0,), (1.0,), 2)
    >>> f"{router.upper[0][0]:.2f}"
    '0.13'
    """
    for name, array in (("points", points), ("importance", importance)):
        check_not_traced(name, array, "a domain is split")
        check_finite(name, array)
    points, importance = np.asarray(points, float), np.asarray(importance, float)
    n_experts = check_count("n_experts", n_experts)
    if points.ndim != 2 or importance.shape != points.shape[:1]:
        raise ValueError(
            f"`points` must be (m, d) and `importance` (m,); got {points.shape} and "
            f"{importance.shape}."
        )
    if np.any(importance < 0) or not importance.any():
        raise ValueError("`importance` must not be negative, and not zero everywhere.")
    boxes = [tuple(map(np.array, _corners(lower, upper)))]
    check_shape("points", points, ("m", len(boxes[0][0])))
    inside = np.all((points >= boxes[0][0]) & (points <= boxes[0][1]), axis=1)
    if not inside.any():
        raise ValueError("none of the `points` lies between `lower` and `upper`.")
    if not importance[inside].any():
        raise ValueError(
            "`importance` is zero at all `points` between `lower` and `upper`: there is nothing "
            "to share."
        )
    importance = importance / importance[inside].max()
    least = _LEAST_WIDTH * (boxes[0][1] - boxes[0][0])
    while len(boxes) < n_experts:
        inside = [np.all((points >= lo) & (points <= hi), axis=1) for lo, hi in boxes]
        # A point that holds nearly all would have boxes cut around it until they have no width.
        shares = [
            float(importance[chosen].sum()) if np.any(high - low > least) else -1.0
            for chosen, (low, high) in zip(inside, boxes, strict=True)
        ]
        worst = int(np.argmax(shares))
        low, high = boxes.pop(worst)
        x, share = points[inside[worst]], importance[inside[worst]]
        unit, wide = (x - low) / (high - low), high - low > least
        if share.any():
            share = share / share.sum()
            spread = share @ (unit - share @ unit) ** 2
            axis = int(np.argmax(np.where(wide, spread, -1.0)))
            order = np.argsort(unit[:, axis], kind="stable")
            median = unit[order, axis][np.searchsorted(np.cumsum(share[order]), 0.5)]
        else:
            axis, median = int(np.argmax((high - low) / least)), 0.5
        cut = low[axis] + np.clip(median, 0.05, 0.95) * (high[axis] - low[axis])
        left, right = high.copy(), low.copy()
        left[axis] = right[axis] = cut
        boxes += [(low, left), (right, high)]
    return TreeRouter([b[0] for b in boxes], [b[1] for b in boxes], overlap=overlap)


class LearnedRouter(AbstractRouter):
    """A gate that is trained with the network: softmax of its outputs.

    The same weights mix the fields and weigh the points of each expert's objective, so that the
    gate gets its gradient through both. Every expert sees all points: this router saves no work.

    Parameters
    ----------
    gate
        ``gate(x)`` returns one number an expert.
    size
        How many those are.
    temperature
        What divides them.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> router = LearnedRouter(lambda x: jnp.array([0.0, 0.0]), 2)
    >>> router.weights(jnp.zeros(1))
    Array([0.5, 0.5], dtype=float32)
    """

    gate: Callable[..., Any]
    size: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)

    def __init__(self, gate: Callable[..., Any], size: int, *, temperature: float | int = 1.0):
        if not callable(gate):
            raise TypeError(f"`gate` must be callable, got {gate!r}.")
        check_positive("temperature", temperature)
        self.gate = gate
        self.size = check_count("size", size)
        self.temperature = float(temperature)

    @property
    def n_experts(self) -> int:
        """Return the number of outputs of the gate."""
        return self.size

    @property
    def is_sparse(self) -> bool:
        """Return False."""
        return False

    def weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the softmax of the gate."""
        scores = self.gate(x)
        if scores.shape != (self.size,):
            raise ValueError(f"`gate` must return ({self.size},) numbers, got {scores.shape}.")
        return jax.nn.softmax(scores / self.temperature)

    def fit_weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the same weights."""
        return self.weights(x)


class RandomRouter(AbstractRouter):
    """Points thrown to experts by chance: the control that any other router must beat.

    Parameters
    ----------
    size
        Number of experts.
    seed
        Which assignment.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(RandomRouter(3).weights(jnp.array([0.3, 0.4])).sum())
    1.0
    """

    size: int = eqx.field(static=True)
    seed: int = eqx.field(static=True)

    def __init__(self, size: int, *, seed: int = 0):
        self.size = check_count("size", size)
        self.seed = check_count("seed", seed, minimum=0)

    @property
    def n_experts(self) -> int:
        """Return the number of experts."""
        return self.size

    @property
    def is_sparse(self) -> bool:
        """Return True."""
        return True

    @full_precision
    def weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return 1 for the expert that a hash of the position picks."""
        # Of mantissas and exponents: no unit makes points alike. In integers: no compiler's
        # rounding moves a point to another expert.
        mantissas, exponents = jnp.frexp(jax.lax.stop_gradient(x) + 0.0)
        bits = jax.lax.bitcast_convert_type(mantissas.astype(jnp.float32), jnp.uint32)
        mixed = jnp.asarray(self.seed % 2**32, jnp.uint32)
        for axis in range(x.shape[0]):
            mixed = _mix(mixed ^ bits[axis])
            mixed = _mix(mixed ^ exponents[axis].astype(jnp.uint32))
        return jax.nn.one_hot(mixed % self.size, self.size, dtype=x.dtype)

    def fit_weights(self, x: Float[Array, " d"]) -> Float[Array, " experts"]:
        """Return the same weights."""
        return self.weights(x)


def _mix(h):
    """Return a number whose bits all depend on all bits of ``h`` (finaliser of MurmurHash3)."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _corners(lower, upper):
    for name, corner in (("lower", lower), ("upper", upper)):
        check_finite(name, corner)
        check_shape(name, np.atleast_1d(corner), ("axes",))
    lower, upper = (tuple(float(v) for v in np.atleast_1d(c)) for c in (lower, upper))
    if len(lower) != len(upper) or not lower or not all(map(np.less, lower, upper)):
        raise ValueError(f"`lower` must be below `upper` on every axis, got {lower} and {upper}.")
    return lower, upper


def _snap(low: np.ndarray, high: np.ndarray) -> None:
    """Give faces that are equal up to rounding one value: no point lies between two boxes."""
    for axis in range(low.shape[1]):
        faces = np.concatenate([low[:, axis], high[:, axis]])
        order = np.argsort(faces)
        ordered = faces[order]
        gap = 1e-12 * (ordered[-1] - ordered[0])
        group = np.cumsum(np.diff(ordered, prepend=ordered[0]) > gap)
        faces[order] = ordered[np.searchsorted(group, group)]
        low[:, axis], high[:, axis] = np.split(faces, 2)


def _checked_overlap(overlap: float | int) -> float:
    check_non_negative("overlap", overlap)
    if overlap > 0.5:
        raise ValueError(f"`overlap` must be at most 0.5, got {overlap}.")
    return float(overlap)


def _shares(x, lower: np.ndarray, upper: np.ndarray, overlap: float):
    """Return windows of boxes at one point, over their sum; outer faces are never left."""
    check_shape("x", x, lower.shape[1:])
    check_floating("x", x)  # integers would cut the faces off after the point
    half = overlap * (upper - lower).min(0)
    is_first, is_last = lower <= lower.min(0), upper >= upper.max(0)
    begin, end = jnp.asarray(lower, x.dtype), jnp.asarray(upper, x.dtype)
    here = jnp.broadcast_to(x, lower.shape)
    if overlap > 0:
        width = jnp.asarray(np.broadcast_to(half, lower.shape), x.dtype)
        begins = _rise(0.5 * (here - begin + width) / width)
        ends = 1 - _rise(0.5 * (here - end + width) / width)
    else:
        begins = jnp.where(here >= begin, 1.0, 0.0).astype(x.dtype)
        ends = jnp.where(here < end, 1.0, 0.0).astype(x.dtype)
    windows = jnp.where(is_first, 1, begins) * jnp.where(is_last, 1, ends)
    windows = jnp.prod(windows, axis=1)
    return windows / jnp.sum(windows)


def _rise(s):
    """From 0 to 1 with three continuous derivatives, and ``rise(s) + rise(1 - s) = 1``."""
    s = jnp.clip(s, 0, 1)
    return s**4 * (35 - 84 * s + 70 * s**2 - 20 * s**3)
