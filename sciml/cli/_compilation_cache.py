"""Keep compiled programs between runs of the command line: a second run starts at once."""

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path

_VARIABLE = "SCIML_COMPILATION_CACHE"
_OFF = ("off", "0", "no", "false")
_MAX_BYTES = 256 * 2**20
_CPU_INFO = Path("/proc/cpuinfo")


def compilation_cache_folder() -> Path | None:
    """Return where compiled programs are kept, or None if they are not.

    SCIML_COMPILATION_CACHE names another folder, or is ``off``. A variable of JAX itself wins.
    """
    chosen = os.environ.get(_VARIABLE, "")
    if chosen.lower() in _OFF or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    if chosen:
        root = Path(chosen).expanduser()
    else:
        home = os.environ.get("XDG_CACHE_HOME")
        try:
            root = (Path(home) if home else Path.home() / ".cache") / "sciml" / "compiled"
        except RuntimeError:  # no home folder
            return None
    # Programs are made for one processor; a home folder may be shared by machines that differ.
    return root / _processor_digest()


def enable_compilation_cache() -> None:
    """Tell JAX to keep compiled programs; do nothing where the folder cannot be written."""
    folder = compilation_cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return
    _prune(folder)
    # XLA takes two of its own tuning flags for processor features and warns, at each program that
    # it loads, of a machine that lacks them. The folder is that of this processor.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _prune(folder: Path) -> None:
    """Remove the oldest programs until the rest fit, so that the folder does not grow for ever.

    JAX can do this only with another library.
    """
    # Another process may remove files at the same time.
    with contextlib.suppress(OSError):
        files = sorted(
            (path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir()
        )
        excess = sum(size for _, size, _ in files) - _MAX_BYTES
        for _, size, path in files:
            if excess <= 0:
                break
            path.unlink()
            excess -= size


def _processor_digest() -> str:
    words = [platform.machine()]
    with contextlib.suppress(OSError):
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
        seen = {line for line in lines if line.lower().startswith(("flags", "features", "model"))}
        words += sorted(seen)
    return f"{platform.machine()}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}"
