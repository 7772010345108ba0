"""Claims of papers: complete, with a source each, and none for methods without public figures."""

from __future__ import annotations

import pytest

from engine.data.catalogue import DATASETS
from engine.report.published import BLOCKS, Block, blocks_of


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.title} {block.dataset}")
def test_a_block_is_complete_and_names_source_and_protocol(block: Block) -> None:
    assert block.source and block.protocol and block.dataset in DATASETS and block.claims
    for claim in block.claims:
        assert len(claim.accuracies) == len(block.columns)
        known = [value for value in claim.accuracies if value is not None]
        assert known and all(0 <= value <= 100 for value in known)
        assert claim.parameters is None or claim.parameters > 0


def test_methods_without_public_figures_have_no_row() -> None:
    methods = {claim.method: claim for block in BLOCKS for claim in block.claims}
    assert not {"ARNAS", "DSARA"} & set(methods)
    assert methods["E2RNAS"].recreated, "the only figures of E2RNAS come from other authors"


def test_figures_are_those_of_the_source() -> None:
    """One row of each block, read a second time."""
    def accuracies(block: Block, method: str) -> tuple[float | None, ...]:
        return next(claim.accuracies for claim in block.claims if claim.method.startswith(method))

    ten, hundred = blocks_of("cifar10"), blocks_of("cifar100")
    assert accuracies(ten[0], "RobustResNet-A4") == (87.10, 60.26, 57.90, 56.29)
    assert accuracies(hundred[0], "RobustResNet-A4") == (61.66, 34.25, 30.04, 29.00)
    assert accuracies(ten[1], "E2RNAS") == (90.1, 18.0, 40.5, 14.5, 10.2, 6.9, None)
    assert accuracies(ten[4], "Carmon2019Unlabeled") == (89.69, 59.53)
    assert accuracies(hundred[1], "Rice2020Overfitting") == (53.83, 18.95)
    assert [len(block.claims) for block in ten] == [12, 27, 2, 1, 16] and [len(block.claims) for block in hundred] == [12, 6]


def test_other_datasets_have_no_claims() -> None:
    assert blocks_of("digits") == []
