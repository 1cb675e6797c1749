"""A slice of benchmarks/fuzz_files.py: spoiled files are refused by name or change nothing."""

import numpy as np
import pytest

from .file_faults import FORMATS, Bench, Verdict

_FINE = {Verdict.REFUSED, Verdict.EQUAL, Verdict.VALUES, Verdict.EDITED}


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_spoiled_files(tmp_path, fmt):
    # No alarm clock and no limit on memory here: those belong to the benchmark's own processes.
    bench = Bench(fmt, tmp_path)
    original = bench.read_valid()
    allowed = _FINE | ({Verdict.STRUCTURE} if fmt.is_text else set())
    found = [bench.try_case(8081, number, original) for number in range(30)]
    assert [case for case in found if case.verdict not in allowed] == []
    assert sum(case.verdict is Verdict.REFUSED for case in found) > 5
    assert np.isin([case.number for case in found], range(30)).all()
