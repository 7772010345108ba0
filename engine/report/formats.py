"""The file formats of a robustness table. Each contains all rows and columns of the table, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.log.runlog import RunLog
from engine.registry import unknown_name
from engine.report.latex import to_latex
from engine.report.markdown import to_markdown
from engine.report.records import to_csv, to_json, to_parquet
from engine.report.robustness import Distinctions, RobustnessTable, distinctions
from engine.report.table_page import to_html


@dataclass(frozen=True)
class Format:
    """A file format of a robustness table.

    Attributes:
        title: name on a button.
        suffix: file name extension, with the dot.
        mime: media type.
        text: description in one phrase, for help texts.
        write: function that returns the content of the file. It has the arguments `table`, `compared` and `openings` of `export`.
    """

    title: str
    suffix: str
    mime: str
    text: str
    write: Callable[[RobustnessTable, Sequence[Distinctions], int], bytes]


FORMATS: dict[str, Format] = {
    "csv": Format("CSV", ".csv", "text/csv", "one record per row, every figure at full precision", to_csv),
    "parquet": Format("Parquet", ".parquet", "application/vnd.apache.parquet", "the same records with types", to_parquet),
    "json": Format("JSON", ".json", "application/json", "the same with the protocol and every paired test", to_json),
    "markdown": Format("Markdown", ".md", "text/markdown", "a table for notes and issue threads", to_markdown),
    "latex": Format("LaTeX", ".tex", "application/x-tex", "a booktabs table for a paper", to_latex),
    "html": Format("HTML", ".html", "text/html", "a page in one file", to_html),
}


def export(table: RobustnessTable, form: str, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return the content of a file with a robustness table.

    Args:
        table: the table.
        form: name of the format in `FORMATS`.
        compared: paired comparisons of the networks, one for each column in which they are compared.
        openings: number of times that the test split was opened.

    Raises:
        ConfigError: the format is unknown.
    """
    if form not in FORMATS:
        raise ConfigError(unknown_name("table format", form, FORMATS))
    return FORMATS[form].write(table, compared, openings)


def all_distinctions(log: RunLog, table: RobustnessTable) -> list[Distinctions]:
    """Compare the networks of a table in pairs, and return one paired comparison per column of the table.

    For each column, the p-values of all pairs are adjusted by Holm's method.

    Raises:
        RunLogError: results/outcomes.parquet of a run cannot be read.
    """
    return [distinctions(log, table, column.name) for column in table.columns]


def openings_of(log: RunLog, table: RobustnessTable) -> int:
    """Return how often any run has opened (loaded) the test split of a table's dataset."""
    return int((log.test_openings()["dataset"] == table.dataset).sum())
