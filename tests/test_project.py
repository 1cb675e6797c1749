"""What holds for the project as a whole: imports, layers, docstrings, files, versions."""

import ast
import enum
import functools
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sciml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = sorted(m.name for m in pkgutil.iter_modules(sciml.__path__) if m.ispkg)
LIBRARY_PACKAGES = [name for name in PACKAGES if name != "cli"]
# What a first script of each method loads. The other names of a package load on first use.
METHODS = {
    "neural_operators": ("SFNO", "FNO", "refine", "evaluate"),
    "linear_solvers": (),
    "natural_gradient": (),
    "constraints": (),
}
EXTRAS = ("matplotlib", "h5py", "pooch", "exponax", "beartype", "hypothesis", "pytest")

# Imports are looked at in forks of one process that has imported jax and no part of ours. Processor
# time, not wall time: other work on the machine does not count.
_IMPORTS = """
import importlib, json, os, sys, time
start = time.process_time()
import jax
# On a slow or busy machine half a second is what two thirds of jax take.
limit = max({limit}, 0.65 * (time.process_time() - start))

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def forked(function, *arguments):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, json.dumps(function(*arguments)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found = answer.read()
    assert os.waitpid(child, 0)[1] == 0, "see above"
    return json.loads(found)

def changed_without_extras():
    sys.meta_path.insert(0, Blocker())
    before = dict(jax.config.values)
    for package in {packages!r}:
        module = importlib.import_module("sciml." + package)
        for name in dir(module):  # some load on first use
            getattr(module, name)
    # Flags that equinox or diffrax register by importing more of jax are not changes.
    return [name for name, value in before.items() if jax.config.values[name] != value]

def seconds(package, names):
    start = time.process_time()
    import sciml
    module = getattr(sciml, package) if package else sciml
    for name in names:
        getattr(module, name)
    return time.process_time() - start

def best(package="", names=()):
    # Other work on the machine can only add: one good run of three is enough.
    for _ in range(3):
        found = forked(seconds, package, names)
        if found <= limit:
            break
    return found

found = {{"limit": limit, "changed": forked(changed_without_extras)}}
import equinox, diffrax
found["sciml"] = best()
# Each method on its own, with what it stands on. All of them together are 600 classes, which
# equinox builds in 0.8 s.
import scipy.sparse.linalg
found |= {{method: best(method, names) for method, names in {methods!r}.items()}}
assert "sciml" not in sys.modules
print(json.dumps(found))
"""


@functools.cache
def _imports() -> dict:
    program = _IMPORTS.format(extras=EXTRAS, packages=PACKAGES, methods=METHODS, limit=0.5)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_package_imports_without_extras_and_changes_no_setting():
    assert _imports()["changed"] == []


@pytest.mark.parametrize("package", ["sciml", *METHODS])
def test_importing_costs_at_most_half_a_second_over_jax(package):
    assert _imports()[package] <= _imports()["limit"]


def _layer_ranks() -> dict[str, int]:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    contract = next(c for c in contracts if c["type"] == "layers")
    return {
        name.strip("() "): rank
        for rank, layer in enumerate(reversed(contract["layers"]))
        for name in layer.split("|")
    }


def _imported_packages(path: Path) -> set[str]:
    """Return the subpackages of sciml that a file imports, at any depth of the code."""
    inside = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(inside[: -node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("sciml.")}
    return found & set(PACKAGES)


def test_packages_import_lower_layers_only():
    ranks = _layer_ranks()
    assert set(PACKAGES) <= set(ranks), "a package stands in no layer of pyproject.toml"
    wrong = [
        f"{path.relative_to(ROOT)} imports sciml.{other}"
        for package in PACKAGES
        for path in (ROOT / "sciml" / package).rglob("*.py")
        for other in _imported_packages(path)
        if other != package and ranks[other] >= ranks[package]
    ]
    assert not wrong


def test_versions_agree():
    version = PROJECT["project"]["version"]
    # A source tree that is run without an installation has no version to compare.
    assert sciml.__version__ in (version, "0+unknown")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def _python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)


