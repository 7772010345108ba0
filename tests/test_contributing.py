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
    "attack": Toy("Toy attack", {
        "engine/attack/__init__.py": [
            ('ATTACKS.add("pgd-20"', 'ATTACKS.add("toy", Attack(name="toy", title="Toy attack", summary="FGSM by another name.", '
             'source="a test", steps=1))\nATTACKS.add("pgd-20"')],
        "engine/attack/methods.py": [('if attack.name == "fgsm":', 'if attack.name in ("fgsm", "toy"):')]}),
    "objective": Toy("toy loss", {
        "engine/search/registries.py": [
            ('    ObjectiveKind("adversarial"',
             '    ObjectiveKind("toy_loss", "toy loss", "engine.search.toy:toy"),\n    ObjectiveKind("adversarial"')],
        "engine/search/config.py": [
            ('"curvature"], ...]', '"curvature", "toy_loss"], ...]'),
            ("    one_step_factor: float",
             '    toy_loss_factor: float = setting(1.0, "Coefficient of toy_loss.", group="Added objectives", gt=0, le=1e6)\n'
             "    one_step_factor: float")]}),
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
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Toy -> what the pages of a copy of the tree offer where it belongs, once all toys are added."""
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
    runs = tree / "runs"
    write_sample_runs(runs)
    done = subprocess.run([sys.executable, str(TOYS / "look.py")], cwd=tree, capture_output=True, text=True, timeout=300,
                          check=False, env=os.environ | {"PYTHONPATH": str(tree), "RAMPART_RUNS": str(runs)})
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("noun", ADDED)
def test_the_page_shows_what_the_steps_add(noun: str, seen: dict[str, list[str]]) -> None:
    assert any(ADDED[noun].title in text for text in seen[noun]), seen[noun]


@pytest.mark.parametrize("noun", ADDED)
def test_the_steps_name_every_file(noun: str) -> None:
    assert sorted(named_files(noun)) == sorted([*new_files(noun), *ADDED[noun].lines])
