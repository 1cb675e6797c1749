"""Libraries of the extras, imported where they are used; the error names the extra."""

import importlib
from types import ModuleType

_EXTRA_OF = {
    "exponax": "test",
    "h5py": "data",
    "ilupp": "ilu",
    "matplotlib": "plot",
    "pooch": "data",
    "pyamg": "amg",
}


def import_optional(module: str, purpose: str) -> ModuleType:
    """Import ``module`` of an extra, or raise ``ImportError`` with the command that installs it.

    Parameters
    ----------
    module
        Dotted module name; its first part must belong to a known extra.
    purpose
        What the caller wants it for; it opens the sentence of the error.

    Returns
    -------
    types.ModuleType
        The imported module.
    """
    root = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != root:
            raise  # the library is there; one of its own imports is broken
        raise ImportError(
            f"{purpose} needs the optional library `{root}`. "
            f"Install it with `pip install 'sciml[{_EXTRA_OF[root]}]'`."
        ) from error
