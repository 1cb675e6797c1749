"""One step of training, compiled: loss, gradient, update, and a guard against non-finite numbers.

The state lives on the device as a flat list of arrays that every step gives back to XLA
(donation), so that parameters and moments exist once. A step whose loss, gradient or update is
not finite changes nothing, and no later step does: the host looks at a step's figures while the
next one runs already, and that one must not move the parameters either.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PyTree

from ..core import KeyArray
from ..numerics import full_precision
from ._placement import Placement

RESERVED = ("step", "loss", "gradient_norm", "seconds")


class StepFigures(NamedTuple):
    """What a step reports; still on the device.

    Attributes
    ----------
    summary
        Loss, gradient norm, and 1 if the update was applied, otherwise 0.
    auxiliary
        The scalars that the loss returned beside its value.
    """

    summary: Float[Array, "3"]
    auxiliary: dict[str, Float[Array, ""]]


class TrainingStep:
    """The state of training and the compiled step that moves it.

    Parameters
    ----------
    model
        The start; its arrays are copied, so that donation never touches the caller's.
    loss
        ``loss(model, batch, key) -> scalar`` or ``(scalar, dict of scalars)``.
    optimizer
        Any optax gradient transformation. ``update`` is given the loss as ``value=``.
    key
        Step ``k`` uses ``fold_in(key, k)``.
    placement
        The devices that hold state and batches.
    """

    def __init__(
        self,
        model: PyTree,
        loss: Callable[..., Any],
        optimizer: optax.GradientTransformation,
        key: KeyArray,
        placement: Placement | None = None,
    ):
        _check_parameters(model)
        self._loss, self._optimizer = loss, optax.with_extra_args_support(optimizer)
        self.placement = Placement(None) if placement is None else placement
        self._key = self.placement.replicated(key)
        arrays, self._static = eqx.partition(model, eqx.is_array)
        with _optax_promotion():
            optimizer_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
        optimizer_state = jax.tree.map(
            lambda leaf: jnp.asarray(leaf) if eqx.is_array_like(leaf) else leaf, optimizer_state
        )
        self._put(arrays, optimizer_state, 0)
        shardings = self.placement.shardings(self._leaves)
        self._compiled = jax.jit(
            self._advance,
            donate_argnums=0,
            out_shardings=None if shardings is None else (shardings, self.placement.whole),
        )

    @property
    def model(self) -> PyTree:
        """The model as it is now; valid until the next step."""
        return self.whole_state()[0]

    @property
    def optimizer_state(self) -> PyTree:
        """The state of the optimiser; valid until the next step."""
        return self.whole_state()[1]

    def whole_state(self) -> tuple[PyTree, PyTree]:
        """Return model and state of the optimiser, gathered; all processes must ask together."""
        arrays, optimizer_state, _ = self._unflatten(self.placement.gathered(self._leaves))
        return eqx.combine(arrays, self._static), optimizer_state

    @property
    def n_done(self) -> int:
        """How many steps were started; the state is the one after the last of them."""
        return self._state[1]

    @property
    def is_alive(self) -> bool:
        """Whether the state can be read: False after an interrupt in the middle of a step."""
        return not any(leaf.is_deleted() for leaf in self._leaves)

    def copy_of_model(self) -> PyTree:
        """Return a copy of the model that later steps do not touch."""
        return jax.tree.map(lambda leaf: _copy(leaf) if eqx.is_array(leaf) else leaf, self.model)

    def restore(self, model: PyTree, optimizer_state: PyTree, n_done: int) -> None:
        """Replace the state by one of the same structure, after ``n_done`` steps."""
        self._put(eqx.filter(model, eqx.is_array), optimizer_state, n_done)

    def advance(self, batch: PyTree, step: int) -> StepFigures:
        """Start step number ``step``; the figures are ready when the device is done with it."""
        batch = self.placement.batch(batch)
        leaves, figures = self._compiled(self._leaves, batch, self._key, np.uint32(step))
        # One assignment, so that an interrupt never parts the state from its step.
        self._state = leaves, step + 1
        return figures

    def _put(self, arrays: PyTree, optimizer_state: PyTree, n_done: int) -> None:
        state = (arrays, optimizer_state, jnp.asarray(True))
        leaves, self._structure = jax.tree.flatten(state)
        self._state = self.placement.state([_copy(leaf) for leaf in leaves]), n_done

    @property
    def _leaves(self) -> list[Array]:
        return self._state[0]

    def _unflatten(self, leaves: list[Array]) -> tuple[PyTree, PyTree, Bool[Array, ""]]:
        return jax.tree.unflatten(self._structure, leaves)

    @full_precision
    def _advance(
        self, leaves: list[Array], batch: PyTree, key: KeyArray, step: Array
    ) -> tuple[list[Array], StepFigures]:
        arrays, optimizer_state, good = self._unflatten(leaves)
        params, rest = eqx.partition(eqx.combine(arrays, self._static), eqx.is_inexact_array)

        def objective(params: PyTree) -> tuple[Array, dict[str, Array]]:
            model = eqx.combine(params, rest)
            return _split(self._loss(model, batch, jax.random.fold_in(key, step)))

        at_hand = self.placement.during_step(params)
        (value, auxiliary), gradient = jax.value_and_grad(objective, has_aux=True)(at_hand)
        gradient = self.placement.between_steps(gradient)
        with _optax_promotion():
            updates, new_optimizer_state = self._optimizer.update(
                gradient, optimizer_state, params, value=value
            )
            new_params = optax.apply_updates(params, updates)
            norm = optax.tree.norm(gradient)
        good = good & _all_finite((value, gradient, updates))
        new_arrays = eqx.combine(new_params, arrays)
        new_leaves, structure = jax.tree.flatten((new_arrays, new_optimizer_state, good))
        if structure != self._structure:
            raise TypeError(
                "the optimiser changed the structure of its state during a step; `update` must "
                "return what `init` returns, with other numbers."
            )
        kept = [_choose(good, new, old) for new, old in zip(new_leaves, leaves, strict=True)]
        summary = jnp.stack([jnp.asarray(x, jnp.result_type(float)) for x in (value, norm, good)])
        # The flag itself is not to be chosen: it goes down and stays down.
        return [*kept[:-1], good], StepFigures(summary, auxiliary)


def _check_parameters(model: PyTree) -> None:
    flat, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(model, eqx.is_inexact_array))
    if not flat:
        raise ValueError("the model has no floating-point array, so there is nothing to train.")
    for path, leaf in flat:
        if jnp.iscomplexobj(leaf):
            raise TypeError(
                f"the parameter {jax.tree_util.keystr(path)!r} is complex. Optimisers follow the "
                "wrong direction there: keep real and imaginary part as a real array with a last "
                "axis of 2."
            )


def _split(output: Any) -> tuple[Array, dict[str, Array]]:
    value, auxiliary = output if isinstance(output, tuple) else (output, {})
    value = jnp.asarray(value)
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            "`loss` must return a real scalar, or a pair of it and a dictionary; got an array of "
            f"shape {value.shape} and dtype {value.dtype}."
        )
    if not isinstance(auxiliary, dict):
        raise TypeError(
            "what `loss` returns beside its value must be a dictionary of scalars, got "
            f"{type(auxiliary).__name__}."
        )
    figures = {}
    for name, figure in auxiliary.items():
        array = jnp.asarray(figure)
        if array.shape != () or name in RESERVED:
            raise ValueError(
                f"the figure {name!r} of `loss` must be a scalar with a name other than "
                f"{RESERVED}; it has shape {array.shape}."
            )
        figures[name] = array
    return value, figures


def _optax_promotion() -> Any:
    # optax mixes Python floats and integer counters, which strict promotion refuses. Its types are
    # its own affair; the caller's setting keeps watching the model and the loss.
    return jax.numpy_dtype_promotion("standard")


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def _choose(good: Bool[Array, ""], new: Array, old: Array) -> Array:
    if new.dtype != old.dtype and not jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        new = new.astype(old.dtype)  # otherwise the next step would be compiled anew
    return jnp.where(good, new, old)


def _copy(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)  # Equinox counts NumPy arrays among the arrays, so they train, too
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    # An explicit dtype takes the "weak" mark away, which would cost a second compilation.
    return jnp.array(leaf, dtype=leaf.dtype, copy=True)
