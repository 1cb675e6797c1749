"""Fourier neural operator in any dimension (Li et al. 2021), on periodic and other axes."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import (
    Activation,
    KeyArray,
    check_count,
    check_flags,
    check_key,
    check_shape,
    cites,
    split_keys,
)
from ..core._bibliography import LI_2021
from ..nn import (
    ChannelLinear,
    ChannelMLP,
    FourierLayer,
    LayerForm,
    apply_stack,
    coordinate_channels,
    make_stack,
    n_coordinate_channels,
)


@cites(LI_2021)
class FNO(eqx.Module):
    """Map fields to fields: lift, ``n_layers`` Fourier layers, project.

    The weights do not depend on the grid: call the model on any number of points that holds the
    modes. Coordinates are appended as channels (sine and cosine on periodic axes), and axes that
    are not periodic are extended by a quarter of their length, edge values repeated, while the
    layers act.

    Weights are float32, and the precision of the input is that of the computation. With bfloat16
    (float16) the maps of points and the largest products of the transforms are taken in it, which
    is what accelerators do fast, while coefficients are summed and mixed in float32 (mixed
    precision); gradients of the weights are float32.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    n_modes
        Modes an axis; frequencies below it are kept.
    hidden_channels
        Width of the layers.
    n_layers
        Number of Fourier layers.
    periodic
        Whether each axis is periodic; one boolean stands for all.
    coordinates
        Whether coordinates are appended; without them the model commutes with shifts along
        periodic axes.
    form
        How the layers join their parts: ours, that of 2021, or that of the neuraloperator package.
    mlp_channels
        Channels inside the MLP of each layer; by default twice ``hidden_channels``, and half of
        them in the gated form. The plain form has no MLP.
    lifting_channels
        Channels inside an MLP that lifts; None for an affine map.
    projection_channels
        Channels inside the MLP that projects; twice ``hidden_channels`` by default.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] Z. Li et al., "Fourier neural operator for parametric partial differential equations",
           ICLR 2021.

    Examples
    --------
    >>> import jax
    >>> model = FNO(1, 1, n_modes=(4, 4), hidden_channels=8, key=jax.random.key(7))
    >>> model(jax.numpy.ones((1, 16, 16))).shape
    (1, 16, 16)
    """

    lifting: ChannelLinear | ChannelMLP
    layers: tuple[FourierLayer, ...]
    projection: ChannelMLP
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)
    coordinates: bool = eqx.field(static=True)
    form: LayerForm = eqx.field(static=True)
    mlp_channels: int | None = eqx.field(static=True)
    lifting_channels: int | None = eqx.field(static=True)
    projection_channels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: Sequence[int],
        *,
        hidden_channels: int = 20,
        n_layers: int = 4,
        periodic: bool | Sequence[bool] = True,
        coordinates: bool = True,
        form: LayerForm = LayerForm.RESIDUAL,
        mlp_channels: int | None = None,
        lifting_channels: int | None = None,
        projection_channels: int | None = None,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.n_modes = tuple(check_count(f"n_modes[{i}]", m) for i, m in enumerate(n_modes))
        if not self.n_modes:
            raise ValueError("`n_modes` needs the modes of each axis, got none.")
        check_key(key)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_layers = check_count("n_layers", n_layers)
        if isinstance(periodic, bool):
            periodic = (periodic,) * len(self.n_modes)
        self.periodic = check_flags("periodic", periodic, len(self.n_modes))
        self.coordinates = coordinates
        self.activation = activation

        if mlp_channels is None and form is not LayerForm.PLAIN:
            gated = form is LayerForm.GATED
            mlp_channels = max(1, round(hidden_channels / 2)) if gated else 2 * hidden_channels
        if projection_channels is None:
            projection_channels = 2 * hidden_channels
        self.form = form
        self.mlp_channels = mlp_channels
        self.lifting_channels = lifting_channels
        self.projection_channels = projection_channels

        lifting_key, layers_key, projection_key = split_keys(key, 3)
        n_coordinates = n_coordinate_channels(self.periodic) if coordinates else 0
        n_lifted = in_channels + n_coordinates
        if lifting_channels is None:
            self.lifting = ChannelLinear(n_lifted, hidden_channels, key=lifting_key)
        else:
            self.lifting = ChannelMLP(
                n_lifted, hidden_channels, lifting_channels, activation=activation, key=lifting_key
            )
        self.layers = make_stack(
            lambda key: FourierLayer(
                hidden_channels, self.n_modes, mlp_channels, form=form, activation=activation,
                key=key,
            ),
            n_layers,
            layers_key,
        )  # fmt: skip
        self.projection = ChannelMLP(
            hidden_channels,
            out_channels,
            projection_channels,
            activation=activation,
            key=projection_key,
        )

    def __call__(
        self, v: Float[Array, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """Return the output on the grid of ``v``.

        Raises
        ------
        ValueError
            If ``v`` has other channels or axes, or too few points for ``n_modes``.
        """
        check_shape("v", v, (self.in_channels, *(f"space_{i}" for i in range(len(self.n_modes)))))
        return _apply(self, v)


# Compiled also where the caller does not: operation by operation a first call takes ten times as
# long. It is transparent to an outer jit, vmap or grad.
@eqx.filter_jit
def _apply(model: FNO, v: Float[Array, "in_channels *space"]) -> Array:
    n_points = v.shape[1:]
    if model.coordinates:
        v = jnp.concatenate([v, coordinate_channels(n_points, model.periodic, v.dtype)])
    v = model.lifting(v)
    extension = [
        (0, 0 if periodic else -(-n // 4))
        for n, periodic in zip(n_points, model.periodic, strict=True)
    ]
    v = jnp.pad(v, [(0, 0), *extension], mode="edge")
    v = apply_stack(model.layers, v, apply_last=lambda layer, v: layer(v, is_last=True))
    v = v[(slice(None), *(slice(n) for n in n_points))]
    return model.projection(v)
