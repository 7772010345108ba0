"""The paper pack as a ZIP file. Its content depends only on the runs, so that packing twice gives equal bytes.

    README.md        what the files are, and their hashes
    methods.tex, .md the methods paragraph
    paper.tex        a document with all tables and figures, for a first look (pdflatex paper.tex)
    tables/          one table per protocol, and the tables of the study: LaTeX, and CSV with every number at full precision
    cells/, curves/  vector figures (PDF for LaTeX, SVG for the web), genotypes as JSON and DOT, curves as CSV
    settings/        the settings of every run, and the study as it was declared
    commands.sh      the commands that start the same runs
    hashes.json      code, data, splits, weights and every checkpoint
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.architecture.genotype import Genotype
from engine.drawing.cell import cell_svg
from engine.drawing.dot import to_dot
from engine.drawing.operations import cell_title
from engine.drawing.printing import printable, svg_bytes
from engine.errors import ConfigError, GenotypeError
from engine.log.runlog import RunLog, snapshot
from engine.paper.document import document, latex_methods, readme
from engine.paper.figure import with_legend
from engine.paper.methods import methods
from engine.paper.pdf import pdf_bytes
from engine.report.curves import chart_svg, panels, title_of, top_of
from engine.report.formats import all_distinctions, export, openings_of
from engine.report.frames import frame_bytes
from engine.report.html import SPLITS
from engine.report.robustness import RobustnessTable, robustness_tables
from engine.run.folder import ID_PATTERN, RunFolder, read_json
from engine.study.folder import StudyFolder, study_named
from engine.study.overview import overview_of
from engine.study.parsing import exported
from engine.study.report import export as study_export

Files = Iterator[tuple[str, bytes]]
Row = Mapping[str, Any]  # of `RunLog.run`
STAMP = (2020, 1, 1, 0, 0, 0)  # of every entry, so that equal content gives an equal file
TABLE_FORMS = {"latex": ".tex", "csv": ".csv"}


def paper_pack(root: Path, names: Sequence[str]) -> bytes:
    """Return the paper pack of one study or of runs.

    Args:
        root: folder of all runs.
        names: the id of one study (or the end of its id), or ids of runs.

    Raises:
        RunError, RunLogError: a study or run does not exist, or a file of a run cannot be read.
        ConfigError: no name is given, or a study together with other names.
    """
    is_run = [ID_PATTERN.fullmatch(name) is not None and RunFolder(root, name).exists() for name in names]
    if len(names) > 1 and not all(is_run):
        other = names[is_run.index(False)]
        raise ConfigError(f"A paper pack takes one study or several runs, got {len(names)} names, and {other!r} is no run; "
                          "`rampart runs` and `rampart study list` list the ids.")
    with snapshot(root) as log:
        return runs_pack(log, names) if all(is_run) else study_pack(log, study_named(root, names[0]).id)


def study_pack(log: RunLog, study_id: str) -> bytes:
    """Return the paper pack of a study: its answer, all its runs, and their tables and figures.

    Raises:
        RunError, RunLogError: there is no such study, or a file of a run cannot be read.
        ConfigError: no run of the study exists.
    """
    overview = overview_of(log, study_id)
    runs = list(dict.fromkeys(step.run for cell in overview.results.cells for step in cell.steps if step.run))
    study = StudyFolder(log.root, study_id).read()
    files = {f"tables/study{suffix}": study_export(overview.results, overview.answer, form)
             for form, suffix in (("latex", ".tex"), ("json", ".json"), ("markdown", ".md"))}
    files["settings/study.json"] = _json(exported(study))
    return _packed(log, runs, study.question, files)


def runs_pack(log: RunLog, runs: Sequence[str]) -> bytes:
    """Return the paper pack of chosen runs, with all their ancestors and descendants (`family`).

    Raises:
        RunLogError: a run does not exist, or a file of a run cannot be read.
        ConfigError: no run is given.
    """
    wanted: list[str] = []
    for run in runs:
        wanted += family(log, run)
    return _packed(log, list(dict.fromkeys(wanted)), f"Runs {', '.join(runs)}", {})


def family(log: RunLog, run: str) -> list[str]:
    """Return the ids of a run's ancestors, of the run, and of its descendants, earliest first.

    Raises:
        RunLogError: the run does not exist.
    """
    log.run(run)
    chain = list(log.chain(run).itertuples())
    parents, below = {one.id: one.parent for one in chain}, {run}
    for one in chain:  # parents come before their followers
        if one.parent in below:
            below.add(one.id)
    above, last = set[str](), parents.get(run, "")
    while last in parents and last not in above:
        above.add(last)
        last = parents[last]
    return [one.id for one in chain if one.id in above | below]


def tables_of(log: RunLog, runs: Sequence[str]) -> list[RobustnessTable]:
    """Return the robustness tables of a run log, with only the rows of `runs`. Tables without such rows are left out."""
    chosen = []
    for table in robustness_tables(log):
        groups = []
        for group in table.groups:
            rows = tuple(row for row in group.rows if row.run in runs)
            if len(rows) == len(group.rows):
                groups.append(group)
            elif rows:  # a mean over other networks would not belong to the selection
                groups += [replace(group, rows=(row,), complete=int(row.complete), means={}, spreads={}) for row in rows]
        if groups:
            chosen.append(replace(table, groups=tuple(groups)))
    return chosen


def _packed(log: RunLog, runs: Sequence[str], title: str, files: dict[str, bytes]) -> bytes:
    if not runs:
        raise ConfigError("A paper pack needs at least one run, got none; name runs, or a study whose runs exist.")
    rows = [log.run(run) for run in runs]  # read only once, because each takes a while
    tables = tables_of(log, runs)
    for part in (_tables(log, tables), _cells(log, runs), _curves(log, rows), _settings(rows)):
        files |= dict(part)
    sentences = methods(log, rows, tables)
    files["commands.sh"] = _commands(rows)
    files["hashes.json"] = _json({row["id"]: hashes(log.root, row) for row in rows})
    files["methods.md"] = ("\n\n".join(sentences) + "\n").encode()
    files["methods.tex"] = latex_methods(sentences)
    files["paper.tex"] = document(title, list(files))
    files["README.md"] = readme(title, runs, files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, STAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def _tables(log: RunLog, tables: Sequence[RobustnessTable]) -> Files:
    for table in tables:
        compared, openings = all_distinctions(log, table), openings_of(log, table)
        for form, suffix in TABLE_FORMS.items():
            yield f"tables/robustness-{table.protocol}{suffix}", export(table, form, compared, openings)


def _cells(log: RunLog, runs: Sequence[str]) -> Files:
    """Yield the files of each genotype once: the drawing of each cell, its DOT source, and the genotype as JSON."""
    drawn: set[str] = set()
    for run in runs:
        try:
            genotype = Genotype.from_dict(log.genotype(run))
        except GenotypeError:  # a hand-made network, or a run without result
            continue
        if genotype.hash in drawn:
            continue
        drawn.add(genotype.hash)
        yield f"cells/{genotype.hash}.json", f"{genotype.to_json()}\n".encode()
        for kind in genotype.kinds:
            drawing = printable(cell_svg(genotype.cell(kind), title=cell_title(kind)))
            yield f"cells/{genotype.hash}-{kind}.svg", svg_bytes(drawing)
            yield f"cells/{genotype.hash}-{kind}.pdf", pdf_bytes(drawing)
            yield f"cells/{genotype.hash}-{kind}.dot", to_dot(genotype, kind).encode()


def _curves(log: RunLog, rows: Sequence[Row]) -> Files:
    """Yield the curves of searches and retrainings: figures of each metric's mean in each epoch, and the same means as CSV."""
    for row in rows:
        run, split, curves = row["id"], SPLITS.get(row["kind"], ""), log.curves(row["id"])
        if not split or curves.empty:
            continue
        yield f"curves/{run}.csv", frame_bytes(curves, "csv")
        for panel, series in panels(curves, split).items():
            chart = chart_svg(series, title_of(panel, split), top=top_of(panel))
            drawing = with_legend(printable(chart), list(series))
            yield f"curves/{run}-{panel}.svg", svg_bytes(drawing)
            yield f"curves/{run}-{panel}.pdf", pdf_bytes(drawing)


