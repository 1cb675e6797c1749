"""What a failure is called on the terminal, and the exit status that it gives."""

import errno

FAILURE = 1
USAGE = 2
INTERRUPTED = 130

# What a caller can mend by other arguments or another file.
_BAD_INPUT = (
    ValueError,
    TypeError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
# Failures that are told in words: everything else is a defect of sciml.
_FORESEEN = (*_BAD_INPUT, OSError, RuntimeError, ImportError, MemoryError)


class UsageError(ValueError):
    """Arguments that contradict one another or the data; the message is the whole story."""


def exit_status(error: Exception) -> int:
    """Return 2 for bad arguments or data, 1 for work that failed."""
    # RecursionError and NotImplementedError are RuntimeErrors, JAX's own type errors TypeErrors.
    return USAGE if isinstance(error, _BAD_INPUT) else FAILURE


def describe_failure(error: Exception) -> str:
    """Return one line that says what went wrong."""
    # The text of an OSError begins with its number, which tells nobody anything.
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        words = error.strerror
        if error.filename is not None:
            words = f"{error.filename}: {words}"
        if error.errno == errno.ENOSPC:
            words += " (the disk is full)"
    else:
        words = str(error)
    words = " ".join(words.split())
    if not isinstance(error, _FORESEEN):
        kind = type(error).__name__
        return f"unexpected {kind}: {words} (a defect of sciml; --debug shows where)"
    return words or type(error).__name__
