"""One step of a flow by a network that knows the case: parameters, mask, boundary."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_shape, cites
from ..data import FlowBatch, FlowInputs
from ..data._cfdbench_bibliography import LUO_2023


@cites(LUO_2023)
class FlowStep(eqx.Module):
    """From one frame of a flow to the next, for all cases of a problem.

    The network sees the two velocities in units of the case, the mask, and each feature of the
    case as a constant channel. In the fluid it says the velocity; on the boundary and in
    obstacles, where it is known, the known values stand, so that nothing wrong is fed back.

    Parameters
    ----------
    network
        Any map from ``3 + features`` channels to 2 on the grid of the frames, for instance
        ``FNO(3 + n_features, 2, modes, periodic=False)``.
    residual
        Whether it gives the change, and not the next frame itself.

    References
    ----------
    .. [1] Y. Luo, Y. Chen and Z. Zhang, "CFDBench: A Large-Scale Benchmark for Machine Learning
       Methods in Fluid Dynamics", 2023.

    Examples
    --------
    A network that says that nothing changes:

    >>> import jax.numpy as jnp
    >>> from sciml.data import FlowNormaliser, generate_cavity
    >>> case = generate_cavity(lid=0.1, density=1.0, viscosity=1e-4, size=0.1, n=14, n_frames=2)
    >>> step = FlowStep(lambda v: 0 * v[:2])
    >>> frame = jnp.asarray(case.frames()[1])
    >>> bool(jnp.allclose(step(frame, FlowNormaliser.fit([case]).inputs(case)), frame))
    True
    """

    network: Callable[[Array], Array]
    residual: bool = eqx.field(static=True)

    def __init__(self, network: Callable[[Array], Array], *, residual: bool = True):
        self.network = network
        self.residual = residual

    def __call__(
        self, frame: Float[Array | np.ndarray, "2 y x"], inputs: FlowInputs
    ) -> Float[Array, "2 y x"]:
        """Return the next frame.

        Parameters
        ----------
        frame
            Velocity with its boundary, ``(2, y, x)``.
        inputs
            What is known of the case, as `sciml.data.FlowNormaliser.inputs` gives it.

        Raises
        ------
        ValueError
            If the shapes of frame and mask differ.
        """
        frame = jnp.asarray(frame)
        sizes = check_shape("frame", frame, (2, "y", "x"))
        space = (sizes["y"], sizes["x"])
        mask = jnp.asarray(inputs.mask)
        check_shape("mask", mask, space)
        features = jnp.asarray(inputs.features, frame.dtype)
        scale = jnp.asarray(inputs.scale, frame.dtype)
        constant = jnp.broadcast_to(features[:, None, None], (len(features), *space))
        scaled = frame / scale
        out = self.network(jnp.concatenate([scaled, mask[None].astype(frame.dtype), constant]))
        check_shape("the network's output", out, frame.shape)
        following = scale * (scaled + out if self.residual else out)
        return jnp.where(mask[None], following, jnp.asarray(inputs.boundary, frame.dtype))


def rollout_flow(
    step: Callable[[Array, FlowInputs], Array],
    frame: Float[Array | np.ndarray, "2 y x"],
    inputs: FlowInputs,
    n_steps: int,
) -> Float[Array, "n_steps 2 y x"]:
    """Feed a model its own frames; frame ``k`` of the result is ``k + 1`` steps after ``frame``.

    The boundary is put in anew after every step, whatever the model says there.

    Parameters
    ----------
    step
        The model of a step, `FlowStep` or any function of a frame and inputs.
    frame
        The first frame; it is not part of the result.
    inputs
        What is known of the case.
    n_steps
        Steps.

    Returns
    -------
    Array
        ``(n_steps, 2, y, x)``: compare it with ``case.frames()[1 : n_steps + 1]``.

    Examples
    --------
    >>> from sciml.data import FlowNormaliser, generate_cavity
    >>> case = generate_cavity(lid=0.1, density=1.0, viscosity=1e-4, size=0.1, n=14, n_frames=2)
    >>> inputs = FlowNormaliser.fit([case]).inputs(case)
    >>> rollout_flow(lambda frame, inputs: frame, case.frames()[0], inputs, 3).shape
    (3, 2, 16, 16)
    """
    n_steps = check_count("n_steps", n_steps)
    frame = jnp.asarray(frame)
    return _frames(step, frame, inputs, n_steps)


# Compiled once for all calls, with the model as an argument.
@eqx.filter_jit
def _frames(
    step: Callable[[Array, FlowInputs], Array], frame: Array, inputs: FlowInputs, n_steps: int
) -> Array:
    mask, boundary = jnp.asarray(inputs.mask), jnp.asarray(inputs.boundary, frame.dtype)

    def advance(frame, _):
        following = jnp.where(mask[None], step(frame, inputs), boundary)
        return following, following

    return jax.lax.scan(advance, frame, None, length=n_steps)[1]


def flow_loss(
    model: Callable[[Array, FlowInputs], Array], batch: FlowBatch, key: KeyArray
) -> Float[Array, ""]:
    r"""Return the error of a batch over the change of its frames, for `sciml.train.fit`.

    .. math:: \sqrt{\frac{\sum |p - t|^2 / s^2}{\sum |t - f|^2 / s^2}}

    over the fluid, with each case's scale of velocity ``s``: 1 is what persistence gets. A batch in
    which nothing moves counts by its error relative to the flow.

    Parameters
    ----------
    model
        Called as ``model(frame, inputs)``.
    batch
        Pairs of frames.
    key
        Not used.
    """
    del key
    inputs = FlowInputs(*(jnp.asarray(entry) for entry in batch.inputs))
    frames, targets = jnp.asarray(batch.frames), jnp.asarray(batch.targets)
    predictions = jax.vmap(model)(frames, inputs)

    def size(difference: Array) -> Any:
        weighted = difference / inputs.scale[:, None, None, None]
        return jnp.sum(jnp.where(inputs.mask[:, None], weighted, 0) ** 2)

    # Changes below rounding are none; nor is a flow of zero a scale.
    eps, tiny = jnp.finfo(frames.dtype).eps, jnp.finfo(frames.dtype).tiny
    change, flow = size(targets - frames), size(targets)
    change = jnp.where(change > flow * eps**2, change, jnp.where(flow > 0, flow, 1))
    return jnp.sqrt((size(predictions - targets) + tiny) / change)