def _settings(rows: Sequence[Row]) -> Files:
    for row in rows:
        differences = [{"setting": one.field, "value": one.value, "published": one.paper} for one in row["differences"]]
        yield f"settings/{row['id']}.json", _json({
            "kind": row["kind"], "method": row["method"], "preset": row["preset"], "title": row["title"],
            "parent": row["parent"], "settings": row["config"], "differences": differences})


def _commands(rows: Sequence[Row]) -> bytes:
    lines = ["#!/bin/sh", "# Each line starts one run. A run that names a --parent needs the id that its parent gets here."]
    for row in rows:
        lines += [f"# {row['id']}: {' '.join(str(row['title']).split())}", str(row["command"]) or "# no command was recorded"]
    return ("\n".join(lines) + "\n").encode()


def hashes(root: Path, row: Row) -> dict[str, Any]:
    """Return the hashes of a run: code, data, splits and packages as recorded, and the SHA-256 of its files as they are now."""
    folder = RunFolder(root, row["id"])
    place = read_json(folder.environment_json) or {}
    diff = str(row["code"].get("diff") or "")
    recorded = {"code": row["code"].get("version"), "code_changes": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
                "data": place.get("data_hash"), "splits": place.get("split_hash"),
                "packages": place.get("versions") or row["packages"]}
    checkpoints = sorted(folder.checkpoint.glob("*.pt")) if folder.checkpoint.is_dir() else []
    files = [folder.run_json, folder.events, *checkpoints]
    return recorded | {"files": {str(path.relative_to(folder.path)): _sha256(path) for path in files if path.is_file()}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()
