"""The lineage of a run.

The lineage consists of the chain of the run, runs whose ids are in its settings, runs whose settings contain its id, and searches
that found the same cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.log.runlog import RunLog
from engine.report.run_comparison import REFERENCES

CHAIN, NAMED, NAMING, SAME_CELLS = "Its chain", "Named by its settings", "Runs whose settings name it", "The same cells"
ROLES = {"search": "finds the cells", "retrain": "trains the network", "attack": "attacks the network"}
REASONS = {"inherit_from": "gave its weights to the candidates", "against": "is compared with it",
           "transfer_from": "made adversarial images for it"}


@dataclass(frozen=True)
class Relative:
    """A run that is related to another one.

    Attributes:
        group: kind of relation: `CHAIN`, `NAMED`, `NAMING` or `SAME_CELLS`.
        relation: the relation in words, for example "attacks the network".
        row: row of the related run in `RunLog.runs`.
    """

    group: str
    relation: str
    row: Mapping[str, Any]


def relatives(log: RunLog, run: str) -> list[Relative]:
    """Return the relatives of a run. The runs of its chain come first and include the run itself.

    Raises:
        RunLogError: the run does not exist.
    """
    own = log.run(run)
    rows = {str(row["id"]): row for row in log.runs().to_dict("records")}
    family = log.family(run)
    found = [Relative(CHAIN, ROLES.get(str(rows[one]["kind"]), ""), rows[one]) for one in family if one in rows]
    found += [Relative(NAMED, REASONS[name], rows[one]) for one, name in _named(own["config"])
              if one in rows and one not in family]
    found += [Relative(NAMING, REASONS[name], rows[one]) for one, config in log.configs_naming(run).items()
              for other, name in _named(config) if other == run and one in rows and one not in family]
    cells = rows[run]["genotype_hash"] if run in rows else None
    known = {relative.row["id"] for relative in found}
    found += [Relative(SAME_CELLS, "found the same cells", row) for row in rows.values()
              if cells and row["genotype_hash"] == cells and row["kind"] == "search" and row["id"] not in known]
    return found


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (run id, name of the setting) for each run that a configuration names."""
    for name in REFERENCES:
        if name in REASONS and (value := config.get(name)):
            yield from ((str(one), name) for one in (value if isinstance(value, list) else [value]))
