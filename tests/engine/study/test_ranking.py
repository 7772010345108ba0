"""Rank correlations against scipy, the direct formulas, hand counts and analytic cases."""

from __future__ import annotations

from math import asin, pi, sqrt

import numpy as np
import pytest
from scipy.stats import kendalltau, norm, rankdata

from engine.study.ranking import correlate, kendall, latent_partial_tau, partial_tau, rank_table


def columns_of(architectures: int, count: int, seed: int, step: float = 0.5) -> list[list[float]]:
    """Return correlated columns, rounded to multiples of `step` so that they have ties."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=architectures)
    return (np.round((common + rng.normal(size=(count, architectures))) / step) * step).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_scipy(seed: int) -> None:
    """Every entry of the matrix is scipy's tau-b, with ties."""
    columns = columns_of(30, 4, seed)
    taus = kendall(columns)
    assert taus == pytest.approx(np.array([[kendalltau(one, other).statistic for other in columns] for one in columns]))


def test_tau_by_hand() -> None:
    """Five of the six pairs of (1, 2, 3, 4) and (1, 3, 2, 4) are concordant, so tau is 4 / 6; a reversed column has -1."""
    assert kendall([[1, 2, 3, 4], [1, 3, 2, 4]])[0, 1] == pytest.approx(4 / 6)
    assert kendall([[1, 2, 3, 4], [4, 3, 2, 1]])[0, 1] == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(5))
def test_partial_tau_is_the_direct_formula(seed: int) -> None:
    """With one covariate, partial tau is Kendall's formula of three taus."""
    taus = kendall(columns_of(25, 3, seed))
    xy, xz, yz = taus[0, 1], taus[0, 2], taus[1, 2]
    assert partial_tau(taus) == pytest.approx((xy - xz * yz) / sqrt((1 - xz**2) * (1 - yz**2)))


@pytest.mark.parametrize("seed", range(5))
def test_partial_tau_of_two_covariates_is_recursive(seed: int) -> None:
    """With two covariates, the formula applied to partial taus given the first covariate gives the same value."""
    taus = kendall(columns_of(25, 4, seed))

    def given_z(one: int, other: int) -> float:
        return float((taus[one, other] - taus[one, 2] * taus[other, 2]) / sqrt((1 - taus[one, 2]**2) * (1 - taus[other, 2]**2)))

    xy, xw, yw = given_z(0, 1), given_z(0, 3), given_z(1, 3)
    assert partial_tau(taus) == pytest.approx((xy - xw * yw) / sqrt((1 - xw**2) * (1 - yw**2)))


def test_covariates_of_one_ranking_count_once() -> None:
    """Parameters and MACs that rank the architectures alike give the same partial tau as one of them."""
    x, y, z = columns_of(25, 3, 6)
    expected = partial_tau(kendall([x, y, z]))
    assert partial_tau(kendall([x, y, z, [np.exp(value) for value in z]])) == pytest.approx(expected)
    assert partial_tau(kendall([x, y, z, [-value for value in z]])) == pytest.approx(expected)


def test_undefined_taus() -> None:
    """A constant column, or one that a covariate determines, has no tau and no verdict."""
    x, y = columns_of(20, 2, 7)
    assert partial_tau(kendall([x, [0.5] * 20])) is None
    assert partial_tau(kendall([x, y, [2 * value for value in x]])) is None
    result = correlate({"score": x, "accuracy": y, "parameters": x}, "score", "accuracy", ["parameters"])
    assert (result.tau, result.interval, result.adds, result.contradicts) == (None, None, False, False)
    assert result.sentence().startswith("It is unknown whether the ranking by score adds anything beyond counting parameters: ")


def test_a_constant_column_ranks_nothing() -> None:
    columns = {"supernet": [0.0] * 6, "parameters": [1.0, 2, 3, 4, 5, 6], "AutoAttack": [3.0, 1, 2, 6, 5, 4]}
    plain, partial = (correlate(columns, "supernet", "AutoAttack", given) for given in ((), ("parameters",)))
    reason = "because all 6 architectures have the same value."
    assert plain.sentence() == f"Kendall's tau of supernet and AutoAttack is undefined, {reason}"
    assert partial.sentence() == f"The ranking by supernet adds nothing beyond counting parameters, {reason}"


