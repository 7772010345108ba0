"""The answer of a study in words, computed from its results so far. Imports no torch.

The answer is provisional until every cell (repetition of an arm) has its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.attack.protocol import ball_text
from engine.config import AttackConfig
from engine.errors import RunLogError
from engine.log.runlog import RunLog
from engine.report.words import plural_text
from engine.study.contrasts import FEWEST_UNITS, Contrast, Measured, Verdict, clause, compare, sentence
from engine.study.declaration import Study
from engine.study.folder import Extension
from engine.study.means import mean_of
from engine.study.measures import COUNTS, column_title, complete
from engine.study.questions import recipes
from engine.study.ranking import RankCorrelation, rank_table
from engine.study.results import ArmResult, Results

MOST_CLAUSES = 4  # contrasts that the headline gives one by one
# {verdict: its words where the contrasts with this verdict are only counted}
UNCLEAR: dict[Verdict, str] = {"equal": "equal within the declared margin", "undecided": "not told apart"}


@dataclass(frozen=True)
class Answer:
    """The answer of a study at one moment.

    Attributes:
        parts: clauses that form one sentence when joined. A study with several contrasts has several clauses, of which the first
            says what was compared.
        provisional: True until every cell (one repetition of an arm) has its result.
        claims: False if the study is only a demonstration, because it has too few search seeds or networks for a claim.
        contrasts: results of the contrasts (the declared comparisons of two arms), in the declared order; empty for a study that
            compares rankings.
        correlations: rank correlations of the measures with the endpoint, the accuracy to predict; empty for a study that
            compares arms.
        sentences: one sentence per contrast or rank correlation.
        notes: sentences on missing cells, extensions, reused runs and doubtful accuracies.
    """

    parts: tuple[str, ...]
    provisional: bool
    claims: bool
    contrasts: tuple[Contrast, ...]
    correlations: tuple[RankCorrelation, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        return f"{'; '.join(self.parts)}."


def endpoint_text(study: Study) -> str:
    """Return the name of the accuracy that a study compares, such as "worst-case accuracy under FGSM and PGD-20"."""
    if study.endpoint == NATURAL:
        return "natural accuracy"
    if study.endpoint != WORST:
        return f"accuracy under {ATTACKS[study.endpoint].title}"
    config = study.configurations(study.arms[0])["attack"]
    assert isinstance(config, AttackConfig)
    return f"worst-case accuracy under {listed([ATTACKS[name].title for name in config.attacks])}"


def conditions_text(results: Results) -> str:
    """Return the radius of the attacks and the number of images as text, for example "L∞ 0.15, 359 images".

    For a study of natural accuracy, the radius is left out. Before the first result, the number of images is left out.
    """
    study = results.study
    config = study.configurations(study.arms[0])["attack"]
    assert isinstance(config, AttackConfig)
    images = next((cell.endpoint.images for arm in results.arms.values() for cell in arm.cells), 0)
    return ", ".join(filter(None, ("" if study.endpoint == NATURAL else ball_text(config.norm, config.radius),
                                   f"{images:,} images" if images else "")))


def listed(words: Sequence[str]) -> str:
    """Join words for a sentence, for example to "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def answer_of(log: RunLog, results: Results, extensions: Sequence[Extension] = ()) -> Answer:
    """Return the answer of a study.

    Args:
        log: the run log, which records for each attacked image whether it was classified correctly.
        results: results of the study.
        extensions: requests to repeat the arms for more search seeds, oldest first.
    """
    notes = tuple(_notes(results, extensions))
    if results.study.analysis == "ranking":
        return _ranking(results, notes)
    outcomes, unread = _outcomes(log, results)
    measured = _measured(results, {} if unread else outcomes)
    contrasts = compare(measured, results.study.contrasts, results.study.margin)
    if unread:
        notes += (f"The interval of the bootstrap is missing, because the outcomes of {len(unread)} attack runs cannot be read, "
                  f"for example those of {unread[0]}.",)
    endpoint = endpoint_text(results.study)
    words = f"{endpoint} ({conditions_text(results)})"
    return Answer(_parts(results, contrasts, words), not results.is_complete,
                  all(one.verdict != "demonstration" for one in contrasts), tuple(contrasts), (),
                  tuple(sentence(one, words if len(contrasts) == 1 else endpoint) for one in contrasts), notes)


