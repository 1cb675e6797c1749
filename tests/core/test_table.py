"""Tables of the terminal."""

import pytest

from sciml.core import format_table


def test_columns_are_aligned_and_gaps_are_shown():
    rows = [{"a": "long name", "b": 0.12345}, {"a": "x", "b": None}]
    lines = format_table(rows, {"a": "method", "b": "L2"}).splitlines()
    assert lines == ["method        L2", "---------  -----", "long name  0.123", "x              -"]


def test_a_table_without_rows_is_its_header():
    assert format_table([], {"a": "x"}).splitlines() == ["x", "-"]


def test_a_table_needs_columns():
    with pytest.raises(ValueError, match="column"):
        format_table([{"a": 1}], {})
