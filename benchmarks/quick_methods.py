"""Run each search method with the preset `quick` and write durations, accuracies and genotype into docs/methods.md.

    python -m benchmarks.quick_methods                              # all methods in turn; several minutes each
    python -m benchmarks.quick_methods --only darts --only dsara    # only these

For each method, a search, a retraining and an attack are started through the queue as real processes, as after a click on the
page. Their results are then written into the method's section, between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.measurement import Table, machine_line
from benchmarks.performance import with_section
from benchmarks.quick_chain import durations
from engine.architecture.genotype import Genotype, state_name
from engine.log import RunLog
from engine.search.methods.registry import METHODS

DOCUMENT = Path(__file__).parent.parent / "docs" / "methods.md"


def outcome(method: str, preset: str) -> list[Table]:
    """Run search, retraining and attack of one method in a temporary folder, and return the tables of its results.

    Raises:
        ConfigError: the method does not exist.
        RuntimeError: a run did not finish.
    """
    # The worker of the last run may still be writing when its run has already finished.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ids, seconds = durations(Path(folder), preset, method)
        log = RunLog.open(Path(folder), in_memory=True)
        try:
            log.ingest()
            network, attacks = log.evaluations().iloc[0], log.attacks(ids[-1])
        finally:
            log.close()
    genotype = Genotype.from_dict(network["genotype"])
    minutes = ", ".join(f"{kind} {each / 60:.1f}" for kind, each in zip(("search", "retraining", "attack"), seconds, strict=True))
    return [accuracy_table(f"Preset `{preset}` on digits, minutes: {minutes}. {network['parameters']:.0f} parameters, "
                           f"{network['macs'] / 1e6:.2f} M MACs", attacks), genotype_table(genotype)]


def accuracy_table(caption: str, attacks: pd.DataFrame) -> Table:
    """Return a table of the accuracy under each attack that is complete, in the order in which the attacks ran.

    A suite such as AutoAttack has one row; the attacks that it consists of have none.
    """
    rows = [(str(row["title"]), f"{row['accuracy']:.3f}", f"{row['low']:.3f} - {row['high']:.3f}", f"{row['images']:.0f}",
             f"`{row['fingerprint']}`") for _, row in attacks.iterrows() if row["complete"] and not row["part_of"]]
    return Table(caption, ("attack", "accuracy", "95 % interval", "test images", "fingerprint"), tuple(rows))


def genotype_table(genotype: Genotype) -> Table:
    """Return a table with one row per cell kind and one column per node."""
    rows = []
    for kind, cell in genotype.cells:
        nodes = [" + ".join(f"{operation} of {state_name(state)}" for operation, state in cell.edges[2 * i:2 * i + 2])
                 for i in range(cell.nodes)]
        rows.append((kind, *nodes))
    return Table(f"Genotype `{genotype.hash}`", ("cell", *(f"node {i}" for i in range(len(rows[0]) - 1))), tuple(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all chosen methods and write their results into the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=list(METHODS), action="append", help="may be given several times (default: all)")
    parser.add_argument("--preset", default="quick", help="preset to run (default: quick)")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="document to update (default: docs/methods.md)")
    chosen = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    for method in chosen.only or METHODS:
        tables = outcome(method, chosen.preset)
        where = machine_line("threads of the preset")
        chosen.document.write_text(with_section(chosen.document.read_text(), method, tables, where))
        print(f"{METHODS[method].title}\n" + "\n\n".join(table.text() for table in tables), flush=True)


if __name__ == "__main__":
    main()
