"""The wheel that users install: what is inside, what it says of itself, and that it works away from the source tree."""

import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "samfamily": ROOT / "samfamily",
    "samfamily_torch": ROOT / "backends" / "samfamily_torch",
    "samfamily_jax": ROOT / "backends" / "samfamily_jax",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the unpacked wheel, built from this tree with the installed build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [archive] = folder.glob("*.whl")
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(archive) as contents:
        contents.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def dist_info(wheel: Path) -> Path:
    [folder] = wheel.glob("*.dist-info")
    return folder


@pytest.fixture(scope="module")
def metadata(dist_info: Path) -> Message:
    return message_from_string((dist_info / "METADATA").read_text(encoding="utf-8"))


def test_it_holds_the_three_packages_and_nothing_else(wheel: Path, dist_info: Path) -> None:
    assert {entry.name for entry in wheel.iterdir()} == {*PACKAGES, dist_info.name}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_inside_and_typed(wheel: Path, package: str) -> None:
    inside = {file.relative_to(wheel / package) for file in (wheel / package).rglob("*.py")}
    written = {file.relative_to(PACKAGES[package]) for file in PACKAGES[package].rglob("*.py")}
    assert inside == written
    assert (wheel / package / "py.typed").is_file()


def test_it_says_what_it_is(metadata: Message) -> None:
    assert metadata["Name"] == "samfamily"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = {"torch", "jax", "all", "lightning", "huggingface", "pictures", "tensorboard"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras


def test_it_requires_no_framework_unasked(metadata: Message) -> None:
    unasked = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {line.partition(">")[0] for line in unasked} == {"numpy", "scipy", "einops"}


def test_it_carries_the_license(dist_info: Path) -> None:
    assert (dist_info / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_it_works_away_from_the_source_tree(wheel: Path, package: str, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        f"import {package}\n"
        f"print({package}.__file__, 'torch' in sys.modules, 'jax' in sys.modules)"
    )
    run = [sys.executable, "-I", "-c", program, str(wheel)]
    done = subprocess.run(run, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file, torch, jax = done.stdout.split()
    assert Path(file) == wheel / package / "__init__.py"
    assert (torch, jax) == (str(package == "samfamily_torch"), str(package == "samfamily_jax"))
