"""The contract of `engine.search.method.SearchMethod`, run against every registered search method.

Two steps on the supernet of its smoke preset and eight random images. A new method is tested by being registered.
"""

from __future__ import annotations

import copy
import io
import json
import os
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

from engine.architecture.genotype import Genotype
from engine.architecture.placement import RULES
from engine.config import SearchConfig
from engine.configuring import build
from engine.data.dataset import ChannelStatistics
from engine.errors import CheckpointError, StopRequested
from engine.search.construction import method_class, supernet_of
from engine.search.method import SearchMethod, StepReport
from engine.search.methods.registry import METHODS
from engine.search.registries import WEIGHTINGS, AddedObjective

DEVICE = torch.device(os.environ.get("RAMPART_TEST_DEVICE", "cpu"))
CLASSES, IMAGE_SHAPE, BATCH = 10, (1, 8, 8), 8
EPOCHS = 2


def make(name: str, seed: int = 7, epoch: int = EPOCHS - 1, **changes: Any) -> SearchMethod:
    """A fresh search of method `name` on the smallest supernet there is, about to begin `epoch`."""
    short = {field: 1 for field in ("attack_steps", "ranking_steps", "candidates") if field in METHODS[name].config.model_fields}
    config = build("search", name, "digits", "smoke", short | {"layers": 4, "epochs": EPOCHS} | changes)
    supernet = supernet_of(name, config, classes=CLASSES, image_shape=IMAGE_SHAPE,
                          statistics=ChannelStatistics((0.3,), (0.4,)) if config.normalise else None)
    supernet.use_backends(supernet.backends(DEVICE.type))
    method = method_class(name)(config, supernet, device=DEVICE, dtype=torch.float32, seed=seed)
    method.begin_epoch(epoch)
    return method


def arguments(number: int, method: SearchMethod) -> dict[str, Any]:
    """The arguments of step `number` of a method: the same each time they are asked for."""
    generator = torch.Generator().manual_seed(number)
    x, xs = (torch.rand(BATCH, *IMAGE_SHAPE, generator=generator).to(DEVICE) for _ in range(2))
    y, ys = (torch.randint(CLASSES, (BATCH,), generator=generator).to(DEVICE) for _ in range(2))
    given = {"train_batch": (x, y), "alpha_batch": (xs, ys), "learning_rate": 0.025,
             "generator": torch.Generator().manual_seed(100 + number)}
    if method.config.out_of_distribution:
        given["out_of_distribution"] = torch.rand(BATCH, *IMAGE_SHAPE, generator=generator).to(DEVICE)
    return given


def saved(method: SearchMethod) -> dict[str, Any]:
    """A copy of the state that later steps cannot reach."""
    return copy.deepcopy(method.state_dict())