@pytest.mark.parametrize("block", _python_blocks(ROOT / "README.md"))
def test_readme_code_runs(block, tmp_path):
    # As printed, but for the length of the training.
    short = block.replace("n_steps = 1000", "n_steps = 2")
    assert short != block or "n_steps" not in block
    done = subprocess.run(
        [sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _public(package: str) -> list[tuple[str, object]]:
    """Return the names that a package re-exports, if they are classes or functions of ours."""
    module = importlib.import_module(f"sciml.{package}")
    members = ((name, getattr(module, name)) for name in dir(module))  # some load on first use
    return [
        (name, value)
        for name, value in members
        if not name.startswith("_")
        and callable(value)
        and str(getattr(value, "__module__", "")).startswith("sciml.")
    ]


def _section(docstring: str, title: str) -> str:
    pattern = rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)"
    found = re.search(pattern, docstring, re.M | re.S)
    return found.group(1) if found else ""


def _documented_names(docstring: str, *titles: str) -> set[str]:
    return {
        name.strip("* ")
        for title in titles
        for line in _section(docstring, title).splitlines()
        if line and not line.startswith(" ")
        for name in line.partition(":")[0].split(",")
    }


def _parameters(value) -> list[str]:
    try:
        parameters = inspect.signature(value).parameters
    except (TypeError, ValueError):  # enumerations have no useful signature
        return []
    return [name for name in parameters if not name.startswith("_")]


@pytest.mark.parametrize("package", LIBRARY_PACKAGES)
def test_public_names_have_numpydoc_docstrings(package):
    """One or two parameters may be told in the summary; more need their section."""
    complaints = []
    for name, value in _public(package):
        docstring = inspect.cleandoc(value.__doc__ or "")
        is_class = inspect.isclass(value)
        if not docstring:
            complaints.append(f"{name} has no docstring")
            continue
        parameters = _parameters(value)
        if is_class and (inspect.isabstract(value) or issubclass(value, enum.Enum | Exception)):
            parameters = []
        documented = _documented_names(docstring, "Parameters", "Attributes", "Other Parameters")
        missing = [p for p in parameters if p not in documented]
        if missing and (documented or len(parameters) > 2):
            complaints.append(f"{name} does not document {missing}")
        returns = inspect.signature(value).return_annotation if not is_class else None
        tells = _section(docstring, "Returns") or _section(docstring, "Yields")
        # A summary that says what comes back is enough for a short function.
        told = re.search(r"\b(return|give|yield)", docstring.partition("\n\n")[0], re.I)
        if returns not in (None, inspect.Signature.empty) and not (tells or told):
            complaints.append(f"{name} does not say what it returns")
    assert not complaints, "\n".join(complaints)


def _source_files() -> list[Path]:
    folders = ("sciml", "tests", "docs", "examples", "benchmarks", "data")
    built = {ROOT / "docs" / name for name in ("_build", "generated", "gallery")}
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not built & set(path.parents)
    ]


def test_no_file_is_longer_than_500_lines():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in _source_files()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_tests_mirror_the_package():
    homeless = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and any(path.glob("test_*.py")) and path.name not in PACKAGES
        if path.name not in ("contracts", "reference")
    ]
    assert not homeless


def test_no_tracked_file_names_a_machine_or_a_registry():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    # Written in pieces, so that this file does not find itself.
    folders = "|".join(("work", "root", "home", "Users"))
    hosts = "|".join(("pypi" + r"\.org", "python" + "hosted", "npm" + "js", "conda" + r"\.org"))
    forbidden = re.compile(rf"(?<![\w.)/*-])/(?:{folders})/\w|{hosts}")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".npz", ".h5", ".png"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{name}: {match.group()}" for match in forbidden.finditer(text)]
    assert not found
