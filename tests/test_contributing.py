"""CONTRIBUTING.md keeps its word: in a copy of the tree, toys are added by the steps that it names, and the pages show them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.sample_runs import write_sample_runs

ROOT = Path(__file__).resolve().parent.parent
TOYS = Path(__file__).resolve().parent / "toys"


@dataclass(frozen=True)
class Toy:
    """What adding one thing takes.

    Attributes:
        title: how the page names it.
        lines: file -> (text to find in it, text to put in its place); new files are in tests/toys/.
    """

    title: str
    lines: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


ADDED = {
    "method": Toy("Toy method · clean images only", {"engine/search/methods/__init__.py": [
        ("from engine.search.methods.random_search",
         "from engine.search.methods.toy import config as _toy  # noqa: F401\nfrom engine.search.methods.random_search")]}),
    "dataset": Toy("Toy dataset", {"engine/data/catalogue.py": [
        ("from engine.data.tiny_imagenet", "from engine.data.toy import TOY\nfrom engine.data.tiny_imagenet"),
        ("TINY_IMAGENET):", "TINY_IMAGENET, TOY):")]}),
    "attack": Toy("Toy attack", {"engine/attack/catalogue.py": [
        ("from engine.errors", "from engine.attack.toy import TOY\nfrom engine.errors"),
        ("                AUTOATTACK):", "                AUTOATTACK, TOY):")]}),
    "objective": Toy("toy loss", {
        "engine/search/registries.py": [
            ('"mac_share"]', '"mac_share", "toy_loss"]'),
            ('_objective("curvature"', '_objective("toy_loss", "toy loss", "toy:toy", ("x", "y"))\n_objective("curvature"')],
        "engine/search/config.py": [
            ("    one_step_factor: float",
             '    toy_loss_factor: float = setting(1.0, "Coefficient of toy_loss.", group="Added objectives", gt=0, le=1e6)\n'
             "    one_step_factor: float")]}),
    "network": Toy("Toy network", {"engine/architecture/network.py": [
        ("from engine.errors", "from engine.architecture.toy import ToyNetwork\nfrom engine.errors"),
        ("(HandMadeNetwork,)", "(HandMadeNetwork, ToyNetwork)")]}),
    "page": Toy("Toy page", {"app/main.py": [
        ('        "import": st.Page(',
         '        "toy": st.Page(HERE / "views/toy.py", title="Toy", url_path="toy"),\n        "import": st.Page(')]}),
}


def new_files(noun: str) -> list[str]:
    """Return the files that a toy brings, as paths from the root; packages' empty `__init__.py` left out."""
    return sorted(path.relative_to(TOYS / noun).as_posix() for path in (TOYS / noun).rglob("*.py") if path.stat().st_size)


def named_files(noun: str) -> list[str]:
    """Return the file of each step in CONTRIBUTING.md's section on adding one, called `toy`."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^### An? {noun}\n(.*?)(?=^##)", text, flags=re.DOTALL | re.MULTILINE)
    assert section, noun
    return re.findall(r"^\d+\. `([^`]+)`", section[1].replace("NAME", "toy"), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree to which every toy is added."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("engine", "app"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for noun, toy in ADDED.items():
        if (TOYS / noun).is_dir():
            shutil.copytree(TOYS / noun, tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        for name, changes in toy.lines.items():
            for old, new in changes:
                text = (tree / name).read_text(encoding="utf-8")
                assert text.count(old) == 1, (name, old)
                (tree / name).write_text(text.replace(old, new), encoding="utf-8")
    return tree


def run_in(tree: Path, runs: Path, *arguments: str) -> str:
    """Run Python in a copy of the tree and return what it prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=tree, capture_output=True, text=True, timeout=300, check=False,
                          env=os.environ | {"PYTHONPATH": str(tree), "RAMPART_RUNS": str(runs)})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def seen(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Toy -> what the pages offer where it belongs."""
    runs = tmp_path_factory.mktemp("runs")
    write_sample_runs(runs)
    answer: dict[str, list[str]] = json.loads(run_in(tree, runs, str(TOYS / "look.py")).splitlines()[-1])
    return answer


@pytest.mark.parametrize("noun", ADDED)
def test_the_page_shows_what_the_steps_add(noun: str, seen: dict[str, list[str]]) -> None:
    assert any(ADDED[noun].title in text for text in seen[noun]), seen[noun]


@pytest.mark.parametrize("noun", ADDED)
def test_the_steps_name_every_file(noun: str) -> None:
    assert sorted(named_files(noun)) == sorted([*new_files(noun), *ADDED[noun].lines])


@pytest.mark.parametrize("noun", ADDED)
def test_the_table_counts_the_files(noun: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| an? {noun} \| {len(new_files(noun))} \| {len(ADDED[noun].lines)} \|", text, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["search --method toy --added-objectives toy_loss --then retrain,attack",
                                   "retrain --network toy --then attack"], ids=["search", "network"])
def test_the_toys_run(chain: str, tree: Path, tmp_path: Path) -> None:
    printed = run_in(tree, tmp_path, "-m", "engine", *chain.split(), "--dataset", "toy", "--preset", "smoke",
                     "--attack.attacks", "toy", "--wait")
    assert ADDED["attack"].title in printed
