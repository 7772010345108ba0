"""One sentence for each panel of a run's page, on constructed logs of runs in every state."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import requests
from engine.architecture.genotype import PRIMITIVES
from engine.errors import RunLogError
from engine.insight import sentences
from engine.insight.sentences import PANELS, sentence
from engine.log import RunLog, snapshot
from tests.engine.insight.planted import SEARCH, alphas_of, write_retraining, write_search
from tests.engine.run.processes import without_supervisor
from tests.sample_runs import (
    EventsFile,
    write_finished_chain,
    write_json,
    write_random_search,
    write_sample_runs,
    write_telemetry,
)

Read = Callable[[], RunLog]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("sentences")
    ids = write_sample_runs(root)
    with snapshot(root) as log:
        yield log, ids


@pytest.mark.parametrize("role", ["search", "retrain", "attack", "running", "failed", "stopped", "resumed"])
def test_every_panel_has_a_sentence_or_nothing_in_every_state(samples, role: str) -> None:
    log, ids = samples
    told = {panel: sentence(log, ids[role], panel) for panel in PANELS}
    for words in filter(None, told.values()):
        assert (words[0].isupper() or words[0].isdigit()) and words.endswith(".")
        assert "nan" not in words.lower().split() and "None" not in words and "  " not in words
    of_search = {"alphas", "genotype", "collapse", "objectives", "trade_off"}
    has_alphas = role in ("search", "running", "failed", "stopped")
    assert {panel for panel, words in told.items() if words} == set(PANELS) - {"candidates", "samples"} - (
        set() if has_alphas else of_search - {"trade_off"} if role in ("retrain", "resumed") else of_search)


def test_the_overview_tells_state_and_measurements(samples) -> None:
    log, ids = samples
    told = {role: sentence(log, run, "overview") for role, run in ids.items()}
    assert told["failed"].startswith(
        "Failed after 6 of 40 steps: out of memory: the batch of 40 images did not fit; take a smaller batch. Accuracy of the "
        "supernet (alphas split")
    assert told["stopped"].startswith("Stopped after 25 of 40 steps. Accuracy")
    assert told["running"].startswith("Running after 13 of 40 steps")
    assert told["retrain"].startswith("Finished")
    assert told["retrain"].endswith("48.4 % (36.6 to 60.4; 64 images) under the worst case of all attacks.")
    assert ("96.4 % (93.9 to 97.9; 360 images) on natural images and 48.4 % (36.6 to 60.4; 64 images) under the worst case"
            in told["attack"])


def test_a_random_search_leads_with_its_best_candidate_and_has_no_course(read: Read, tmp_path: Path) -> None:
    run = write_random_search(tmp_path)
    log = read()
    assert ("The best of 4 candidates is candidate 3: 93.8 % (85.0 to 97.5) on natural images and 48.4 % (36.6 to 60.4) under"
            in sentence(log, run, "overview"))
    assert sentence(log, run, "genotype") == "The cells are those of the best candidate so far."
    assert [sentence(log, run, panel) for panel in ("alphas", "collapse", "trade_off")] == ["", "", ""]


def test_a_queued_run_tells_what_it_waits_for(read: Read, tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path)
    first, second = requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=("retrain",))
    log = read()
    assert sentence(log, first, "overview") == "Queued."
    assert sentence(log, second, "overview") == f"Queued: waits for {first}."
    assert sentence(log, first, "system").endswith("no measurement yet.") and sentence(log, first, "alphas") == ""


def test_an_imported_run_tells_its_file(read: Read, tmp_path: Path) -> None:
    folder = write_search(tmp_path, [alphas_of(), alphas_of(), alphas_of(operation="dil_conv_3x3")])
    record = sentences_record(folder)
    write_json(folder / "run.json", record | {"imported": {"file": "log.txt", "sha256": "ab", "as": "log"}})
    log = read()
    assert sentence(log, SEARCH, "overview") == "Imported from log.txt (log): 3 epochs, in which the genotype changed once."
    assert sentence(log, SEARCH, "settings") == "The file says little of the settings with which its run was made."


def sentences_record(folder: Path) -> dict[str, object]:
    import json
    return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))


def test_a_stable_cell_is_told_with_its_operations_and_the_trend(read: Read, tmp_path: Path) -> None:
    mixed = [alphas_of(strength) for strength in (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)]
    for alphas in mixed:
        alphas["robust"][[0, 1, 3], :] = 0.0
        alphas["robust"][[0, 1, 3], PRIMITIVES.index("max_pool_3x3")] = 4.0
    write_search(tmp_path, mixed)
    log = read()
    assert sentences.cell(log, SEARCH, "robust") == ("The robust cell has not changed for 6 epochs; 5 of 8 edges are separable "
                                                     "convolutions 5×5; entropy falls.")
    assert sentence(log, SEARCH, "genotype") == "No cell has changed for 6 epochs."
    words = sentence(log, SEARCH, "alphas")
    assert words.startswith("The entropy of the weights is ") and "and falls (" in words and "5 epochs ago" in words
    assert words.endswith("the strongest operation changed on 0 of 42 edges in the last 5 epochs.")
    assert sentence(log, SEARCH, "collapse") == ("No sign of a collapse: at most 3 of 8 edges of a cell have no parameters, and "
                                                 "a cell has at most 0 skip connections.")


def test_a_change_and_a_collapse_are_told_with_their_epochs(read: Read, tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(), alphas_of(), alphas_of(), alphas_of(robust="skip_connect")])
    log = read()
    assert sentence(log, SEARCH, "genotype") == ("In epoch 3, 8 edges of the robust cell changed; the accurate cell has not "
                                                 "changed for 3 epochs; the reduction cell has not changed for 3 epochs.")
    assert sentence(log, SEARCH, "collapse") == ("The robust cell has collapsed: 8 of 8 edges have no parameters. The last epoch "
                                                 "without a sign was 2.")
    assert sentences.cell(log, SEARCH, "robust") == ("8 edges of the robust cell changed in epoch 3; 8 of 8 edges are skip "
                                                     "connections; entropy is steady.")
    assert sentence(log, SEARCH, "alerts") == "The robust cell has collapsed: 8 of 8 edges have no parameters."


def test_almost_even_weights_tell_nothing_about_a_collapse(read: Read, tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(0.1, operation="skip_connect")] * 2)
    assert sentence(read(), SEARCH, "collapse").startswith("No sign of a collapse can be told yet: the weights are almost even")


def test_the_system_is_told_with_units(read: Read, tmp_path: Path) -> None:
    folder = write_search(tmp_path, [alphas_of()] * 2, ended="", created=time.time())
    log = read()
    assert sentence(log, SEARCH, "system").endswith("this run has no measurement yet.")
    events = EventsFile(folder, t=time.time())
    events.write("telemetry", process_cores=1.04, machine_cpu=0.5, memory_bytes=600 * 2**20, machine_free_bytes=2**33,
                 machine_bytes=2**34, disk_free_bytes=40 * 2**30, unit="steps", units_per_s=2.0, passes_per_s=20.0)
    events.write("gpu", device="cuda:0", name="NVIDIA H100", utilisation=0.5, memory_bytes=2**33, memory_total_bytes=2**36,
                 temperature_c=61.0)
    assert sentence(read(), SEARCH, "system") == (
        "The worker uses 1.0 CPU cores and 600 MiB of memory; NVIDIA H100 is busy 50 % of the time, with 8.0 GiB in use at 61 "
        "°C; 40.0 GiB of disk are free.")


@pytest.mark.parametrize("ended", ["finished", "failed"])
def test_the_system_of_a_run_that_is_over_is_told_in_the_past_tense(read: Read, tmp_path: Path, ended: str) -> None:
    write_telemetry(EventsFile(write_search(tmp_path, [alphas_of()] * 2, ended=ended)), gpu="cuda:0")
    assert sentence(read(), SEARCH, "system") == (
        "At the last measurement, the worker used 1.7 CPU cores and 700 MiB of memory; NVIDIA H100 was busy 90 % of the time, "
        "with 8.0 GiB in use at 60 °C; 41.0 GiB of disk were free.")


def test_stored_images_are_counted(read: Read, tmp_path: Path) -> None:
    results = write_search(tmp_path, [alphas_of()] * 2) / "results"
    results.mkdir()
    table = pa.table({"image": [4, 7, 4, 7], "label": [1, 2, 1, 2], "attack": ["natural", "natural", "training", "training"],
                      "pixels": [np.zeros(4, "float32").tobytes()] * 4, "prediction": [1, 2, 1, 3],
                      "confidence": [0.9, 0.8, 0.5, 0.6]})
    pq.write_table(table.replace_schema_metadata({"shape": "1,2,2", "title": "PGD-7, epsilon 0.15", "step": "4"}),
                   results / "samples.parquet")
    assert sentence(read(), SEARCH, "samples") == ("After 4 steps, 2 of the first 2 training images are classified correctly as "
                                                   "they are, and 1 under PGD-7, epsilon 0.15.")


def test_family_settings_and_alerts(samples, read: Read, tmp_path: Path) -> None:
    log, ids = samples
    assert sentence(log, ids["search"], "lineage") == ("This run is the first of its family, which has 1 search run, 1 "
                                                       "retraining and 1 attack run.")
    assert sentence(log, ids["attack"], "lineage").startswith(f"This run follows {ids['retrain']}. The family has 1 search run")
    assert sentence(log, ids["stopped"], "lineage") == "This run has no parent and no followers."
    assert sentence(log, ids["search"], "settings").endswith(" more.")
    assert sentence(log, ids["failed"], "alerts").startswith("Out of memory: the batch of 40 images did not fit")
    write_finished_chain(tmp_path / "other")
    write_retraining(tmp_path, [0.3], [0.3])
    assert sentence(read(), "20261118-1000-retrain-digits-1a02", "alerts") == "No alerts."


def test_an_unknown_run_is_refused(samples) -> None:
    with pytest.raises(RunLogError, match="There is no run"):
        sentence(samples[0], "20260101-0000-arnas-digits-0000", "overview")