def assert_equal(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Bit for bit."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, right[name]), name
        else:
            assert value == right[name], name


class StopAt:
    """A poll that asks for a stop at its n-th call (from 1); without n it only counts."""

    def __init__(self, n: int | None = None) -> None:
        self.n, self.calls = n, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.n:
            raise StopRequested


@pytest.fixture(params=list(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["first epoch", "last epoch"])
def epoch(request: pytest.FixtureRequest) -> int:
    """A method of several stages is in another one in its last epoch than in its first."""
    return 0 if request.param == "first epoch" else EPOCHS - 1


def is_measuring(method: SearchMethod) -> bool:
    """Return True if the method's epoch measures a fully trained network."""
    position, epochs = method.config.training_epoch(method.epoch)
    return position == epochs


def moved_by(method: SearchMethod, alphas_rest: bool) -> set[str]:
    """Which vectors a step of the method's epoch must move. Without a supernet there are no alphas."""
    if method.config.on_supernet:
        return {"weights", "buffers"} | (set() if alphas_rest else {"alphas"})
    return set() if is_measuring(method) else {"weights", "buffers"}


class TestEveryMethod:
    def test_two_steps_move_alphas_weights_and_buffers_and_nothing_else(self, name: str, epoch: int) -> None:
        method = make(name, epoch=epoch)
        vectors = [one for one in ("weights", "alphas", "buffers") if getattr(method, one) is not None]
        assert ("alphas" in vectors) == method.config.on_supernet
        first, before = saved(method), {one: getattr(method, one).clone() for one in vectors}
        for number in (1, 2):
            poll = StopAt()
            report = method.step(**arguments(number, method), poll=poll)
            assert poll.calls == report.passes == method.passes_per_step
            assert method.activity
            self.check_report(method, report)
        assert method.steps == 2
        rests = method.config.on_supernet and not report.names  # a warm-up
        assert not (rests and epoch == EPOCHS - 1), "alphas must move in the last epoch"
        for one, old in before.items():
            new = getattr(method, one)
            assert old.shape == new.shape and new.isfinite().all() and not new.requires_grad
            assert torch.equal(old, new) == (one not in moved_by(method, rests)), one
        with pytest.raises(AssertionError):
            assert_equal(first, {**method.state_dict(), "steps": 0})

    @staticmethod
    def check_report(method: SearchMethod, report: StepReport) -> None:
        m, on_supernet, trains = len(report.names), method.config.on_supernet, not is_measuring(method)
        assert len(report.losses) == m
        for values in (report.coefficients, report.weights, report.norms, report.raw_norms, report.cosines):
            assert len(values) == (m if on_supernet else 0)
        if m and on_supernet and WEIGHTINGS[getattr(method.config, "weighting", "mgda")].on_simplex:
            assert all(weight >= 0 for weight in report.weights)
            assert sum(report.weights) == pytest.approx(1)
        for i, row in enumerate(report.cosines):
            assert row[i] == pytest.approx(1 if report.norms[i] else 0)
            assert all(-1 - 1e-9 <= cosine <= 1 + 1e-9 for cosine in row)
        on_alphas = (report.natural_accuracy, report.adversarial_accuracy)
        assert (on_alphas != (None, None)) == (m > 0) and (on_supernet or (m == 0) == trains)
        for accuracy in (*on_alphas, report.train_accuracy, report.train_adversarial_accuracy):
            assert accuracy is None or 0 <= accuracy <= 1
        assert (report.train_accuracy is not None) == (report.train_loss is not None) == trains
        json.dumps(vars(report), allow_nan=False)  # plain numbers, all finite

    def test_equal_seeds_give_equal_searches(self, name: str, epoch: int) -> None:
        one, two, other = make(name, epoch=epoch), make(name, epoch=epoch), make(name, seed=8, epoch=epoch)
        assert_equal(one.state_dict(), two.state_dict())
        assert not torch.equal(one.weights, other.weights)
        assert one.step(**arguments(1, one)) == two.step(**arguments(1, two))
        assert_equal(one.state_dict(), two.state_dict())

    def test_global_random_state_is_neither_used_nor_changed(self, name: str) -> None:
        one, two = make(name), make(name)
        torch.manual_seed(1)
        before = torch.get_rng_state()
        one.step(**arguments(1, one))
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(2)
        two.step(**arguments(1, two))
        assert_equal(one.state_dict(), two.state_dict())

    def test_resumed_equals_uninterrupted(self, name: str, epoch: int) -> None:
        uninterrupted = make(name, epoch=epoch)
        uninterrupted.step(**arguments(1, uninterrupted))
        file = io.BytesIO()
        torch.save(uninterrupted.state_dict(), file)
        file.seek(0)
        resumed = make(name, seed=99, epoch=epoch)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        assert_equal(resumed.state_dict(), uninterrupted.state_dict())
        assert resumed.step(**arguments(2, resumed)) == uninterrupted.step(**arguments(2, uninterrupted))
        assert_equal(resumed.state_dict(), uninterrupted.state_dict())

    @pytest.mark.parametrize("name", [name for name in METHODS if "added_objectives" in METHODS[name].config.model_fields])
    def test_with_everything_added_a_stopped_and_resumed_search_equals_an_uninterrupted_one(self, name: str) -> None:
        everything = dict(deviating_values(METHODS[name].config))["added_objectives"]  # the last of them
        assert len(everything) > 1
        one, two = (make(name, seed=seed, added_objectives=everything, unrolled=False) for seed in (7, 8))
        one.step(**arguments(1, one))
        two.load_state_dict(saved(one))
        with pytest.raises(StopRequested):
            two.step(**arguments(2, two), poll=StopAt(two.passes_per_step))
        assert two.step(**arguments(2, two)) == one.step(**arguments(2, one))
        assert_equal(two.state_dict(), one.state_dict())

    def test_stop_at_any_poll_leaves_the_state_and_the_step_can_be_repeated(self, name: str, epoch: int) -> None:
        method = make(name, epoch=epoch)
        method.step(**arguments(1, method))  # so that moments and momentum are not zero
        before, twin = saved(method), make(name, epoch=epoch)
        twin.load_state_dict(before)
        for n in range(1, method.passes_per_step + 1):
            with pytest.raises(StopRequested):
                method.step(**arguments(2, method), poll=StopAt(n))
            assert_equal(method.state_dict(), before)
        assert method.step(**arguments(2, method)) == twin.step(**arguments(2, twin))
        assert_equal(method.state_dict(), twin.state_dict())

    def test_batches_are_left_as_they_were(self, name: str) -> None:
        method = make(name)
        given, untouched = arguments(1, method), arguments(1, method)
        method.step(**given)
        for batch in ("train_batch", "alpha_batch"):
            for tensor, original in zip(given[batch], untouched[batch], strict=True):
                assert torch.equal(tensor, original) and not tensor.requires_grad

    def test_only_the_end_of_an_epoch_adds_candidates_and_only_where_there_is_no_supernet(self, name: str) -> None:
        method = make(name, epoch=0)
        for epoch in range(EPOCHS):
            method.begin_epoch(epoch)
            method.step(**arguments(epoch, method))
            assert method.candidates == ()
            method.end_epoch()
        assert (method.candidates == ()) == METHODS[name].config.on_supernet
        for one in method.candidates:
            assert 0 <= one.adversarial_correct <= one.images == BATCH and 0 <= one.natural_correct <= BATCH
            assert one.genotype == method.genotype()

    def test_genotype_is_valid_and_has_the_cell_kinds(self, name: str) -> None:
        method = make(name)
        method.step(**arguments(1, method))
        genotype = method.genotype()
        assert sorted(genotype.kinds) == sorted(method.cell_kinds)
        assert Genotype.from_json(genotype.to_json()) == genotype

    def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(self, name: str) -> None:
        method, larger = make(name), make(name, channels=16)
        before = saved(method)
        incomplete = [{key: value for key, value in before.items() if key != missing} for missing in before]
        for foreign in (larger.state_dict(), *incomplete, {}, before | {"steps": "many"}, before | {"layout": "unknown"}):
            with pytest.raises(CheckpointError):
                method.load_state_dict(foreign)
            assert_equal(method.state_dict(), before)

    def test_every_deviation_shows_in_the_name(self, name: str) -> None:
        base = METHODS[name].config
        assert build("search", name, preset="paper").deviations() == []
        for field, value in deviating_values(base):
            bare, config = (build("search", name, "digits", "paper", something_to_weigh(base, field) | changes)
                            for changes in ({}, {field: value}))
            assert config.deviations() != bare.deviations(), f"{field} = {value} is a deviation and must show"
            assert str(base.model_fields[field].description).startswith("Differs"), field
        seen = [tuple(build("search", name, "digits", "paper", something_to_weigh(base, f) | {f: v}).deviations())
                for f, v in deviating_values(base)]
        assert len(set(seen)) == len(seen), "two deviations must not share a name"

    @pytest.mark.parametrize(("name", "inherited"), [
        *((name, False) for name in METHODS),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("advrush", "pcdarts"))])
    def test_every_deviation_runs(self, name: str, inherited: bool) -> None:
        """AdvRush and PC-DARTS have the switches of DARTS, which are slow tests of theirs, and some of their own."""
        of_darts = {field for field, _ in deviating_values(METHODS["darts"].config)} if name in ("advrush", "pcdarts") else set()
        for field, value in deviating_values(METHODS[name].config):
            if (field in of_darts) != inherited:
                continue
            method = make(name, **{field: value})
            report = method.step(**arguments(1, method))
            assert report.passes == method.passes_per_step
            self.check_report(method, report)

    def test_every_position_rule_and_width_ratio_runs_under_a_name_of_its_own(self, name: str) -> None:
        fields = METHODS[name].config.model_fields
        own = RULES[fields["placement"].default]
        assert sorted(own.kinds) == sorted(method_class(name).cell_kinds), "the default is the rule of the method's own cells"
        names = []
        for placement, ratio in zip(RULES, ("1:1:1", "1:2:4", "1:3:2", "1:2:2", "1:1:2", "1:4:1"), strict=True):
            method = make(name, placement=placement, width_ratio=ratio)
            assert sorted(method.supernet.kinds) == sorted(RULES[placement].kinds)
            widths = [cell.channels // method.config.channels for cell in method.supernet.cells]
            assert widths == [int(ratio.split(":")[third]) for third in (0, 1, 2, 2)]
            self.check_report(method, method.step(**arguments(1, method)))
            assert sorted(method.genotype().kinds) == sorted(RULES[placement].kinds)
            config = build("search", name, "digits", "paper", {"placement": placement, "width_ratio": ratio})
            changed = (placement != fields["placement"].default) + (ratio != fields["width_ratio"].default)
            assert len(config.deviations()) == changed
            names.append(tuple(config.deviations()))
        assert len(set(names)) == len(names)

    def test_the_stage_is_one_short_line_and_reported(self, name: str, epoch: int) -> None:
        method = make(name, epoch=epoch)
        assert method.step(**arguments(1, method)).stage == method.stage
        assert len(method.stage) < 80 and "\n" not in method.stage


def something_to_weigh(cls: type[SearchConfig], field: str) -> dict[str, Any]:
    """Values without which a switch of the weighting has no effect, and is not named: of one objective nothing is weighed."""
    if field not in ("weighting", "gradient_normalisation") or "weighting" not in cls.model_fields:
        return {}
    values = {} if cls.weighs({}) else {"added_objectives": ("curvature",)}
    return values | ({"weighting": "mgda"} if field == "gradient_normalisation" else {})


def deviating_values(cls: type[SearchConfig]) -> list[tuple[str, Any]]:
    """Every (field, value) of the group "Deviations" that is not the published one."""
    pairs: list[tuple[str, Any]] = []
    for field, info in cls.model_fields.items():
        if (info.json_schema_extra or {}).get("group") != "Deviations":
            continue
        if info.annotation is bool:
            pairs.append((field, not info.default))
        elif info.annotation is float:
            pairs.append((field, info.default + 0.5))
        elif get_origin(info.annotation) is tuple:
            names = get_args(get_args(info.annotation)[0])
            pairs += [(field, value) for value in dict.fromkeys([*((name,) for name in names), names])]
        else:
            assert get_origin(info.annotation) is Literal, f"{field}: a switch is a bool, a weight, a choice or several"
            pairs += [(field, choice) for choice in get_args(info.annotation) if choice != info.default]
    return pairs


def exchanged(method: SearchMethod, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state in which the accurate and the robust cell have exchanged their alphas."""
    kinds = method.supernet.kinds
    order = [kinds.index({"accurate": "robust", "robust": "accurate"}.get(kind, kind)) for kind in kinds]
    size = method.alphas.numel()
    of_alphas = {name for name, value in state.items()
                 if isinstance(value, Tensor) and name != "weights" and value.numel() == size}
    return {name: value.reshape(len(kinds), -1)[order].flatten() if name in of_alphas else value for name, value in state.items()}


OBJECTIVE_SETS = [(), ("out_of_distribution", "one_step"), ("parameter_share", "mac_share", "curvature")]


@pytest.mark.parametrize("method", [name for name in METHODS if "accurate" in method_class(name).cell_kinds
                                    and METHODS[name].config.on_supernet])
@pytest.mark.parametrize("added", OBJECTIVE_SETS)
def test_accurate_and_robust_are_labels_of_positions(method: str, added: tuple[str, ...]) -> None:
    """No objective treats the kinds of cells differently: robust cells first is accurate cells first with exchanged names.

    The question on placement says so, and that a search with one kind everywhere stands for accurate and robust everywhere.
    """
    assert set().union(*OBJECTIVE_SETS) == set(get_args(AddedObjective))
    first, second = (make(method, placement=placement, layers=6, added_objectives=added)
                     for placement in ("accurate_first", "robust_first"))
    second.load_state_dict(exchanged(first, saved(first)))
    for one in (first, second):
        one.step(**arguments(1, one))
    left, right = exchanged(first, saved(first)), saved(second)
    for name, value in left.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(value, right[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(left["alphas"], saved(first)["alphas"])
