"""Text files as public code writes them: `genotypes.py` and the `log.txt` of a search."""

from __future__ import annotations

from collections.abc import Sequence

from engine.architecture.genotype import Genotype


def printed(genotype: Genotype) -> str:
    """Return the namedtuple as Python prints it: edges as tuples in lists, the concatenation as a range."""
    fields = []
    for kind in genotype.kinds:
        cell = genotype.cell(kind)
        fields.append(f"{kind}={list(cell.edges)!r}, {kind}_concat=range(2, 6)")
    return f"Genotype({', '.join(fields)})"


def search_log(genotypes: Sequence[Genotype], *, after_training: bool = False) -> str:
    """Return a search's log of the DARTS family: genotypes before their epoch's training or, as in some copies, after it."""
    lines = ["11/20 09:15:00 AM gpu device = 0", "11/20 09:15:00 AM args = Namespace(arch_learning_rate=0.0003, epochs=50)",
             "11/20 09:15:03 AM param size = 1.930842MB"]
    for epoch, genotype in enumerate(genotypes):
        told = f"11/20 09:15:03 AM genotype = {printed(genotype)}"
        trained = ["11/20 09:15:09 AM train 000 2.309853e+00 9.375000 50.000000", f"11/20 09:55:03 AM train_acc {30 + epoch}.5"]
        lines += [f"11/20 09:15:03 AM epoch {epoch} lr 2.500000e-02", *([*trained, told] if after_training else [told, *trained])]
    return "\n".join(lines) + "\n"
