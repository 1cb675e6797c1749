# Each target sets up what it needs: .venv on first use, then the extra named beside it, again only
# when pyproject.toml changed. Options: PYTHON=python3.12 (which interpreter makes .venv),
# VENV=folder, BENCH="..." (which benchmarks), ARGS="..." (passed on to the command of the target: `make demo ARGS=--quick`).

SHELL := bash
# One job after another: pip must not run twice at once in one environment, and the tools fill the
# cores by themselves.
.NOTPARALLEL:

VENV ?= .venv
PYTHON ?=
ARGS ?=
# Whether anything became slower, then the benchmarks of the main job: forty minutes on two cores. docs/benchmarks.md lists the others,
# for instance BENCH="refinement error_estimate"; those with peers say what they need.
BENCH ?= regressions navier_stokes_stepping truncated_dft sfno_ablation sfno_navier_stokes
BIN := $(VENV)/bin

.PHONY: help demo test lint docs bench package clean

help:
	@echo "make demo    train, evaluate and compare on the shipped Navier-Stokes sample"
	@echo "make test    the test suite and the examples in the docstrings"
	@echo "make lint    ruff, pyright and the layer contract"
	@echo "make docs    the documentation, into docs/_build/html"
	@echo "make bench   the main job's benchmarks, into benchmarks/results (BENCH=... for others)"
	@echo "make package sdist and wheel, and the tests against the installed wheel (ARGS=tests/core: some)"
	@echo "make clean   remove what these made, except $(VENV) and runs/"
	@echo "Each installs what it needs into $(VENV) on first use."

demo: $(VENV)/.installed-plot
	$(BIN)/python -m sciml demo $(ARGS)

# --doctest-modules collects the docstring examples of the package beside the tests. The suite is
# mostly compilation, which two processes do in half the time; a file stays in one process, so that
# what it compiled is compiled once.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --doctest-modules sciml tests $(ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html $(ARGS)
	@echo "Open docs/_build/html/index.html"

bench: $(VENV)/.installed-bench
	set -e; for name in $(BENCH); do $(BIN)/python "benchmarks/$$name.py" $(ARGS); done

# What users install: the wheel alone in a bare environment, then the tests of the sdist against it.
package: $(VENV)/.created
	@bash .ci/package $(BIN)/python $(ARGS)

clean:
	rm -rf build dist docs/_build docs/generated docs/gallery docs/sg_execution_times.rst
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find sciml tests docs -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.created:
	@bash .ci/setup create "$(VENV)" "$(PYTHON)"

$(VENV)/.installed-%: pyproject.toml $(VENV)/.created
	@bash .ci/setup install "$(VENV)" "$*"
