"""Architectures: published and found genotypes, equal ones together, with the runs and the results of each."""

from __future__ import annotations

from pathlib import Path

from engine.architecture.canonical import canonical
from engine.architecture.catalogue import find_genotype
from engine.log import RunLog
from engine.report.architectures import architectures
from tests import sample_runs
from tests.sample_runs import genotype_at


def test_published_and_found_architectures_with_their_runs_and_results(tmp_path: Path) -> None:
    chains = [sample_runs.write_finished_chain(tmp_path, name=f"c{seed}", seed=seed) for seed in (2, 3)]
    sample_runs.write_hand_made(tmp_path)
    folder = sample_runs.write_run_json(tmp_path, "20261118-0915-arnas-digits-beef", "search", title="Copy",
                                        created=sample_runs.START + 50)
    events = sample_runs.EventsFile(folder)
    events.write("genotype", genotype=find_genotype("DSARA").to_dict(), hash=find_genotype("DSARA").hash)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    found = architectures(log)
    log.close()
    (newest, *rest) = found
    assert newest.names == ("ARNAS", "DSARA", "Copy") and newest.title == "ARNAS"  # found again, so it comes first
    assert [use.run for use in newest.uses] == ["20261118-0915-arnas-digits-beef"] and not newest.attacks
    of_seed = {one.searches[0].run: one for one in rest if one.searches}
    first = of_seed[chains[0][0]]
    assert first.hash == canonical(genotype_at(40, 2)).hash and first.title == "ARNAS · 7f3a"
    # The networks that both chains trained have the genotype of the first search.
    assert {use.run for use in first.uses} == {chains[0][0], *chains[0][1:], *chains[1][1:]}
    assert [use.run for use in of_seed[chains[1][0]].uses] == [chains[1][0]]
    attack = first.attacks[0]
    assert attack.natural is not None and attack.adversarial is not None
    assert (attack.natural[0], attack.natural[3]) == (347 / 360, 360) and attack.adversarial[0] == 31 / 64
    assert attack.adversarial[1] < 31 / 64 < attack.adversarial[2] and "AutoAttack" in attack.protocol
    retraining = next(use for use in first.uses if use.kind == "retrain")
    assert (retraining.channels, retraining.layers, retraining.parameters) == (12, 5, sample_runs.PARAMETERS)
    assert retraining.adversarial is None and len({one.hash for one in found}) == len(found)


def test_a_search_that_measured_candidates_gives_its_best_one_and_their_number(tmp_path: Path) -> None:
    ranked = sample_runs.write_random_search(tmp_path)
    unranked = sample_runs.write_random_search(tmp_path, f"{ranked[:-1]}6", measured=2, ended="", ranking="none")
    sample_runs.write_finished_chain(tmp_path)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    uses = {use.run: (one.hash, use.candidates, use.ranked) for one in architectures(log) for use in one.uses}
    log.close()
    assert uses.pop(ranked) == (canonical(genotype_at(10, 3)).hash, 4, True)
    assert uses.pop(unranked) == (canonical(genotype_at(10, 1)).hash, 2, False)
    assert len(uses) == 3 and {number for _, number, _ in uses.values()} == {0}
