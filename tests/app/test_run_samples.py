"""The Samples tab of the Run page, on runs of every kind and state."""

from __future__ import annotations

from tests.app.conftest import Samples
from tests.app.pages import open_page, text_of
from tests.sample_runs import write_first_batch, write_unfinished_attack


def test_the_first_batch_stands_beside_its_attacked_version_with_predictions(samples: Samples) -> None:
    for role in ("running", "retrain"):
        write_first_batch(samples.root / samples.ids[role])
        test = open_page("run", id=samples.ids[role], tab="samples")
        words = text_of(test)
        assert not test.exception and words.count('<figure class="rp-shot"') == 16
        assert [words.count(f'alt="{which} image') for which in ("natural", "change", "adversarial")] == [16, 16, 16]
        assert "class 3<" in words and "predicted 3 (98 %) → 4 (62 %)" in words
        assert "under PGD-7, epsilon 0.15" in words and "amplified 6.67 times: full colour at 0.15" in words
        assert "16 of the first 16 training images are classified correctly as they are, and 0 under PGD-7" in words


def test_images_of_a_method_without_attack_stand_alone(samples: Samples) -> None:
    write_first_batch(samples.root / samples.ids["search"], attacked=False)
    words = text_of(open_page("run", id=samples.ids["search"], tab="samples"))
    assert "The method attacks no images." in words and "alt=\"change" not in words and "predicted 3 (98 %)<" in words


def test_an_attack_run_shows_the_gallery_of_the_robustness_page(samples: Samples) -> None:
    test = open_page("run", id=samples.ids["attack"], tab="samples")
    assert not test.exception and "predicted" in text_of(test) and "image 0<" in text_of(test)
    assert "amplified 6.67 times: full colour at 0.15, the radius of the ball" in text_of(test)
    assert test.selectbox(key="robustness.attack").options[0] == "Worst case"
    test.selectbox(key="robustness.attack").set_value("fgsm").run()
    assert not test.exception and test.query_params["attack"] == "fgsm"
    (samples.root / samples.ids["attack"] / "results" / "outcomes.parquet").unlink()
    words = text_of(open_page("run", id=samples.ids["attack"], tab="samples"))
    assert words.count('<figure class="rp-shot"') == 16 and "predicted" not in words


def test_a_run_without_stored_images_says_why(samples: Samples) -> None:
    attack = write_unfinished_attack(samples.root, "20261118-0922-attack-digits-0d05", parent=samples.ids["retrain"])
    expected = {samples.ids["failed"]: "No images stored", samples.ids["running"]: "stores some images after its first step",
                attack: "stores some images when its attacks have ended"}
    for run, words in expected.items():
        test = open_page("run", id=run, tab="samples")
        assert not test.exception and words in text_of(test)
    damaged = samples.root / samples.ids["search"] / "results" / "samples.parquet"
    damaged.write_bytes(b"not a table")
    assert "must be a table of stored images" in text_of(open_page("run", id=samples.ids["search"], tab="samples"))
