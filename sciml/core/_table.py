"""Plain-text tables for the terminal: text to the left, numbers to the right."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def format_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return rows as aligned lines of text under a header.

    Parameters
    ----------
    rows
        One record a line; an entry that is missing or None is shown as ``-``.
    columns
        For each key of the records its heading, in order.

    Returns
    -------
    str
        Lines without a trailing newline. Numbers have three significant figures.

    Examples
    --------
    >>> rows = [{"method": "persistence", "error": 0.3217}, {"method": "SFNO", "error": 2.4e-5}]
    >>> print(format_table(rows, {"method": "method", "error": "relative L2"}))
    method       relative L2
    -----------  -----------
    persistence        0.322
    SFNO             2.4e-05
    """
    if not columns:
        raise ValueError("`columns` must name at least one column.")
    cells = [[_in_words(row.get(key)) for key in columns] for row in rows]
    is_text = [any(isinstance(row.get(key), str) for row in rows) for key in columns]
    headings = list(columns.values())
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]

    def line(entries: Sequence[str]) -> str:
        padded = [
            entry.ljust(width) if text else entry.rjust(width)
            for entry, width, text in zip(entries, widths, is_text, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(headings), rule, *(line(entries) for entries in cells)])


def _in_words(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
