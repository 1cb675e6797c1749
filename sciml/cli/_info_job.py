"""The work of ``sciml info``."""

import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from ..core import machine, real_dtype
from ..core._serialisation import versions
from ..neural_operators import AbstractForecaster, AbstractParticleStepper
from ..train import read_metrics
from ._compilation_cache import compilation_cache_folder
from ._data import DataInfo
from ._data_job import describe
from ._saved_model import as_saved_model, is_run_folder, load_any_model, read_run_settings


def describe_installation() -> str:
    """Return versions, devices, precision and the cache, for people."""
    facts = versions() | {name: str(value) for name, value in machine().items()}
    facts["precision"] = f"{np.dtype(real_dtype())} (JAX_ENABLE_X64=1 gives float64)"
    if np.dtype(real_dtype()) == np.float64:
        facts["precision"] = "float64"
    folder = compilation_cache_folder()
    facts["cache"] = "off" if folder is None else str(folder)
    return _aligned(facts)


def describe_path(path: Path) -> str:
    """Return what a run folder, a saved model or a data file holds."""
    if path.is_dir() and is_run_folder(path):
        return _describe_run(path)
    if path.is_dir() and _is_saved_model(path):
        return _describe_model(path)
    return describe(DataInfo(path=str(path)))


def _is_saved_model(path: Path) -> bool:
    config = path / "config.json"
    if not config.is_file():
        return False
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        # Loading it says what is wrong.
        return True
    return isinstance(content, dict) and content.get("format") == "sciml"


def _describe_run(path: Path) -> str:
    settings = read_run_settings(path)
    facts = {name: json.dumps(value) for name, value in settings["config"].items()}
    facts |= {f"{name} version": number for name, number in settings["versions"].items()}
    try:
        history = read_metrics(path)
    except FileNotFoundError:
        history = {}
    if "loss" in history:
        steps, losses = history["loss"]
        n_steps = settings.get("n_steps", "?")
        facts["progress"] = f"step {steps[-1]} of {n_steps}, loss {losses[-1]:.4g}"
    if "validation_loss" in history:
        steps, values = history["validation_loss"]
        best = int(np.nanargmin(values))
        facts["best validation"] = f"{values[best]:.4g} at step {steps[best]}"
    text = f"Training run {path}\n{_aligned(facts)}"
    if (path / "checkpoint" / "config.json").exists():
        text += f"\n\n{_describe_model(path)}"
    return text


def _describe_model(path: Path) -> str:
    model, settings = load_any_model(path)
    arrays = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    facts = {
        "class": type(model).__name__,
        "parameters": f"{sum(a.size for a in arrays):,}",
        "precision": ", ".join(sorted({str(a.dtype) for a in arrays})),
    }
    for name in ("n_modes", "hidden_channels", "n_layers", "channels", "context_channels", "dt"):
        if hasattr(model, name):
            facts[name] = str(getattr(model, name))
    if isinstance(model, AbstractParticleStepper):
        facts["radius"] = f"{model.radius:.4g}"
        facts["window"] = f"{model.window + 1} frames, {model.normaliser.dt:g} apart"
    elif isinstance(model, AbstractForecaster):
        saved = as_saved_model(path, model, settings)
        facts["forecast"] = f"{saved.n_in or '?'} snapshots in, {saved.n_out or '?'} out"
    return f"Model {path}\n{_aligned(facts)}"


def _aligned(facts: dict[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"  {name.ljust(width)}  {value}" for name, value in facts.items())