def _ranking(results: Results, notes: tuple[str, ...]) -> Answer:
    """Return the answer of a study that compares rankings of networks.

    There is one network per arm and search seed. The measures of a network are means over its retrainings. The bootstrap draws
    networks with replacement.
    """
    study = results.study
    target = column_title(study.endpoint)
    networks = [measures for arm in results.arms.values() for measures in arm.network_measures]
    columns = complete(networks, list(dict.fromkeys((*study.measures, *COUNTS, target))))
    if len(columns[target]) < 2:
        return Answer(("Fewer than two networks have all measures yet",), not results.is_complete, False, (), (), (), notes)
    correlations = tuple(rank_table(columns, target, COUNTS))
    beyond = [one for one in correlations if one.given and one.first in study.measures]
    words = _ranking_words(beyond, endpoint_text(study))
    return Answer((words,), not results.is_complete, all(one.interval is not None for one in beyond), (), correlations,
                  tuple(one.sentence() for one in correlations), notes)


def _ranking_words(beyond: Sequence[RankCorrelation], target: str) -> str:
    """Return a clause that names the measures that predict the endpoint better than parameters and MACs do."""
    adding = [one.first for one in beyond if one.adds]
    known = [one for one in beyond if one.interval is not None]
    if not known:
        return f"Too few networks to say whether a ranking predicts {target} beyond counting parameters and MACs"
    if adding:
        return f"Ranking by {listed(adding)} says more about {target} than counting parameters and MACs"
    return (f"None of these rankings predicts {target} better than counting parameters and MACs: "
            f"{listed([one.first for one in known])}")


def _outcomes(log: RunLog, results: Results) -> tuple[dict[str, dict[int, bool]], list[str]]:
    """Read which images the attacked networks of a study classified correctly, from the attack runs.

    Returns:
        outcomes: {run id: {image: True if it was classified correctly}}.
        unread: ids of the runs whose outcomes cannot be read.
    """
    outcomes: dict[str, dict[int, bool]] = {}
    unread = []
    for run in [cell.run for arm in results.arms.values() for cell in arm.cells]:
        try:
            outcomes[run] = log.correct_images(run, results.study.endpoint)
        except RunLogError:
            unread.append(run)
    return outcomes, unread


def _measured(results: Results, outcomes: Mapping[str, Mapping[int, bool]]) -> dict[str, Measured]:
    """Return {name of an arm: its values}.

    The values include the outcomes (True if classified correctly) of the images that all attack runs have in common.

    Args:
        results: results of the study.
        outcomes: {run id: {image: outcome}}; empty if the outcomes are not known.
    """
    shared = sorted(set.intersection(*map(set, outcomes.values()))) if outcomes else []
    return {name: _arm(arm, outcomes, shared) for name, arm in results.arms.items()}


def _arm(arm: ArmResult, outcomes: Mapping[str, Mapping[int, bool]], shared: Sequence[int]) -> Measured:
    images: list[NDArray[np.bool_]] = [
        np.array([[outcomes[cell.run][image] for image in shared] for cell in cells], dtype=np.bool_)
        for cells in arm.by_seed.values()] if shared else []
    return Measured(tuple(map(tuple, arm.units)), tuple(images) or None, arm.mean("macs"))


def _parts(results: Results, contrasts: Sequence[Contrast], endpoint: str) -> tuple[str, ...]:
    """Return the clauses of the answer. With many contrasts, undecided contrasts are only counted."""
    if not results.done:
        return ("No cell has its result yet",)
    if len(contrasts) == 1:
        return (sentence(contrasts[0], endpoint).removesuffix("."),)
    if any(one.verdict == "demonstration" for one in contrasts):
        return (f"Demonstration, no claim: {_extremes(results, endpoint)}",)
    if len(contrasts) <= MOST_CLAUSES:
        parts = [clause(one) for one in contrasts]
    else:
        counts = Counter(one.verdict for one in contrasts if one.difference is not None)
        parts = [clause(one) for one in contrasts if one.verdict in ("better", "worse")]
        parts += [f"{counts[verdict]} of {len(contrasts)} pairs of arms {words}" for verdict, words in UNCLEAR.items()
                  if counts[verdict]]
    return (f"In {endpoint}: {parts[0]}", *parts[1:])


