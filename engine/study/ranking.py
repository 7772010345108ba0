"""Rank correlations of measures over architectures: Kendall's tau, partial tau given other measures, and their intervals.

A measure is a column with one number per architecture, for example the supernet's accuracy or the number of parameters. If an
architecture has several retrainings, the number is the mean over them, for example of the accuracy under AutoAttack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.report.words import signed_text

Floats = NDArray[np.float64]
Interval = tuple[float, float]

FEWEST_ARCHITECTURES = 10  # for an interval
_RESOLVED = 1e-9  # remaining variance below which a column is determined by the covariates


@dataclass(frozen=True)
class RankCorrelation:
    """The rank correlation of two columns (measures with one number per architecture).

    Attributes:
        first, second: names of the columns.
        given: names of the covariates; empty for plain Kendall's tau-b.
        architectures: number of architectures.
        tau: tau-b or partial tau, in -1..1; None if a column is constant or determined by the covariates.
        interval: bootstrap interval of `tau`, from resampled architectures; None without `tau`, or with fewer architectures than
            `FEWEST_ARCHITECTURES`.
        latent: partial tau from `latent_partial_tau`; equal to `tau` without covariates.
        latent_interval: bootstrap interval of `latent`.
        level: confidence level of `interval` and `latent_interval`.
        constant: True if the first column has the same value for all architectures, so that it ranks nothing.
    """

    first: str
    second: str
    given: tuple[str, ...]
    architectures: int
    tau: float | None
    interval: Interval | None
    latent: float | None
    latent_interval: Interval | None
    level: float = 0.95
    constant: bool = False

    @property
    def adds(self) -> bool:
        """True if both intervals are above 0: the first column tells more about the second than the covariates alone do."""
        return all(interval is not None and interval[0] > 0 for interval in (self.interval, self.latent_interval))

    @property
    def contradicts(self) -> bool:
        """True if both intervals are below 0: given the covariates, the two columns rank the architectures in opposite orders."""
        return all(interval is not None and interval[1] < 0 for interval in (self.interval, self.latent_interval))

    def sentence(self) -> str:
        """Return the result in words. The covariates are called by their names, for example "parameters and MACs"."""
        if self.constant:
            return self._constant_sentence()
        tau = "undefined" if self.tau is None else f"{signed_text(self.tau, 2, plus=False)}{self._interval_text()}"
        if not self.given:
            return f"Kendall's tau of {self.first} and {self.second} is {tau}, over {self.architectures} architectures."
        counted = f"counting {' and '.join(self.given)}"
        numbers = f"partial tau with {self.second} {tau}, over {self.architectures} architectures"
        if self.interval is None or self.latent_interval is None:
            return f"It is unknown whether the ranking by {self.first} adds anything beyond {counted}: {numbers}."
        verb = "says more than" if self.adds else "goes against the outcome after" if self.contradicts else "adds nothing beyond"
        return f"The ranking by {self.first} {verb} {counted}: {numbers}."

    def _constant_sentence(self) -> str:
        reason = f"because all {self.architectures} architectures have the same value"
        if not self.given:
            return f"Kendall's tau of {self.first} and {self.second} is undefined, {reason}."
        return f"The ranking by {self.first} adds nothing beyond counting {' and '.join(self.given)}, {reason}."

    def _interval_text(self) -> str:
        if self.interval is None:
            return ""
        ends = " to ".join(signed_text(end, 2, plus=False) for end in self.interval)
        return f" ({100 * self.level:.3g} %: {ends})"


def kendall(columns: Sequence[Sequence[float]]) -> Floats:
    """Return the matrix of Kendall's tau-b between columns (Kendall 1945, corrected for ties); nan for constant columns.

    Args:
        columns: columns of equal length, finite numbers.

    Raises:
        ValueError: the columns have different lengths, or a number is not finite.
    """
    signs = _signs(columns)
    return np.asarray(_taus(signs, np.ones((1, signs.shape[1])))[0])


def partial_tau(taus: Floats) -> float | None:
    """Return the partial Kendall tau of the first two columns given all others.

    With one covariate z it is (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2)) (Kendall 1942, Biometrika 32:277-283). With
    several covariates it is the partial correlation computed from the matrix of taus (Kim 2015, Commun. Stat. Appl. Methods
    22:665-674). Several covariates that rank the architectures in the same order have the effect of one.

    Args:
        taus: the matrix from `kendall` [columns, columns].

    Returns:
        The partial tau in -1..1. None if it is undefined because a column is constant or determined by the covariates.
    """
    value = float(_partials(taus[None])[0])
    return None if np.isnan(value) else value


def latent_partial_tau(columns: Sequence[Sequence[float]]) -> float | None:
    """Return the partial tau of the first two columns given all others (the covariates), under a Gaussian copula.

    Kendall's partial tau is in general not 0 for columns that are independent given the covariates (Korn 1984, The American
    Statistician 38:61-62). For example, suppose that each of two measures is the number of parameters plus its own independent
    noise. The interval of Kendall's partial tau given the number of parameters then excludes 0 as soon as there are many
    architectures. Under a Gaussian copula, this function does not have that bias: for many architectures, its result approaches 0
    if and only if the columns are independent given the covariates.

    The result is 2 / pi arcsin(r), the tau of normal variables with correlation r (Greiner 1909). Here r is the partial
    correlation of the normal scores of the ranks (van der Waerden 1952; Gaussian copulas: Liu, Lafferty and Wasserman 2009, JMLR
    10:2295-2328).

    Args:
        columns: columns of equal length, finite numbers.

    Returns:
        The partial tau in -1..1. None if it is undefined because a column is constant or determined by the covariates.

    Raises:
        ValueError: the columns have different lengths, or a number is not finite.
    """
    signs = _signs(columns)
    value = float(_latent_partials(signs, np.ones((1, signs.shape[1])))[0])
    return None if np.isnan(value) else value


def correlate(columns: Mapping[str, Sequence[float]], first: str, second: str, given: Sequence[str] = (), level: float = 0.95,
              resamples: int = 2000, seed: int = 0) -> RankCorrelation:
    """Return the rank correlation of two columns, with a bootstrap interval from resampled architectures.

    The ends of the interval are percentiles of the resampled values.

    Args:
        columns: {name: one number per architecture}. All columns list the architectures in the same order.
        first, second: names of the two columns.
        given: names of the covariates, such as parameters and MACs.
        level: confidence level in 0..1.
        resamples: number of resamples.
        seed: seed of the resampling.

    Raises:
        KeyError: a name is not in `columns`.
        ValueError: the columns have different lengths, or a number is not finite.
    """
    chosen = [columns[name] for name in (first, second, *given)]
    signs, architectures = _signs(chosen), len(chosen[0])
    tau = partial_tau(kendall(chosen))
    latent = latent_partial_tau(chosen) if given else tau
    interval = latent_interval = None
    if architectures >= FEWEST_ARCHITECTURES:
        drawn = np.random.default_rng(seed).multinomial(architectures, np.full(architectures, 1 / architectures), resamples)
        weights = drawn.astype(np.float64)
        interval = latent_interval = _percentiles(tau, _partials(_taus(signs, weights)), level)
        if given:
            latent_interval = _percentiles(latent, _latent_partials(signs, weights), level)
    return RankCorrelation(first, second, tuple(given), architectures, tau, interval, latent, latent_interval, level,
                           constant=len(set(columns[first])) == 1)


def rank_table(columns: Mapping[str, Sequence[float]], target: str, given: Sequence[str] = (), level: float = 0.95,
               resamples: int = 2000, seed: int = 0) -> list[RankCorrelation]:
    """Return the rank correlation of each other column with the target column.

    The plain taus of these columns come first. If there are covariates, they are followed by the partial taus of all columns that
    are not covariates.

    Args:
        columns: {name: one number per architecture}.
        target: name of the column to predict, such as the accuracy under AutoAttack after retraining.
        given: names of the covariates.
        level: confidence level of the bootstrap intervals, in 0..1.
        resamples: number of resamples of each interval.
        seed: seed of the resampling.

    Raises:
        KeyError: a name is not in `columns`.
        ValueError: the columns have different lengths, or a number is not finite.
    """
    measures = [name for name in columns if name != target]
    plain = [correlate(columns, name, target, (), level, resamples, seed) for name in measures]
    if not given:
        return plain
    return plain + [correlate(columns, name, target, given, level, resamples, seed) for name in measures if name not in given]


def _signs(columns: Sequence[Sequence[float]]) -> Floats:
    """Return the sign of the difference between every two architectures in each column.

    The result is an array [columns, architectures, architectures].
    """
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"Columns must have one number for every architecture, got columns of lengths {lengths}")
    values = np.array(columns, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("Columns must be finite numbers, got nan or infinity; leave out architectures without a value")
    return np.sign(values[:, :, None] - values[:, None, :])


def _taus(signs: Floats, weights: Floats) -> Floats:
    """Return the tau-b matrices [resamples, columns, columns] of weighted architectures.

    Tau-b is the correlation of the signs over all pairs of architectures (Kendall and Gibbons 1990, chapter 2). The weight of a
    pair is the product of the weights of its two architectures.

    Args:
        signs: array [columns, architectures, architectures] from `_signs`.
        weights: array [resamples, architectures].
    """
    columns = len(signs)
    products = np.empty((len(weights), columns, columns))
    for i in range(columns):
        for j in range(i, columns):
            products[:, i, j] = products[:, j, i] = ((weights @ (signs[i] * signs[j])) * weights).sum(axis=1)
    return _normalised(products)


def _partials(correlations: Floats) -> Floats:
    """Return the partial correlations of the first two columns given the others, as an array [resamples].

    Args:
        correlations: matrices [resamples, columns, columns].
    """
    result = np.full(len(correlations), np.nan)
    defined = np.isfinite(correlations).all(axis=(1, 2))
    pairs, between = correlations[defined, :2, :2], correlations[defined, :2, 2:]
    if between.shape[2]:
        inverses = np.linalg.pinv(correlations[defined, 2:, 2:], rcond=1e-10, hermitian=True)
        pairs = pairs - between @ inverses @ between.transpose(0, 2, 1)
    variances = np.minimum(pairs[:, 0, 0], pairs[:, 1, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        values = pairs[:, 0, 1] / np.sqrt(pairs[:, 0, 0] * pairs[:, 1, 1])
    result[defined] = np.where((variances > _RESOLVED) & (np.abs(values) <= 1 + _RESOLVED), np.clip(values, -1, 1), np.nan)
    return result


def _latent_partials(signs: Floats, weights: Floats) -> Floats:
    """Return the partial taus under a Gaussian copula as an array [resamples].

    Args:
        signs: array [columns, architectures, architectures] from `_signs`.
        weights: array [resamples, architectures]. Each row sums to the number of architectures.
    """
    architectures = signs.shape[1]
    # An architecture's middle rank is (n + 1 + sum of its signs) / 2, and the score is the normal quantile of rank / (n + 1).
    shares = 0.5 + np.einsum("ra,cba->crb", weights, signs, optimize=True) / (2 * (architectures + 1))
    scores = np.asarray(special.ndtri(shares))
    means = (scores * weights).sum(axis=2, keepdims=True) / architectures
    scores = (scores - means) * np.sqrt(weights)
    products = np.einsum("cra,dra->rcd", scores, scores, optimize=True)
    return np.asarray(2 / np.pi * np.arcsin(_partials(_normalised(products))))


def _normalised(products: Floats) -> Floats:
    """Return correlation matrices from covariance matrices [resamples, columns, columns]; nan for columns without variance."""
    variances = np.einsum("rii->ri", products)
    scale = np.sqrt(np.where(variances > _RESOLVED, variances, np.nan))
    return np.asarray(products / (scale[:, :, None] * scale[:, None, :]))


def _percentiles(estimate: float | None, values: Floats, level: float) -> Interval | None:
    """Return the percentile interval of the resampled values; None without an estimate.

    A value that is nan widens the interval at both ends.
    """
    if estimate is None:
        return None
    tail = (1 - level) / 2
    low = np.quantile(np.nan_to_num(values, nan=-1.0), tail)
    high = np.quantile(np.nan_to_num(values, nan=1.0), 1 - tail)
    return float(low), float(high)
