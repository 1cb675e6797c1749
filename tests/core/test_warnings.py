"""Warnings of sciml name the line of its caller."""

import warnings

import pytest

from sciml.core import warn_caller
from sciml.numerics import full_precision


def test_the_line_is_that_of_the_caller_through_decorators():
    warns = full_precision(lambda: warn_caller("said here", UserWarning))
    with pytest.warns(UserWarning, match="said here") as caught:
        warns()
    assert [warning.filename for warning in caught] == [__file__]


def test_where_all_frames_are_inner_it_is_still_issued():
    code = compile("warn_caller('inside')", "inside", "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(code, {"__name__": "sciml.inner", "warn_caller": warn_caller})
    assert [str(warning.message) for warning in caught] == ["inside"]
