"""Checks on the reliability of a finished evaluation.

Each check looks for one possible cause of too high an accuracy under attack. Many causes are on the lists of Carlini et al. 2019,
arXiv 1902.06705, and Athalye et al. 2018, arXiv 1802.00420. `docs/evaluation.md` explains each check. To add a check, write a
function that takes an `Inspection` and returns a verdict and a sentence, and list the function in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from engine.attack.badge import Finding, Verdict
from engine.attack.ball import distance, uniform
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.attack.declaration import LINF
from engine.attack.evaluation import Stage
from engine.attack.guard import predictions, under_attack
from engine.attack.inspection import Check, Inspection, graded, is_black_box, tied
from engine.attack.outcomes import CORRECT, WRONG
from engine.attack.planted import planted
from engine.attack.statistics import accuracy_words, wilson
from engine.data.splits import stable_seed
from engine.lanes import Lanes

SMALL_CHANGE = 1e-4  # of a pixel in 0..1; far above float32 rounding, far below one of 256 grey levels
BATCH_ROUNDING = 1e-3  # largest relative change of logits that a different batch size explains
SMALL_BATCHES, SMALL_BATCH = 4, 4  # in which logits are compared with those in one batch
FEWEST_RIGHT = 8  # correctly classified images without which a share of them says nothing
FEW_STEPS = 10  # enough to test the machinery with an attack at radius 0


def inspect(check: Check, inspection: Inspection, before: Iterable[Finding] = ()) -> Finding:
    """Make one check and return the finding.

    Args:
        check: the check, from `CHECKS`.
        inspection: the evaluation to check.
        before: findings of the checks that come before this check in `CHECKS`.

    Raises:
        StopRequested: raised by `inspection.poll`. The check can be repeated later.
    """
    causes = [finding.title for finding in before if finding.raised and finding.check_name in check.needs]
    if causes:
        return Finding(check.name, check.title, "skipped", f"Not made, because it presupposes: {', '.join(causes)}.")
    # Use one lane's threads, which is faster for so few images.
    with under_attack(inspection.network), Lanes.on(inspection.evaluation.y.device):
        # A copy, so that what one check has computed saves no pass of another: a resumed run counts the same passes.
        verdict, measured = check.measure(replace(inspection))
    return Finding(check.name, check.title, verdict, measured, check.advice if verdict in ("warning", "failed") else "")


def above_chance(it: Inspection) -> tuple[Verdict, str]:
    """Compare the natural accuracy on all images of the evaluation with the accuracy of always predicting the same class.

    A network that always predicts the same class has the same accuracy with and without attacks, so its accuracy under attack
    means nothing. Such a network also classifies too few images correctly for the other checks.

    Returns:
        verdict: "passed" if the network is clearly more accurate, otherwise "warning".
        sentence: explanation of the verdict, with both accuracies.
    """
    correct, labels = it.evaluation.outcomes[NATURAL].correct == CORRECT, it.evaluation.y
    right, images = int(correct.sum()), len(labels)
    constant = max(1 / it.settings.classes, int(labels.bincount().max()) / images)
    return ("passed" if wilson(right, images)[0] > constant else "warning"), (
        f"The natural accuracy is {accuracy_words(right, images)}; a constant prediction is right on {100 * constant:.1f} %.")


def evaluation_mode(it: Inspection) -> tuple[Verdict, str]:
    """Look for modules in training mode, and for logits that depend on the other images of the batch.

    Returns:
        verdict: "passed" if neither is found, otherwise "failed".
        sentence: explanation of the verdict.
    """
    training = [name or "the network" for name, module in it.network.named_modules() if module.training]
    if training:
        return "failed", f"{len(training)} modules stay in training mode during the attacks, among them {training[0]}."
    together, again = it.logits(it.x), it.logits(it.x)
    if not torch.equal(together, again):
        return "passed", "Every module is in evaluation mode."
    few = torch.cat([it.logits(batch) for batch in it.x[:SMALL_BATCHES * SMALL_BATCH].split(SMALL_BATCH)])
    change = float((together[:len(few)] - few).abs().max() / together.abs().max().clamp(min=1e-30))
    if change > BATCH_ROUNDING:
        return "failed", f"Logits change by {change:.2g} of the largest one if the images come in small batches."
    return "passed", f"Every module is in evaluation mode; small batches change logits by {change:.1g} of the largest one."


def repeated_passes(it: Inspection) -> tuple[Verdict, str]:
    """Compare two forward passes on the same images, bit by bit.

    Returns:
        verdict: "failed" if any logits differ, otherwise "passed".
        sentence: explanation of the verdict, with the number of images whose logits differ.
    """
    one, other = it.logits(it.x), it.logits(it.x)
    different = int((one != other).any(1).sum())
    sentence = f"Two forward passes differ on {different} of {len(it.x)} images"
    return ("failed" if different else "passed"), f"{sentence}, by at most {float((one - other).abs().max()):.2g}."


def not_probabilities(it: Inspection) -> tuple[Verdict, str]:
    """Check that the network's outputs are logits, not probabilities.

    Returns:
        verdict: "failed" if, on every image, the outputs lie in 0..1 and sum to 1, otherwise "passed".
        sentence: explanation of the verdict, with the number of images with such outputs.
    """
    logits = it.logits(it.x)
    probable = ((logits >= 0) & (logits <= 1)).all(1) & ((logits.sum(1) - 1).abs() < 1e-4)
    count = int(probable.sum())
    return ("failed" if count == len(logits) else "passed"), (
        f"The outputs on {count} of {len(logits)} images lie in 0..1 and sum to 1.")


def logit_scale(it: Inspection) -> tuple[Verdict, str]:
    """Count correctly classified images whose gradient is exactly zero only because of the scale of the logits.

    The gradient of such an image is not zero if its logits are first scaled so that the largest exceeds the smallest by 10.

    Returns:
        verdict: "passed", "warning", "failed" or "skipped".
        sentence: explanation of the verdict, with the count.
    """
    x, y = it.x[it.right], it.y[it.right]
    if len(x) < FEWEST_RIGHT:
        return _too_few(len(x))
    plain, rescaled = (_zero(it.gradient(x, y, rescaled=rescaled)) for rescaled in (False, True))
    lost = int((plain & ~rescaled).sum())
    sentence = f"The gradient vanishes only because of the scale of the logits on {lost} of {len(x)} images"
    return graded(lost, len(x), warning=0, failed=0.1), f"{sentence} (largest logit {float(it.logits(x).abs().max()):.3g})."


def quantised_input(it: Inspection) -> tuple[Verdict, str]:
    """Look for logits that do not change at all when the image changes slightly, but do change when the image changes by epsilon.

    The slight change has a random sign at every pixel. It is tried at the natural images and at random points of their balls,
    because a pixel of an image may happen to be close to the threshold of a quantiser.

    Returns:
        verdict: "passed", "warning" or "failed".
        sentence: explanation of the verdict, with the number of images that have such logits.
    """
    noise, signs = (uniform([stable_seed(it.settings.seed, purpose, n) for n in range(len(it.x))], it.x) * 2 - 1
                    for purpose in ("quantised noise", "quantised signs"))
    size = it.settings.epsilon if it.settings.norm == LINF else it.settings.epsilon / sqrt(it.x[0].numel())
    far = (it.x + noise * size).clamp(0, 1)
    moved = (it.logits(it.x) != it.logits(far)).any(1)
    still = torch.stack([(it.logits(x) == it.logits(_inward(x, signs))).all(1) for x in (it.x, far)]).any(0)
    count = int((still & moved).sum())
    sentence = f"Changing every pixel by {SMALL_CHANGE:g} leaves the logits of {count} of {len(it.x)} images exactly as they were"
    return graded(count, len(it.x), warning=0, failed=0.1), f"{sentence}, but a change up to epsilon does not."


def gradients(it: Inspection) -> tuple[Verdict, str]:
    """Count correctly classified images whose gradient is exactly zero.

    Before the gradient is computed, the logits of each image are scaled so that the largest exceeds the smallest by 10.

    Returns:
        verdict: "passed", "warning", "failed" or "skipped".
        sentence: explanation of the verdict, with the count.
    """
    x, y = it.x[it.right], it.y[it.right]
    if len(x) < FEWEST_RIGHT:
        return _too_few(len(x))
    count = int(_zero(it.gradient(x, y, rescaled=True)).sum())
    return graded(count, len(x), warning=0, failed=0.1), (
        f"The gradient of the cross-entropy is exactly zero on {count} of {len(x)} correctly classified images.")


def epsilon_zero(it: Inspection) -> tuple[Verdict, str]:
    """Attack with radius 0, which must change neither images nor predictions.

    Returns:
        verdict: "failed" if an image or a prediction changes, otherwise "passed".
        sentence: explanation of the verdict, with the number of unchanged images.
    """
    attack = min(it.white_box, key=lambda attack: attack.passes(it.settings.classes).forward)
    x_adv = it.attack(replace(attack, steps=min(attack.steps, FEW_STEPS)), replace(it.settings, epsilon=0.0))
    changed = (x_adv != it.x).flatten(1).any(1)
    if attack.nearest:
        changed &= distance(x_adv, it.x, it.settings.norm) <= 1e-6
    logits = it.logits(it.x)
    recorded = it.evaluation.outcomes[NATURAL].columns["prediction"][it.positions].to(logits.device)
    count = int((changed | ((logits.argmax(1) != recorded) & ~tied(logits))).sum())
    return ("failed" if count else "passed"), (
        f"{attack.title} at epsilon 0 leaves {len(it.x) - count} of {len(it.x)} images and predictions as recorded.")


def huge_epsilon(it: Inspection) -> tuple[Verdict, str]:
    """Attack with a radius so large that the ball contains all images. Nearly all images must then be misclassified.

    Returns:
        verdict: "passed", "warning", "failed" or "skipped".
        sentence: explanation of the verdict, with the number of images that withstand the attack.
    """
    radius = 1.0 if it.settings.norm == LINF else sqrt(it.x[0].numel())
    if int(it.right.sum()) < FEWEST_RIGHT:
        return _too_few(int(it.right.sum()))
    x_adv = it.attack(ATTACKS["pgd-40"], replace(it.settings, epsilon=radius, step_size=radius / 10), it.right)
    standing = int((predictions(it.network, x_adv) == it.y[it.right]).sum())
    return graded(standing, len(x_adv), warning=0.05, failed=0.2), (
        f"PGD-40 at epsilon {radius:g} leaves {standing} of {len(x_adv)} images standing.")


def more_steps(it: Inspection) -> tuple[Verdict, str]:
    """Compare the accuracies under PGD with few steps and PGD with many steps.

    If the protocol has several PGD attacks, compare the attack with the fewest and the attack with the most steps, on all images
    of the evaluation. Otherwise run PGD-10 and PGD-40 on the subset of images that the inspection uses.

    Returns:
        verdict: "failed" or "warning" if clearly more images withstand the attack with many steps, otherwise "passed".
        sentence: explanation of the verdict, with the number of images that withstand each of the two attacks.
    """
    pgd = sorted((stage for stage in it.evaluation.stages.values()
                  if stage.attack and not stage.cascade and stage.attack.name == f"pgd-{stage.attack.steps}"),
                 key=lambda stage: stage.attack.steps if stage.attack else 0)
    if len(pgd) > 1:
        names, images = (pgd[0].name, pgd[-1].name), len(it.evaluation.y)
        few, many = (int((it.evaluation.outcomes[name].correct == CORRECT).sum()) for name in names)
    else:
        names, images = ("pgd-10", "pgd-40"), len(it.x)
        few, many = (int((predictions(it.network, it.attack(ATTACKS[name], it.settings)) == it.y).sum()) for name in names)
    excess = many - few
    verdict: Verdict = ("failed" if excess > max(3, 0.05 * images) else
                        "warning" if excess > max(1, 0.01 * images) else "passed")
    titles = [ATTACKS[name].title for name in names]
    return verdict, f"{few} of {images} images withstand {titles[0]}, and {many} withstand {titles[1]}."


def black_box(it: Inspection) -> tuple[Verdict, str]:
    """Count images that an attack without gradients breaks, although they withstand every attack with gradients.

    Returns:
        verdict: "passed", "warning", "failed" or "skipped".
        sentence: explanation of the verdict, with the count.
    """
    stages = [stage for stage in it.evaluation.stages.values() if stage.attack]
    black = [stage for stage in stages if stage.attack and is_black_box(stage.attack, it.settings.classes)]
    white = [stage for stage in stages if stage not in black]
    if not black or not white:
        return "skipped", "The protocol needs an attack with gradients and one without them."
    images = set.intersection(*(set(stage.positions.tolist()) for stage in (*black, *white)))
    fell = {kind: set().union(*(_fallen(it, stage) for stage in group)) & images
            for kind, group in (("black", black), ("white", white))}
    only = len(fell["black"] - fell["white"])
    titles = " or ".join(dict.fromkeys(stage.attack.title for stage in black if stage.attack))
    return graded(only, max(len(images), 1), warning=0.002, failed=0.02), (
        f"{only} of {len(images)} images fall to {titles} but withstand every attack with gradients.")


def kept_images(it: Inspection) -> tuple[Verdict, str]:
    """Check that the stored adversarial images are in the ball and in 0..1, and are predicted as recorded.

    Returns:
        verdict: "failed" if an image is outside or a prediction differs, otherwise "passed".
        sentence: explanation of the verdict, with the number of images outside and the number of different predictions.
    """
    evaluation, outside, different, total = it.evaluation, 0, 0, 0
    where = evaluation.sample.to(evaluation.y.device)
    natural = evaluation.x[where]
    for name, stage in evaluation.stages.items():
        covered = torch.isin(evaluation.sample, stage.positions)
        x_adv = it.kept[name].to(natural.device)[covered]
        if not len(x_adv):
            continue
        far = distance(x_adv, natural[covered], it.settings.norm) > (it.settings.epsilon if stage.attack else 0) + 1e-6
        columns = {key: column[evaluation.sample][covered].to(x_adv.device)
                   for key, column in evaluation.outcomes[name].columns.items()}
        if stage.attack and stage.attack.nearest:
            far &= columns["correct"] == WRONG
        outside += int((far | (x_adv.flatten(1).amin(1) < 0) | (x_adv.flatten(1).amax(1) > 1)).sum())
        logits = it.logits(x_adv)
        different += int(((logits.argmax(1) != columns["prediction"]) & ~tied(logits)).sum())
        total += len(x_adv)
    return ("failed" if outside or different else "passed"), (
        f"Of {total} images read back, {outside} are outside the ball or 0..1, and {different} are not predicted as recorded.")


def _too_few(right: int) -> tuple[Verdict, str]:
    return "skipped", f"The network classifies {right} images of the subset correctly, and the check needs {FEWEST_RIGHT}."


def _zero(gradient: Tensor) -> Tensor:
    """Return a bool [n] that is True for images whose gradient is exactly zero at every pixel. `gradient` is [n, C, H, W]."""
    return (gradient == 0).flatten(1).all(1)


def _inward(x: Tensor, signs: Tensor) -> Tensor:
    """Return x with every pixel changed by `SMALL_CHANGE`.

    `signs` gives the direction of the change. The opposite direction is taken where the pixel would otherwise leave 0..1.
    """
    step = SMALL_CHANGE * signs.sign()
    return torch.where((x + step < 0) | (x + step > 1), x - step, x + step)


def _fallen(it: Inspection, stage: Stage) -> set[int]:
    """Return the positions of the images that an attack breaks: correctly classified without the attack, misclassified under it.

    Args:
        it: the inspection.
        stage: the part of the evaluation in which the attack ran.
    """
    right = it.evaluation.outcomes[NATURAL].correct == CORRECT
    wrong = it.evaluation.outcomes[stage.name].correct == WRONG
    return set((right & wrong).nonzero().flatten().tolist())


_DETERMINISTIC = ("evaluation-mode", "repeated-passes")
_DIFFERENTIABLE = (*_DETERMINISTIC, "not-probabilities", "logit-scale", "quantised-input", "gradients")

CHECKS: dict[str, Check] = {check.name: check for check in (
    Check("above-chance", "Better than guessing",
          "The interval of the natural accuracy reaches down to the accuracy of a network that always predicts the same class.",
          "Train the network first: accuracy under attack says nothing about a network that guesses.", above_chance),
    Check("evaluation-mode", "Evaluation mode",
          "A module stays in training mode during the attacks, or the logits of an image depend on the rest of its batch.",
          "Put every module into evaluation mode, so that BatchNorm uses its running statistics and nothing is dropped.",
          evaluation_mode),
    Check("repeated-passes", "Two passes agree",
          "Two forward passes on the same images give logits that differ in any bit.",
          "Remove the randomness, or evaluate the expected logits with an attack that averages over many passes.",
          repeated_passes, ("evaluation-mode",)),
    Check("not-probabilities", "Logits, not probabilities",
          "The outputs of all images lie in 0..1 and sum to 1.",
          "Remove the softmax at the end of the network and attack the logits.", not_probabilities, _DETERMINISTIC),
    Check("logit-scale", "Scale of the logits",
          "The gradient of the cross-entropy vanishes on some images, but not if the logits are scaled down.",
          "Divide the logits by a constant before attacking; predictions stay the same.", logit_scale,
          (*_DETERMINISTIC, "not-probabilities")),
    Check("quantised-input", "Smooth in the input",
          "Tiny changes of an image leave its logits exactly unchanged, as if the network rounded its input.",
          "Attack with the gradient of a smooth replacement of the rounding (BPDA), and add attacks without gradients.",
          quantised_input, (*_DETERMINISTIC, "not-probabilities")),
    Check("gradients", "Gradients",
          "The gradient of the cross-entropy is exactly zero on some correctly classified images, whatever the logits' scale.",
          "Find the layer that stops the gradient and replace it by a smooth one for the attack.", gradients,
          (*_DETERMINISTIC, "not-probabilities", "quantised-input")),
    Check("epsilon-zero", "Epsilon 0 changes nothing",
          "An attack at radius 0 changes an image, or a prediction differs from the recorded natural one.",
          "Do not use these figures: the images or the network differ from those recorded. Report the error.", epsilon_zero,
          _DETERMINISTIC),
    Check("huge-epsilon", "Huge epsilon breaks nearly all",
          "More than 5 % of the correctly classified images withstand PGD-40 in a ball that holds every image.",
          "Look for masked gradients: plot the loss along the gradient, and add attacks without gradients.", huge_epsilon,
          _DIFFERENTIABLE),
    Check("more-steps", "More steps are not weaker",
          "PGD with more steps leaves more images standing than with fewer, by more than one image and 1 % of the images.",
          "Try a smaller step size and several restarts, or use APGD, which adapts its step size.", more_steps, _DIFFERENTIABLE),
    Check("black-box", "No gain without gradients",
          "More than 0.2 % of the images fall to an attack without gradients but withstand every attack with gradients.",
          "Suspect masked gradients: use more steps and restarts, another loss, or more queries, until the figure stays.",
          black_box, _DIFFERENTIABLE),
    Check("kept-images", "Kept images confirm the outcomes",
          "An adversarial image read back from disk is outside the ball or 0..1, or is not predicted as recorded.",
          "Do not use these figures: the stored images do not support them. Report the error.", kept_images, _DETERMINISTIC),
    Check("planted", "Planted adversarial examples",
          "The attacks of the protocol find fewer than 95 % of adversarial examples that certainly exist.",
          "Use a stronger protocol: more steps, restarts, or AutoAttack.", planted, _DIFFERENTIABLE),
)}
