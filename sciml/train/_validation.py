"""Validation during training: your own function, or the mean loss over held-out batches."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..core import KeyArray
from ._batches import EpochSource, release_batches
from ._own_samples import agree_on_batches, with_own_samples
from ._placement import Placement, count_samples

Validator: TypeAlias = Callable[[PyTree], dict[str, float]]

# No step of training has this number, so its key is not used there.
_FOLD = 2**32 - 1


def as_validator(
    validation: Any, loss: Callable[..., Any], key: KeyArray, placement: Placement
) -> Validator | None:
    """Return a function of the model that gives named figures, of which the first decides.

    The devices of ``placement`` share the samples of validation batches whose number allows it;
    of others, and of the caller's own function, each process does everything on one device.

    Raises
    ------
    TypeError
        If ``validation`` is neither a function nor a finite collection of batches.
    ValueError
        If it has no batches.
    """
    if validation is None:
        return None
    # A source of batches first: some of them can be called as well.
    if isinstance(validation, EpochSource):
        source = validation
        n_batches = int(validation.steps_per_epoch)
    elif isinstance(validation, Sequence):
        source, n_batches = validation, len(validation)
    elif callable(validation):
        return lambda model: _named(validation(model))
    else:
        raise TypeError(
            "`validation` must be a function of the model, a list of batches, or an object with "
            f"`batches[step]` and `steps_per_epoch`; got {type(validation).__name__}."
        )
    if n_batches < 1:
        raise ValueError("`validation` has no batches.")

    source = with_own_samples(source, placement)
    keys = key, placement.replicated(key)

    # As in the training step, jit sees a flat list: the tree of a model may not be hashable.
    compiled: dict[str, Callable[..., jax.Array]] = {}

    def compile_for(structure: Any, static: PyTree) -> Callable[..., jax.Array]:
        def evaluate(leaves: list[jax.Array], batch: PyTree, key: KeyArray) -> jax.Array:
            model = eqx.combine(jax.tree.unflatten(structure, leaves), static)
            output = loss(model, batch, jax.random.fold_in(key, np.uint32(_FOLD)))
            return output[0] if isinstance(output, tuple) else output

        return jax.jit(evaluate)

    def validate(model: PyTree) -> dict[str, float]:
        arrays, static = eqx.partition(model, eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)
        # The structure of the model does not change during a run: it is compiled once.
        if not compiled:
            compiled["evaluate"] = compile_for(structure, static)
        spread = [placement.replicated(leaf) for leaf in leaves]
        losses = []
        try:
            for step in range(n_batches):
                batch = source[step]
                if placement.parts_evenly(count_samples(batch, 1)):
                    where = spread, placement.batch(batch), keys[1]
                else:
                    where = leaves, batch, keys[0]
                losses.append(compiled["evaluate"](*where))
            agree_on_batches(source)
        finally:
            release_batches(source)
        return {"validation_loss": float(np.mean([float(value) for value in losses]))}

    return validate


def is_better(value: float, best: float | None) -> bool:
    """Return whether a validation figure is the lowest so far; NaN never is."""
    return math.isfinite(value) and (best is None or value < best)


def _named(output: Any) -> dict[str, float]:
    if isinstance(output, Mapping):
        if not output:
            raise ValueError("`validation` returned a dictionary without figures.")
        return {f"validation_{name}": float(value) for name, value in output.items()}
    return {"validation_loss": float(output)}
