"""Imports run one way: benchmarks and tests import the adapters, the adapters import the core, the core no framework.

Proved twice. What is *loaded* is read off a fresh interpreter, which also sees through other packages; what is
*written* is read off the syntax trees, which also sees imports that no test happens to run. Each proof is shown to be
able to fail.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADAPTERS = {"samfamily_torch", "samfamily_jax"}
OURS_ABOVE = {"benchmarks", "tests"}
TORCH = {"torch", "torchvision", "lightning", "pytorch_lightning", "transformers", "accelerate"}
JAX = {"jax", "jaxlib", "flax", "optax", "equinox", "chex", "haiku"}

# --- What is loaded ---------------------------------------------------------------------------------------------------

# A module that plugs into a trainer may need that trainer; only what is ours must be there.
LOAD_EVERYTHING = """
import importlib, json, pkgutil, sys
name, *path = sys.argv[1:]
sys.path[:0] = path
package = importlib.import_module(name)
for module in pkgutil.walk_packages(package.__path__, prefix=name + "."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name.startswith(("samfamily", name)):
            raise
print(json.dumps(sorted({module.partition(".")[0] for module in sys.modules})))
"""


def loaded_by(package: str, *path: Path) -> set[str]:
    """Every top-level package that is in memory once `package` and all its submodules are imported."""
    command = [sys.executable, "-I", "-c", LOAD_EVERYTHING, package, *map(str, path)]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def test_the_core_loads_no_framework() -> None:
    loaded = loaded_by("samfamily", ROOT)
    assert "numpy" in loaded
    assert not loaded & (TORCH | JAX | ADAPTERS | {"matplotlib"})


@pytest.mark.parametrize(("adapter", "foreign"), [("samfamily_torch", JAX), ("samfamily_jax", TORCH)])
def test_an_adapter_loads_only_its_own_framework(adapter: str, foreign: set[str]) -> None:
    loaded = loaded_by(adapter, ROOT, ROOT / "backends")
    assert "samfamily" in loaded
    assert not loaded & (foreign | ADAPTERS - {adapter})


def test_a_submodule_that_loads_a_framework_is_found(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")  # a stand-in under the framework's name
    (tmp_path / "leaky" / "inner").mkdir(parents=True)
    (tmp_path / "leaky" / "__init__.py").write_text("")
    (tmp_path / "leaky" / "inner" / "__init__.py").write_text("")
    assert "torch" not in loaded_by("leaky", tmp_path)
    (tmp_path / "leaky" / "inner" / "deep.py").write_text("import torch\n")
    assert "torch" in loaded_by("leaky", tmp_path)


# --- What is written --------------------------------------------------------------------------------------------------


def imported(source: str) -> Iterator[str]:
    """The top-level packages that `source` imports, anywhere in it: in functions, for type checkers and by name too."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module.partition(".")[0]


def offenders(folder: Path, forbidden: set[str]) -> dict[str, set[str]]:
    """The files below `folder` that import something forbidden, each with what it imports."""
    files = sorted(folder.rglob("*.py"))
    assert files, f"nothing to scan below {folder}"
    found = {str(file.relative_to(folder)): set(imported(file.read_text())) & forbidden for file in files}
    return {file: names for file, names in found.items() if names}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("samfamily", OURS_ABOVE | ADAPTERS | TORCH | JAX),
        ("backends", OURS_ABOVE),
        ("backends/samfamily_torch", JAX | {"samfamily_jax"}),
        ("backends/samfamily_jax", TORCH | {"samfamily_torch"}),
    ],
)
def test_imports_run_one_way(folder: str, forbidden: set[str]) -> None:
    assert offenders(ROOT / folder, forbidden) == {}


def test_the_core_imports_what_it_declares() -> None:
    declared = sys.stdlib_module_names | {"samfamily", "numpy", "scipy", "einops"}
    optional = {"pictures.py": {"matplotlib"}, "canvas.py": {"matplotlib"}}
    for file in (ROOT / "samfamily").rglob("*.py"):
        assert set(imported(file.read_text())) <= declared | optional.get(file.name, set()), file


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "import numpy, torch.nn as nn",
        "from torch.optim import SGD",
        "def f():\n    import torch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        "import importlib\nimportlib.import_module('torch.nn')",
        "from importlib import import_module\nimport_module('torch')",
        "__import__('torch')",
    ],
)
def test_every_way_to_import_is_found(source: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "module.py").write_text(source)
    assert offenders(tmp_path, {"torch"}) == {str(Path("inner", "module.py")): {"torch"}}


@pytest.mark.parametrize("source", ["import torchlike", "from . import torch", "torch = 'torch'", "'''import torch'''"])
def test_what_only_looks_like_an_import_is_not(source: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    assert offenders(tmp_path, {"torch"}) == {}
