"""LaTeX: a strict check of its structure, and compilation where pdflatex is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.report.latex import escaped, to_latex
from engine.report.robustness import RobustnessTable
from tests.engine.report.made_tables import SPECIAL, distinguished, made_table, row, single

COMMANDS = {"usepackage", "begin", "end", "centering", "footnotesize", "setlength", "tabcolsep", "caption", "label", "toprule",
            "midrule", "bottomrule", "addlinespace", "scriptsize", "textbf", "emph", "quad", "par", "smallskip", "mathrm",
            "dagger", "pm", "infty", "times", "varepsilon", "lambda", "cdot", "textbackslash", "textasciicircum",
            "textasciitilde", "textless", "textgreater", "textbar", "textendash", "textemdash"}


def table_of(*counts: int) -> RobustnessTable:
    """Return a table of networks A, B, ... with these numbers of correct images in every column."""
    groups = tuple(single(row(chr(65 + number), number, (count,) * 3)) for number, count in enumerate(counts))
    made = made_table()
    return RobustnessTable(made.protocol, "t", "digits", made.fields, made.columns, groups)


def lines_of(text: str) -> list[list[str]]:
    """Return the cells of every line of the tabular, split at the ampersands that separate cells."""
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line.strip().removesuffix(r"\\") for line in body.splitlines() if line.strip().endswith(r"\\")]
    return [re.split(r"(?<!\\)&", line) for line in rows]


def balanced(text: str) -> bool:
    """Return True if unescaped braces are balanced everywhere."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", re.sub(r"\\\\", "", text)):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def test_the_structure_is_that_of_one_table() -> None:
    """Braces and environments are balanced, every line has as many cells as the tabular has columns, all commands are known."""
    table = made_table()
    text = to_latex(table, [distinguished(table)], 3).decode()
    body = text.partition("\n")[2]  # the first line is a comment
    assert text.startswith("% Needs \\usepackage{booktabs}") and balanced(body)
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", body)
    assert environments == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)
    assert columns and columns[1] == "l" + "r" * (len(table.columns) + 2)
    lines = lines_of(body)
    assert {len(line) for line in lines} == {len(columns[1])}
    assert len(lines) == 2 + len(table.rows) + 1
    assert set(re.findall(r"\\([A-Za-z]+)", body)) <= COMMANDS
    assert body.replace(r"\$", "").count("$") % 2 == 0


def test_every_special_character_is_escaped() -> None:
    """No character of the title acts as LaTeX: what is not a known command or an escaped character is plain."""
    plain = re.sub(r"\\[\\{}$&#%_]|\\[A-Za-z]+\{\}|\$\\[a-z]+\$|\{[^{}\\]{1,2}\}|-\{\}", "", escaped(SPECIAL))
    assert not re.search(r"[\\{}$&#%_^~<>|\"'`\[\]*]|--", plain)
    assert escaped("a\n b") == "a b" and escaped("\u4e2d") == "?" and escaped("PGD-20") == "PGD-20" and escaped("--") == "-{}-"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles(tmp_path: Path) -> None:
    """pdflatex compiles the table with every special character, and misses no glyph."""
    table = made_table()
    document = b"\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + to_latex(
        table, [distinguished(table, column.name) for column in table.columns], 3) + b"\\end{document}"
    (tmp_path / "t.tex").write_bytes(document)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True,
                          timeout=60, check=False)
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Missing character" not in log and not re.search(r"^! ", log, flags=re.MULTILINE)


def test_only_what_is_told_apart_is_bold() -> None:
    """The best figure is bold if and only if the paired test tells its network apart from all others of the column."""
    clear, close = table_of(90, 60, 50), table_of(90, 89, 50)
    assert r"\textbf{90.0}" in to_latex(clear, [distinguished(clear)], 1).decode()
    assert r"\textbf" not in to_latex(close, [distinguished(close)], 1).decode()
    assert r"\textbf" not in to_latex(clear, [], 1).decode()
    assert to_latex(clear, [distinguished(clear)], 1).decode().count(r"\textbf") == 1  # only the compared column


def test_being_apart_from_the_second_alone_is_not_enough() -> None:
    """A network that is told apart from the second but not from the third, on other images, is not bold."""
    table = table_of(70, 62, 60)
    compared = distinguished(table, correct={"A": range(70), "B": range(62), "C": range(40, 100)})
    assert {one.second: one.distinct() for one in compared.comparisons if one.first == "A"} == {"B": True, "C": False}
    assert r"\textbf" not in to_latex(table, [compared], 1).decode()


def test_a_network_that_is_not_compared_yet_leaves_bold_open() -> None:
    """No figure is bold while a measured network of the column was not compared."""
    table = table_of(90, 60)
    compared = distinguished(table)
    wider = table_of(90, 60, 95)
    assert r"\textbf" not in to_latex(wider, [compared], 1).decode()


def test_a_dagger_marks_what_is_not_green_and_says_why() -> None:
    """Exactly the networks with an amber or red badge carry a dagger, and the notes give their reasons."""
    table = made_table(["First", "Second", "Third"])
    text = to_latex(table, [], 1).decode()
    names = {line[0].strip() for line in lines_of(text)}
    assert {"First", r"Second$^{\dagger}$", r"Third$^{\dagger}$"} <= names
    assert "Third (red: do not rely on these figures): Bad. Worse." in text


def test_the_caption_names_protocol_images_and_ledger() -> None:
    """The caption holds dataset, images, ball, every attack with its numbers, the hash, and the number of openings."""
    text = to_latex(made_table(), [], 12).decode()
    caption = text.split(r"\caption{")[1].split(r"\label")[0]
    for words in ("Digits 8x8", "100 images", "0.15", "PGD-20 (20 steps of 0.0375, random start", "APGD-T (100 steps, 9 targets",
                  "Square (5,000 steps", "torchattacks 3.5.1", "0a280fcfcb3c", "The test split was opened 12 times."):
        assert words in caption


def test_seed_groups_have_mean_and_spread() -> None:
    """The line of a seed group gives the mean and the standard deviation of its networks."""
    text = to_latex(made_table(), [], 1).decode()
    assert r"\quad \emph{Seeds, mean of 3 networks} & 91.0 {\scriptsize $\pm$ 1.0} & 60.0 {\scriptsize $\pm$ 0.0}" in text
