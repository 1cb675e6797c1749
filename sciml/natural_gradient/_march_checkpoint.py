"""A march on disk: what its next step needs, written whole or not at all."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import PathLike, read_folder, write_folder
from ..core._leaves import named_arrays
from ..core._serialisation import MODULE, versions

_KEY = "march"


def write_march(path: PathLike, network: Any, carry: Any, state: dict[str, Any]) -> None:
    """Write a march into a folder; ``sciml.load(path, like=network)`` reads its network.

    Parameters
    ----------
    path
        The folder.
    network
        As it is now.
    carry
        What the next step needs, without factors.
    state
        Numbers, as JSON takes them.
    """
    name = f"{type(network).__module__}.{type(network).__qualname__}"
    described = {"class": name, "arguments": None, "reason": "written by a march"}
    arrays = {f"a{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(carry))}
    write_folder(
        path,
        {MODULE: described, "versions": versions(), _KEY: state},
        {MODULE: named_arrays(network), _KEY: arrays},
    )


def read_march(path: PathLike, like: Any) -> tuple[Any, dict[str, Any]] | None:
    """Return what `write_march` wrote, or None if there is nothing.

    Parameters
    ----------
    path
        The folder.
    like
        A carry of the same structure.

    Raises
    ------
    ValueError
        If the folder holds something else, or the arrays are of another march.
    """
    if not (Path(path) / "config.json").exists():
        return None
    config, groups = read_folder(path, (MODULE, _KEY), (MODULE, "versions", _KEY))
    leaves, treedef = jax.tree.flatten(eqx.filter(like, eqx.is_array))
    stored = groups[_KEY]
    shapes = [tuple(np.shape(stored[f"a{i}"])) for i in range(len(stored))]
    if shapes != [leaf.shape for leaf in leaves]:
        raise ValueError(
            f"{str(path)!r} holds a march of another network, stepper or points: its arrays have "
            f"the shapes {shapes}, expected {[leaf.shape for leaf in leaves]}."
        )
    missing = {"t", "span", "rows", "control", "tangent"} - set(config[_KEY])
    if missing:
        raise ValueError(f"{str(path)!r} holds no march that can go on: {sorted(missing)} missing.")
    arrays = [jnp.asarray(stored[f"a{i}"]) for i in range(len(stored))]
    return jax.tree.unflatten(treedef, arrays), config[_KEY]
