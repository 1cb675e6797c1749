"""Domains with obstacles: masks that are true in fluid cells and false in solid ones."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph
from jaxtyping import Array, Bool, Float

from ..core import KeyArray, check_count, check_key, check_positive
from ..numerics._fourier import check_n_points
from ._grid_boundaries import Boundary, Dirichlet, FacePairs, Periodic, face_pairs


def random_obstacles(
    n_points: Sequence[int],
    *,
    n_balls: int = 5,
    n_boxes: int = 5,
    smallest: float = 0.04,
    largest: float = 0.14,
    key: KeyArray,
) -> Bool[Array, "*space"]:
    """Draw a box with balls and boxes in it, which may overlap each other and the walls.

    The obstacles depend on ``key`` and the number of axes, not on ``n_points``: finer grids show
    the same domain. It may be called under ``jax.jit`` and ``jax.vmap`` over keys.

    Parameters
    ----------
    n_points
        Cells along each axis; the domain is the unit box.
    n_balls, n_boxes
        How many of each.
    smallest, largest
        Range of the balls' radii and of the boxes' half widths, uniform.
    key
        Typed PRNG key.

    Returns
    -------
    Array
        True in fluid cells. Parts that the obstacles enclose are still fluid; see
        `fill_enclosed_parts`.

    Examples
    --------
    >>> import jax
    >>> mask = random_obstacles((32, 32), key=jax.random.key(31))
    >>> mask.shape, bool(mask.any()), bool(mask.all())
    ((32, 32), True, False)
    """
    n_points = check_n_points(n_points)
    check_count("n_balls", n_balls, minimum=0)
    check_count("n_boxes", n_boxes, minimum=0)
    check_positive("smallest", smallest)
    check_positive("largest", largest)
    check_key(key)
    ball_key, box_key = jax.random.split(key)
    sizes = jnp.asarray([smallest, largest], jnp.float32)
    return _draw_obstacles(ball_key, box_key, sizes, n_points, n_balls, n_boxes)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _draw_obstacles(ball_key, box_key, sizes, n_points, n_balls, n_boxes):
    n_axes = len(n_points)

    def add_ball(mask, key):
        centre_key, size_key = jax.random.split(key)
        centre = jax.random.uniform(centre_key, (n_axes,), jnp.float32)
        radius = jax.random.uniform(size_key, (), jnp.float32, sizes[0], sizes[1])
        return mask & ~ball(n_points, centre, radius), None

    def add_box(mask, key):
        centre_key, size_key = jax.random.split(key)
        centre = jax.random.uniform(centre_key, (n_axes,), jnp.float32)
        widths = jax.random.uniform(size_key, (n_axes,), jnp.float32, sizes[0], sizes[1])
        inside = jnp.ones((1,) * n_axes, bool)
        for axis, x in enumerate(cell_centres(n_points)):
            inside = inside & (jnp.abs(x - centre[axis]) < widths[axis])
        return mask & ~inside, None

    mask = jnp.ones(n_points, bool)
    for add, key, count in ((add_ball, ball_key, n_balls), (add_box, box_key, n_boxes)):
        if count:
            mask, _ = jax.lax.scan(add, mask, jax.random.split(key, count))
    return mask


def thin_baffles(
    n_points: Sequence[int], *, n_baffles: int = 4, gap: float = 0.125
) -> Bool[Array, "*space"]:
    """Return a maze: walls one cell thick across the first axis, with gaps at alternate ends.

    The way from the first face to the last winds through all gaps. In three dimensions the gap
    is a slot along the whole third axis. Such walls are thinner than any coarse grid can show,
    which is what makes them hard for multigrid.

    Parameters
    ----------
    n_points
        Cells along each axis, at least two axes and ``2 n_baffles + 1`` cells along the first.
    n_baffles
        How many walls, evenly spaced.
    gap
        Width of the gaps over that of the box, at least one cell.

    Returns
    -------
    Array
        True in fluid cells.

    Raises
    ------
    ValueError
        If the grid is too small for the baffles, or ``gap`` does not lie between 0 and 1.

    Examples
    --------
    >>> mask = thin_baffles((5, 4), n_baffles=2, gap=0.25)
    >>> for row in mask.tolist():
    ...     print("".join("~#"[not fluid] for fluid in row))
    ~~~~
    ~###
    ~~~~
    ###~
    ~~~~
    """
    n_points = check_n_points(n_points)
    check_count("n_baffles", n_baffles)
    if len(n_points) < 2 or n_points[0] < 2 * n_baffles + 1:
        raise ValueError(
            f"{n_baffles} baffles need two axes or more and {2 * n_baffles + 1} cells along the "
            f"first, got `n_points` = {n_points}."
        )
    check_positive("gap", gap)
    if gap >= 1:
        raise ValueError(f"`gap` must lie between 0 and 1, got {gap!r}.")
    width = min(max(1, round(gap * n_points[1])), n_points[1] - 1)
    mask = np.ones(n_points, bool)
    for k in range(n_baffles):
        row = (k + 1) * n_points[0] // (n_baffles + 1)
        solid = slice(width, None) if k % 2 == 0 else slice(None, n_points[1] - width)
        mask[row, solid] = False
    return jnp.asarray(mask)


def fill_enclosed_parts(
    mask: Bool[Array | np.ndarray, "*space"], *, boundary: Boundary | None = None
) -> Bool[Array, "*space"]:
    """Make every fluid part solid that has no way to an open face.

    With closed walls such a part has a pressure only up to a constant, and none at all if more
    flows in than out. It runs on the host and cannot be traced.

    Parameters
    ----------
    mask
        True in fluid cells.
    boundary
        As in `diffusion_operator`: parts that touch a `Dirichlet` face stay. Where it is left out
        or has no such face, the largest part stays.

    Returns
    -------
    Array
        The new mask.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.problems import Dirichlet, fill_enclosed_parts
    >>> mask = np.array([True, False, True, True])
    >>> fill_enclosed_parts(mask).tolist()
    [False, False, True, True]
    >>> fill_enclosed_parts(mask, boundary=[(Dirichlet(), Dirichlet())]).tolist()
    [True, False, True, True]
    """
    import scipy.ndimage  # here: it is slow to import, and few need it

    fluid = np.asarray(mask)
    labels = np.zeros(fluid.shape, np.int32)
    n_parts = int(scipy.ndimage.label(fluid, output=labels))  # pyright: ignore[reportArgumentType]
    keep: set[int] = set()
    if boundary is not None:
        pairs = face_pairs(boundary, fluid.shape)
        labels, n_parts = _merge_across_seams(labels, n_parts, pairs)
        for axis, pair in enumerate(pairs):
            for end, face in zip((0, -1), pair, strict=True):
                if isinstance(face, Dirichlet):
                    keep |= set(np.unique(np.take(labels, end, axis=axis)).tolist())
    keep -= {0}
    if not keep and n_parts:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        keep = {int(np.argmax(sizes))}
    return jnp.asarray(np.isin(labels, sorted(keep)))


def cell_centres(n_points: Sequence[int]) -> list[Float[Array, "..."]]:
    """Return the centres of the cells of the unit box: per axis an array that broadcasts."""
    centres = []
    for axis, n in enumerate(n_points):
        shape = [1] * len(n_points)
        shape[axis] = n
        centres.append(jnp.asarray((np.arange(n) + 0.5) / n, jnp.float32).reshape(shape))
    return centres


def ball(
    n_points: Sequence[int], centre: Float[Array, " axes"], radius: Float[Array, ""] | float
) -> Bool[Array, "*space"]:
    """Return which cells of the unit box have their centre in a ball."""
    squared = jnp.zeros((1,) * len(n_points), jnp.float32)
    for axis, x in enumerate(cell_centres(n_points)):
        squared = squared + (x - centre[axis]) ** 2
    return squared < jnp.asarray(radius, jnp.float32) ** 2


def _merge_across_seams(
    labels: np.ndarray, n_parts: int, pairs: FacePairs
) -> tuple[np.ndarray, int]:
    """Give parts that meet across a periodic seam one label."""
    links = [np.zeros((0, 2), labels.dtype)]
    for axis, pair in enumerate(pairs):
        if isinstance(pair[0], Periodic):
            ends = [np.take(labels, end, axis=axis).ravel() for end in (0, -1)]
            both = np.stack(ends, axis=1)
            links.append(both[(both > 0).all(axis=1)])
    rows, columns = np.concatenate(links).T
    graph = scipy.sparse.coo_array(
        (np.ones(rows.size), (rows, columns)), shape=(n_parts + 1, n_parts + 1)
    )
    # Nothing links to label 0, the solid cells, so it stays alone; it is numbered first.
    _, merged = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return merged[labels], int(merged.max())