def test_independence_given_the_covariate() -> None:
    """For normal variables that are independent given the covariate, the latent partial tau is 0 and Kendall's is not."""
    taus = np.array([[2 / pi * asin(r) for r in row] for row in [[1, 0.64, 0.8], [0.64, 1, 0.8], [0.8, 0.8, 1]]])
    assert partial_tau(taus) == pytest.approx(0.1437, abs=1e-3)
    common, *noise = np.random.default_rng(13).normal(size=(3, 600))
    columns = [(0.8 * common + 0.6 * own).tolist() for own in noise] + [common.tolist()]
    assert latent_partial_tau(columns) == pytest.approx(0, abs=0.06)
    assert partial_tau(kendall(columns)) == pytest.approx(0.1437, abs=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_latent_partial_tau_is_that_of_normal_scores(seed: int) -> None:
    """The latent partial tau comes from the correlation of the residuals of regressed normal scores."""
    columns = columns_of(25, 4, seed)
    scores = norm.ppf(np.array([rankdata(column) for column in columns]) / 26)
    covariates = np.column_stack([np.ones(25), scores[2], scores[3]])
    residuals = [scores[k] - covariates @ np.linalg.lstsq(covariates, scores[k], rcond=None)[0] for k in (0, 1)]
    assert latent_partial_tau(columns) == pytest.approx(2 / pi * asin(np.corrcoef(residuals)[0, 1]))


def test_correlations_are_invariant() -> None:
    """Increasing transformations and swapped columns change nothing; a reversed column changes the signs."""
    x, y, z = (np.array(column) for column in columns_of(20, 3, 8))
    result = correlate({"x": x, "y": y, "z": z}, "x", "y", ["z"])
    same = [correlate({"x": np.exp(x), "y": y**3, "z": 5 * z - 2}, "x", "y", ["z"]),
            correlate({"x": y, "y": x, "z": z}, "x", "y", ["z"])]
    for other in same:
        assert (other.tau, other.interval) == (pytest.approx(result.tau), pytest.approx(result.interval))
    mirrored = correlate({"x": -x, "y": y, "z": z}, "x", "y", ["z"])
    low, high = result.interval or (0.0, 0.0)
    assert (mirrored.tau, mirrored.interval) == (pytest.approx(-(result.tau or 0)), pytest.approx((-high, -low)))


def test_the_interval_is_that_of_resampled_architectures() -> None:
    """The interval has the percentiles of scipy's tau-b over resampled architectures, up to the noise of the resamples."""
    x, y = (np.array(column) for column in columns_of(25, 2, 9))
    rng = np.random.default_rng(0)
    taus = [kendalltau(x[drawn], y[drawn]).statistic for drawn in rng.integers(25, size=(800, 25))]
    result = correlate({"x": x, "y": y}, "x", "y", resamples=3000)
    assert result.interval == pytest.approx(tuple(np.quantile(taus, [0.025, 0.975])), abs=0.04)
    assert result.latent_interval == result.interval and result.latent == result.tau


def test_few_architectures_have_no_interval() -> None:
    """With fewer than ten architectures, tau has no interval and the ranking no verdict."""
    columns = dict(zip("xyz", columns_of(9, 3, 10), strict=True))
    result = correlate(columns, "x", "y", ["z"])
    assert result.tau is not None and result.interval is None and not result.adds


def test_verdicts_of_rankings() -> None:
    """A score that knows more than the parameters adds to them, noise adds nothing, and a reversed score goes against it."""
    rng = np.random.default_rng(11)
    parameters, quality = rng.normal(size=(2, 60))
    columns = {"parameters": parameters, "MACs": parameters + 0.1 * rng.normal(size=60), "good": quality, "bad": -quality,
               "noise": parameters + rng.normal(size=60), "accuracy": parameters + quality + 0.3 * rng.normal(size=60)}
    table = {(row.first, row.given): row for row in rank_table(columns, "accuracy", ("parameters", "MACs"))}
    counts = ("parameters", "MACs")
    assert {name for name, given in table if not given} == set(columns) - {"accuracy"}
    assert {name for name, given in table if given == counts} == {"good", "bad", "noise"}
    good, noise, bad = (table[name, counts] for name in ("good", "noise", "bad"))
    assert good.adds and good.sentence().startswith("The ranking by good says more than counting parameters and MACs: partial")
    assert not noise.adds and "The ranking by noise adds nothing beyond counting parameters and MACs" in noise.sentence()
    assert bad.contradicts and "goes against the outcome after counting" in bad.sentence()
    plain = table["good", ()]
    assert plain.sentence().startswith(f"Kendall's tau of good and accuracy is {plain.tau:.2f} (95 %: ")


def test_a_table_without_covariates_is_plain() -> None:
    """Without covariates, every column has one row."""
    columns = dict(zip("xyz", columns_of(12, 3, 12), strict=True))
    assert [(row.first, row.given) for row in rank_table(columns, "y", resamples=50)] == [("x", ()), ("z", ())]


def test_unusable_columns_are_refused() -> None:
    """Columns of different lengths and numbers that are not finite are errors."""
    with pytest.raises(ValueError, match="lengths"):
        kendall([[1.0, 2.0], [1.0]])
    with pytest.raises(ValueError, match="finite"):
        kendall([[1.0, float("nan")], [1.0, 2.0]])
