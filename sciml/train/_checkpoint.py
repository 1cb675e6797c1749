"""Checkpoints: a saved model together with the optimiser, the step and the key, in one commit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..core import KeyArray, read_folder, write_folder
from ..core._arguments import is_extra
from ..core._leaves import describe_leaf, named_arrays, replace_arrays
from ..core._serialisation import KNOWN_KEYS, MODULE, describe_module, versions

_TRAINING = "training"


class Progress(NamedTuple):
    """Where a run stands, as far as plain numbers say it.

    Attributes
    ----------
    step
        Steps done.
    seconds
        Time spent, over all sessions.
    best_value, best_step
        The lowest validation figure so far, and after which step; None before the first.
    """

    step: int = 0
    seconds: float = 0.0
    best_value: float | None = None
    best_step: int | None = None


class Description(NamedTuple):
    """What lets `sciml.load` rebuild the model.

    Attributes
    ----------
    encoded
        Class and arguments as JSON values, or why they cannot be told.
    extra
        Arguments that are arrays and no leaves of the model, by the names in ``encoded``.
    """

    encoded: dict[str, Any]
    extra: dict[str, Any]


def describe_model(model: PyTree) -> Description:
    """Describe ``model`` for `sciml.load`, or say why that cannot be done.

    Training takes any tree of arrays; what does not follow the convention of `sciml.save` is
    loaded with ``sciml.load(path, like=model)``.
    """
    try:
        encoded, arrays = describe_module(model)
        return Description(encoded, {name: a for name, a in arrays.items() if is_extra(name)})
    except (TypeError, ValueError) as error:
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        return Description({"class": name, "arguments": None, "reason": str(error)}, {})


def write_model(path: Path, description: Description, model: PyTree) -> None:
    """Write a model alone."""
    config = {MODULE: description.encoded, "versions": versions()}
    write_folder(path, config, {MODULE: {**named_arrays(model), **description.extra}})


def write_checkpoint(
    path: Path,
    description: Description,
    model: PyTree,
    optimizer_state: PyTree,
    key: KeyArray,
    progress: Progress,
    config: Mapping[str, Any],
) -> None:
    """Write a checkpoint from which `restore_checkpoint` goes on exactly."""
    training = {
        **progress._asdict(),
        "optimizer": optimizer_structure(optimizer_state),
        "config": dict(config),
    }
    groups = {
        MODULE: {**named_arrays(model), **description.extra},
        _TRAINING: named_arrays({"key": key, "optimizer": optimizer_state}),
    }
    write_folder(
        path, {MODULE: description.encoded, "versions": versions(), _TRAINING: training}, groups
    )


def restore_checkpoint(
    path: Path,
    description: Description,
    model: PyTree,
    optimizer_state: PyTree,
    key: KeyArray,
    config: Mapping[str, Any],
) -> tuple[PyTree, PyTree, Progress]:
    """Read a checkpoint of the run that these arguments would start.

    Returns
    -------
    model, optimizer_state
        The given ones with the arrays of the checkpoint.
    progress
        Where the run stands.

    Raises
    ------
    ValueError
        If the files are damaged, or belong to a run with another model, optimiser, key or
        configuration; the message names what differs.
    """
    stored, groups = read_folder(path, (MODULE, _TRAINING), KNOWN_KEYS)
    training = stored.get(_TRAINING)
    if not isinstance(training, dict):
        raise ValueError(f"{str(path)!r} holds a model but no training state to resume.")
    started = {"key": key, "optimizer": optimizer_state}
    difference = (
        _difference_of_models(stored.get(MODULE), description.encoded)
        or _difference_of_arrays(
            "the model", groups[MODULE], {**named_arrays(model), **description.extra}
        )
        or _difference(
            "the optimiser", training.get("optimizer"), optimizer_structure(optimizer_state)
        )
        or _difference_of_arrays("the optimiser", groups[_TRAINING], named_arrays(started))
        or _difference_of_keys(groups[_TRAINING]["['key']"], key)
        or _difference_of_configs(training.get("config", {}), config)
    )
    if difference:
        raise ValueError(
            f"cannot resume from {str(path)!r}: {difference} Call `fit` as the run was started, "
            "choose another `run_dir`, or pass `overwrite=True` instead of `resume=True`."
        )
    restored = replace_arrays(started, groups[_TRAINING])
    try:
        progress = Progress(**{name: training[name] for name in Progress._fields})
    except KeyError as error:
        raise ValueError(f"{str(path)!r}: 'training' lacks {error}.") from None
    return replace_arrays(model, groups[MODULE]), restored["optimizer"], progress


def optimizer_structure(optimizer_state: PyTree) -> str:
    """Return the structure of an optimiser's state, with each copy of the parameters as one leaf.

    Two optimisers with leaves of equal shapes may still differ in kind; this tells them apart.
    """
    return str(
        jax.tree.structure(
            jax.tree.map(
                lambda node: 0, optimizer_state, is_leaf=lambda node: isinstance(node, eqx.Module)
            )
        )
    )


def _difference(what: str, stored: Any, now: Any) -> str:
    return "" if stored == now else f"{what} was {stored!r} and is now {now!r}."


def _difference_of_models(stored: Any, now: Mapping[str, Any]) -> str:
    if not isinstance(stored, dict):
        return "it does not say which model it holds."
    if stored.get("class") != now["class"]:
        return _difference("the class of the model", stored.get("class"), now["class"])
    # Through JSON, as the stored one went.
    before, after = stored.get("arguments") or {}, json.loads(json.dumps(now["arguments"])) or {}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            return _difference(
                f"the argument {name!r} of the model", before.get(name), after.get(name)
            )
    return ""


def _difference_of_arrays(what: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for name in (*stored, *now):
        if name not in stored or name not in now:
            where = "the checkpoint" if name in stored else "the call"
            return f"the array {name!r} of {what} is only in {where}."
        before, after = describe_leaf(name, stored[name]), describe_leaf(name, now[name])
        if before != after:
            return (
                f"the array {name!r} of {what} had shape {before.shape} and dtype {before.dtype}, "
                f"and has now shape {after.shape} and dtype {after.dtype}."
            )
    return ""


def _difference_of_keys(stored: jax.Array, now: jax.Array) -> str:
    same = bool((jax.random.key_data(stored) == jax.random.key_data(now)).all())
    return "" if same else "it was trained with another `key`."


def _difference_of_configs(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    now = json.loads(json.dumps(now))
    for name in sorted(stored.keys() | now.keys()):
        if stored.get(name) != now.get(name):
            return _difference(f"`config[{name!r}]`", stored.get(name), now.get(name))
    return ""