def _extremes(results: Results, endpoint: str) -> str:
    """Return a text that names the arm with the highest mean so far and the arm with the lowest."""
    means = {name: mean for name, arm in results.arms.items() if (mean := mean_of(arm.measured("endpoint")))}
    best, worst = (choose(means, key=lambda name: means[name].value) for choose in (max, min))
    if len(means) == 1:
        return f"so far, there are results of {best} only"
    if means[best].value == means[worst].value:
        widest = max(means.values(), key=lambda mean: mean.high - mean.low)
        return f"in {endpoint}, all arms with results have the same mean, {widest.words}"
    return (f"in {endpoint}, the highest mean is that of {best}, {means[best].words}, and the lowest that of {worst}, "
            f"{means[worst].words}")


def _notes(results: Results, extensions: Sequence[Extension]) -> list[str]:
    study, notes = results.study, []
    fewest = min(len(arm.units) for arm in results.arms.values())
    if fewest < FEWEST_UNITS and study.analysis == "contrasts":
        notes.append(f"A claim needs at least {FEWEST_UNITS} search seeds with results in every arm; the arm with the fewest "
                     f"has {fewest}.")
    if failed := sum(cell.status in ("failed", "stopped") for cell in results.cells):
        notes.append(f"Failed or stopped, so that their results are missing: {failed} of {len(results.cells)} cells.")
    if looks := sum(extension.looked for extension in extensions):
        notes.append(f"Looks at the results before an extension: {looks}.")
    notes += _extension_notes(extensions)
    if reused := sum(any(step.reused for step in cell.steps) for cell in results.cells):
        notes.append(f"{reused} of {len(results.cells)} cells reuse runs that existed before or belong to another study.")
    doubtful = [cell for arm in results.arms.values() for cell in arm.cells if cell.badge.colour != "green"]
    unchecked = [cell for cell in doubtful if cell.badge.reasons[0].startswith("No check was made")]
    if unchecked:
        notes.append(f"No reliability check was made for {len(unchecked)} of {results.done} accuracies, for example that of "
                     f"{unchecked[0].run}.")
    doubtful = [cell for cell in doubtful if cell not in unchecked]
    if doubtful:
        notes.append(f"The reliability checks do not confirm {len(doubtful)} of {results.done} accuracies, for example that of "
                     f"{doubtful[0].run}: {doubtful[0].badge.reasons[0]}")
    if results.apart:
        notes.append(f"Left out, because they were measured under another protocol: {plural_text(len(results.apart), 'result')}.")
    if study.match != "none":
        notes += _size_notes(results)
    known = recipes()
    if study.recipe in known and known[study.recipe].remark:
        notes.append(known[study.recipe].remark)
    return notes


def _extension_notes(extensions: Sequence[Extension]) -> list[str]:
    """Return up to two sentences: on extensions made before results were known, and on extensions made afterwards."""
    notes = []
    for looked, seen in ((False, ""), (True, ", after results were known, which raises the rate of false claims")):
        sizes = [len(extension.seeds) for extension in extensions if extension.looked == looked]
        if sizes:
            noun = "search seed" if sizes == [1] else "search seeds"
            times = "" if len(sizes) == 1 else f" {len(sizes)} times"
            notes.append(f"Extended{times} by {listed([str(size) for size in sizes])} {noun}{seen}.")
    return notes


def _size_notes(results: Results) -> list[str]:
    """Return sentences on network sizes: how well they match the reference arm, and which arms have a fixed size."""
    study, notes = results.study, []
    fixed = [] if study.matches_hand_made else [arm.name for arm in study.arms if arm.retrain.get("network")]
    ratios = [ratio for arm in results.arms.values() if arm.name not in (*fixed, study.reference)
              for ratio in results.arm_ratios(arm)]
    if ratios:
        matched = "MACs" if study.match == "macs" else "Parameters"
        ends = " to ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))))
        notes.append(f"{matched} are matched to {study.reference} as closely as whole channels allow: the networks have "
                     f"{ends} times the MACs of that arm's network with the same seeds.")
    if fixed:
        notes.append(f"The size of {listed(fixed)} is fixed and was not matched.")
    return notes
