"""The part of the Run page from which a finished run is taken away, and the process that makes the files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from app import session
from app.components.run_takeaway import links_html, sources_of
from app.exporting import exported
from engine.architecture.genotype import Genotype
from engine.errors import RunError
from tests.app.conftest import Samples
from tests.app.pages import download_labels, open_page, text_of

LABELS = ["Weights (.pt)", "Weights (safetensors)", "Module (.py)", "ONNX", "Report (HTML)", "TensorBoard", "MLflow",
          "Paper pack (ZIP)"]


def chain_of(samples: Samples) -> dict[str, dict[str, object]]:
    """Return the rows of the finished chain by role."""
    rows = {row["id"]: row for row in session.run_log().runs().to_dict("records")}
    return {role: rows[samples.ids[role]] for role in ("search", "retrain", "attack")}


def test_a_finished_run_has_a_button_for_every_form_and_the_same_by_command(samples: Samples) -> None:
    for role in ("search", "retrain", "attack"):
        test = open_page("run", id=samples.ids[role])
        assert not test.exception
        assert download_labels(test) == LABELS
        assert "Genotype (JSON)" in [one.proto.label for one in test.get("download_button")]
        words = text_of(test)
        assert f"export {samples.ids['retrain']} --form weights" in words
        assert f"export {samples.ids['attack']} --form report" in words


@pytest.mark.parametrize("role", ["running", "failed", "stopped"])
def test_a_run_without_a_result_has_none(samples: Samples, role: str) -> None:
    assert "Take it with you" not in text_of(open_page("run", id=samples.ids[role]))


def test_each_form_comes_from_the_run_that_has_it(samples: Samples) -> None:
    session.hub().refresh()
    chain = chain_of(samples)
    for role, run in chain.items():
        sources = sources_of(run, list(chain.values()))
        assert sources["weights"] == sources["onnx"] == samples.ids["retrain"]
        assert sources["report"] == samples.ids["attack"] and sources["mlflow"] == samples.ids[role]
    alone = sources_of(chain["search"], [chain["search"]])
    assert set(alone) == {"genotype", "tensorboard", "mlflow"}
    hand_made = chain["retrain"] | {"hand_made": "resnet-18"}
    assert not {"genotype", "module"} & set(sources_of(hand_made, [hand_made]))
    links = links_html(chain["attack"], list(chain.values()))
    assert f'launch?kind=attack&amp;parent={samples.ids["retrain"]}' in links
    assert f'launch?from={samples.ids["attack"]}' in links and f'compare?runs={samples.ids["attack"]}' in links


def test_a_click_makes_one_file_or_a_zip_or_a_sentence(samples: Samples) -> None:
    ids = samples.ids
    genotype = exported(samples.root, ("export", ids["search"], "--form", "genotype"), "g.json")
    assert Genotype.from_json(genotype.decode()).kinds
    archive = zipfile.ZipFile(io.BytesIO(exported(samples.root, ("export", ids["search"], "--form", "mlflow"), "ml")))
    assert any(Path(name).name == "meta.yaml" and ids["search"] in name for name in archive.namelist())
    with pytest.raises(RunError, match="There is no run"):
        exported(samples.root, ("export", ids["search"][:-4] + "ffff", "--form", "genotype"), "g.json")
