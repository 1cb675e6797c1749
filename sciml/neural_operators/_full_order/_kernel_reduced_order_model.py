"""The kernel reduced-order model: any number of points follow a few sampled ones."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from ...core import (
    KeyArray,
    check_count,
    check_finite,
    check_floating,
    check_key,
    check_shape,
    cites,
)
from ...numerics import full_precision
from ._bibliography import VISWANATH_2026
from ._sample_motion import TRACKS, follow, n_features, prepare

# Queries that are carried together: bounds the memory, whatever their number.
_CHUNK = 512
# Start of a mixture: nearly all on one track.
_CERTAIN = 4.0
_CLIP = 4.0


@cites(VISWANATH_2026)
class KernelReducedOrderModel(eqx.Module):
    """Positions of any number of query points from the motion of a few sampled particles.

    Five candidates are computed for a query in each frame: two that interpolate the samples'
    displacement in the first frame (a thin-plate spline; moving least squares of the nearest
    samples), and three that carry the query along, frame by frame, with the increments of the
    samples around it *where they are by then* (two splines; a splat of Gaussians with Shepard's
    normalisation and a gradient). Each acts on what the best rigid motion of the samples leaves
    over. A small network mixes the five with weights that sum to one. It sees only how the
    samples move around the query: distances between the candidates, to the samples, to the walls,
    how much neighbours in the first frame have parted, the gradient and the misfit of the splat,
    and the worst of these so far.

    So rigid motions are reproduced exactly, whatever the network has learned, and the answer is
    the same in a shifted or rotated frame (walls aside). Untrained, the model is nearly the
    smooth spline. There is no chance in it.

    Parameters
    ----------
    dim
        2 or 3.
    hidden_channels
        Width of the network.
    n_layers
        Its hidden layers.
    n_neighbours
        Samples of the moving least squares.
    key
        PRNG key of the first weights.

    References
    ----------
    .. [1] H. Viswanath et al., "Learning Lagrangian interaction dynamics with sampling-based model
       order reduction", Transactions on Machine Learning Research, 2026. That model splats the
       samples' displacements in the first frame onto a grid; it knows absolute positions and
       reproduces no rigid motion.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.neural_operators import KernelReducedOrderModel
    >>> model = KernelReducedOrderModel(2, key=jax.random.key(3))
    >>> corners = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> quarter_turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    >>> samples = jnp.stack([corners, corners @ quarter_turn.T])
    >>> frames = model(jnp.array([[0.5, 0.0]]), samples)
    >>> bool(jnp.allclose(frames[-1], jnp.array([[0.0, 0.5]]), atol=1e-6))
    True
    """

    dim: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    n_neighbours: int = eqx.field(static=True)
    network: eqx.nn.MLP
    favour: Float[Array, " tracks"]
    feature_mean: Float[Array, " features"]
    feature_std: Float[Array, " features"]

    def __init__(
        self,
        dim: int,
        *,
        hidden_channels: int = 24,
        n_layers: int = 2,
        n_neighbours: int = 5,
        key: KeyArray,
    ):
        if dim not in (2, 3):
            raise ValueError(f"`dim` must be 2 or 3, got {dim!r}.")
        check_key(key)
        self.dim = dim
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_layers = check_count("n_layers", n_layers)
        self.n_neighbours = check_count("n_neighbours", n_neighbours, minimum=dim + 1)
        n = n_features(dim)
        network = eqx.nn.MLP(
            n, len(TRACKS), self.hidden_channels, self.n_layers, jax.nn.gelu, key=key
        )
        # Small: at first the mixture is the same everywhere.
        self.network = eqx.tree_at(
            lambda m: m.layers[-1].weight, network, 0.1 * network.layers[-1].weight
        )
        self.favour = _CERTAIN * jnp.eye(len(TRACKS))[2]
        self.feature_mean = jnp.zeros(n)
        self.feature_std = jnp.ones(n)

    def __call__(
        self,
        queries: Float[Array, "m d"] | np.ndarray,
        samples: Float[Array, "t p d"] | np.ndarray,
        *,
        mask: Bool[Array, " p"] | np.ndarray | None = None,
        bounds: Float[Array, "d 2"] | np.ndarray | None = None,
    ) -> Float[Array, "t m d"]:
        """Return the positions of the queries in all frames, the first included.

        Parameters
        ----------
        queries
            Positions in the first frame, ``(query, dim)``.
        samples
            Positions of the samples, ``(time, sample, dim)``; at least two frames, in order: the
            queries are carried from one to the next.
        mask
            False for samples that are padding.
        bounds
            Walls, which no answer passes, ``(dim, 2)``. By default there are none.

        Raises
        ------
        ValueError
            If a shape does not fit, a position is not finite, or no sample is real.
        """
        arguments = self._check(queries, samples, mask, bounds)
        return _answer(self, *arguments)

    def candidates(
        self,
        queries: Float[Array, "m d"] | np.ndarray,
        samples: Float[Array, "t p d"] | np.ndarray,
        *,
        mask: Bool[Array, " p"] | np.ndarray | None = None,
        bounds: Float[Array, "d 2"] | np.ndarray | None = None,
    ) -> tuple[Float[Array, "s m k d"], Float[Array, "s m f"]]:
        """Return the candidates of all frames but the first, and what the network sees.

        Parameters
        ----------
        queries, samples, mask, bounds
            As for the model itself.

        Returns
        -------
        tuple
            Positions ``(time - 1, query, candidate, dim)`` and features.
        """
        arguments = self._check(queries, samples, mask, bounds)
        return _collect(self, *arguments)

    @full_precision
    def mixture(
        self, features: Float[Array, "m f"] | Float[np.ndarray, "m f"]
    ) -> Float[Array, "m k"]:
        """Return the weights of the candidates.

        Parameters
        ----------
        features
            As `candidates` returns them.
        """
        mean, std = jax.lax.stop_gradient((self.feature_mean, self.feature_std))
        seen = jnp.clip((features - mean[None]) / std[None], -_CLIP, _CLIP)
        return jax.nn.softmax(jax.vmap(self.network)(seen) + self.favour[None], axis=-1)

    @full_precision
    def mix(
        self,
        tracks: Float[Array, "m k d"] | Float[np.ndarray, "m k d"],
        features: Float[Array, "m f"] | Float[np.ndarray, "m f"],
    ) -> Float[Array, "m d"]:
        """Return the mixture of candidates.

        Parameters
        ----------
        tracks, features
            Of one frame, or of any list of queries.
        """
        weights = self.mixture(features)
        # As differences to one of them: where all agree, so does the answer, to the last bit.
        tracks = jnp.asarray(tracks)
        base = tracks[:, 2]
        return base + jnp.einsum("mk,mkd->md", weights, tracks - base[:, None])

    def _check(self, queries, samples, mask, bounds):
        for name, array in (("queries", queries), ("samples", samples)):
            check_floating(name, array)
        dtype = jnp.result_type(queries, samples)
        queries, samples = jnp.asarray(queries, dtype), jnp.asarray(samples, dtype)
        check_shape("queries", queries, ("query", self.dim))
        n = check_shape("samples", samples, ("time", "sample", self.dim))["sample"]
        check_count("the number of queries", len(queries))
        check_count("the number of samples", n)
        check_count("the number of frames", len(samples), minimum=2)
        check_finite("queries", queries)
        if mask is None:
            check_finite("samples", samples)
            weight = jnp.ones(n, dtype)
        else:
            check_shape("mask", mask, (n,))
            weight = jnp.asarray(mask).astype(dtype)
            if not isinstance(weight, Tracer):
                if not bool(jnp.any(weight > 0)):
                    raise ValueError("`mask` is False everywhere: there is no sample.")
                check_finite("samples", jnp.where(weight[None, :, None] > 0, samples, 0))
        if bounds is None:
            # Far beyond all, and still finite in units of any spacing.
            far = float(jnp.finfo(dtype).max) ** 0.5
            bounds = np.array([[-far, far]] * self.dim)
        bounds = jnp.asarray(bounds, dtype)
        check_shape("bounds", bounds, (self.dim, 2))
        if not isinstance(bounds, Tracer):
            check_finite("bounds", bounds)
            if not bool(jnp.all(bounds[:, 0] < bounds[:, 1])):
                raise ValueError(f"`bounds` must rise along each axis, got {bounds.tolist()}.")
        return queries, samples, weight, bounds


def _in_chunks(model, queries, samples, weight, bounds, read):
    motion = prepare(samples, weight)
    n, d = queries.shape
    size = min(_CHUNK, n)
    n_chunks = -(-n // size)
    padding = jnp.broadcast_to(queries[:1], (n_chunks * size - n, d))
    chunks = jnp.concatenate([queries, padding]).reshape(n_chunks, size, d)
    k = min(model.n_neighbours, samples.shape[1])
    run = functools.partial(follow, motion, bounds=bounds, n_neighbours=k, read=read)
    found = jax.lax.map(lambda chunk: run(chunk), chunks)

    def join(a):  # (chunk, time, query, ...) -> (time, query, ...)
        a = jnp.moveaxis(a, 0, 1)
        return a.reshape(a.shape[0], n_chunks * size, *a.shape[3:])[:, :n]

    return motion, jax.tree.map(join, found)


@eqx.filter_jit
@full_precision
def _answer(model, queries, samples, weight, bounds):
    motion, found = _in_chunks(model, queries, samples, weight, bounds, model.mix)
    found = motion.origin[None, None] + motion.spacing * found
    # Scaling to and fro must not carry a point through a wall by a rounding.
    found = jnp.clip(found, bounds[None, None, :, 0], bounds[None, None, :, 1])
    return jnp.concatenate([queries[None], found])


@eqx.filter_jit
@full_precision
def _collect(model, queries, samples, weight, bounds):
    motion, (tracks, features) = _in_chunks(
        model, queries, samples, weight, bounds, lambda tracks, features: (tracks, features)
    )
    return motion.origin[None, None, None] + motion.spacing * tracks, features


KernelROM = KernelReducedOrderModel
