"""Random search: the drawn architectures, a candidate's steps against plain PyTorch, its measurement and its rank."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS, NONE, PRIMITIVES
from engine.configuring import build
from engine.data.dataset import ChannelStatistics
from engine.errors import ConfigError, RunError
from engine.run.loop_search import learning_rate
from engine.search.candidates import Candidate, ranked
from engine.search.construction import supernet_of
from engine.search.methods.random_search.config import RandomSearchConfig
from engine.search.methods.random_search.method import RandomSearch
from engine.search.methods.random_search.sampling import random_genotype
from engine.space.network import Network
from tests.engine.search.functional_networks import DEVICE

IMAGE = (1, 8, 8)
SMALL: dict[str, Any] = {"channels": 4, "layers": 4, "candidates": 3, "epochs": 9, "attack_steps": 2, "ranking_steps": 3,
                         "epsilon": 0.1, "step_size": 0.04, "start_noise": 0.02}
TRAINING, MEASURING = (0, 1), 2  # epochs of the first candidate


def make(seed: int = 3, **changes: Any) -> RandomSearch:
    config = RandomSearchConfig(**(SMALL | changes))
    supernet = supernet_of("random_search", config, classes=3, image_shape=IMAGE,
                           statistics=ChannelStatistics((0.3,), (0.4,)) if config.normalise else None)
    return RandomSearch(config, supernet, device=DEVICE, dtype=torch.float64, seed=seed)


def batches(seed: int, size: int = 8) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(size, *IMAGE, generator=generator, dtype=torch.float64).to(DEVICE),
                  torch.randint(3, (size,), generator=generator).to(DEVICE)) for _ in range(2))


def noise(seed: int, scale: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one = scale * (2 * torch.rand(8, *IMAGE, generator=generator, dtype=torch.float64) - 1).to(DEVICE)
    return one, one


def drawn(kinds: tuple[str, ...], count: int) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    return [random_genotype(kinds, generator) for _ in range(count)]


# How architectures are drawn


@pytest.fixture(scope="module")
def genotypes() -> list[Any]:
    return drawn(KINDS_OF_DARTS, 3000)


@pytest.mark.parametrize("kinds", [KINDS_OF_DARTS, KINDS_OF_ARNAS])
def test_every_node_has_two_different_inputs_in_order_and_no_edge_is_none(kinds: tuple[str, ...]) -> None:
    for genotype in drawn(kinds, 200):
        assert genotype.kinds == tuple(sorted(kinds))
        for _, cell in genotype.cells:
            assert cell.concat == (2, 3, 4, 5) and len(cell.edges) == 8
            for first, second in zip(cell.edges[::2], cell.edges[1::2], strict=True):
                assert first[1] < second[1]
            assert NONE not in {operation for operation, _ in cell.edges}


@pytest.mark.parametrize("node", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", KINDS_OF_DARTS)
def test_a_node_and_its_operations_are_uniform(genotypes: list[Any], kind: str, node: int) -> None:
    edges = [genotype.cell(kind).edges[2 * (node - 2):2 * (node - 1)] for genotype in genotypes]
    pairs = Counter(tuple(state for _, state in two) for two in edges)
    assert set(pairs) == set(itertools.combinations(range(node), 2))
    assert node == 2 or chisquare(list(pairs.values())).pvalue > 1e-3
    operations = Counter(tuple(operation for operation, _ in two) for two in edges)
    assert set(operations) == set(itertools.product(PRIMITIVES, repeat=2))
    assert chisquare(list(operations.values())).pvalue > 1e-3
    jointly = Counter((states, two[0][0]) for two in edges for states in [tuple(state for _, state in two)])
    assert len(jointly) == len(pairs) * 7 and chisquare(list(jointly.values())).pvalue > 1e-3


def test_choices_of_different_nodes_and_cells_are_independent(genotypes: list[Any]) -> None:
    places = [("normal", 0), ("normal", 5), ("reduce", 0), ("reduce", 7)]
    for (kind, edge), (other, other_edge) in itertools.combinations(places, 2):
        seen = Counter((genotype.cell(kind).edges[edge][0], genotype.cell(other).edges[other_edge][0]) for genotype in genotypes)
        assert len(seen) == 49 and chisquare(list(seen.values())).pvalue > 1e-3


# A candidate's life


class PlainCandidate:
    """The short training and the measurement with torch.optim and the network's own modules."""

    def __init__(self, network: Network, config: RandomSearchConfig) -> None:
        self.network, self.config = network, config
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=config.momentum, weight_decay=config.weight_decay)

    def logits(self, x: Tensor) -> Tensor:
        network = self.network
        before_last = last = network.stem((x - network.mean[:, None, None]) / network.std[:, None, None])
        for cell in network.cells:
            before_last, last = last, cell(before_last, last, 0.0, None)
        return network.classifier(last.mean(dim=(2, 3)))

    def attacked(self, x: Tensor, y: Tensor, start: Tensor, step: float, steps: int) -> Tensor:
        self.network.eval()
        x_adv = start
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_()
            gradient = torch.autograd.grad(F.cross_entropy(self.logits(x_adv), y), x_adv)[0]
            moved = (x_adv + step * gradient.sign()).detach()
            x_adv = torch.clamp(moved, x - self.config.epsilon, x + self.config.epsilon).clamp(0, 1)
        return x_adv.detach()

    def train(self, x: Tensor, y: Tensor, added: Tensor, rate: float) -> tuple[float, float, float]:
        self.network.train()
        natural = (self.logits(x).argmax(1) == y).double().mean().item()
        x_adv = self.attacked(x, y, x + added, self.config.step_size, self.config.attack_steps)
        self.network.train()
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        logits = self.logits(x_adv)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        return loss.item(), natural, (logits.argmax(1) == y).double().mean().item()

    def correct(self, x: Tensor, y: Tensor, added: Tensor) -> tuple[int, int]:
        self.network.eval()
        start = torch.clamp(x + added, x - self.config.epsilon, x + self.config.epsilon).clamp(0, 1)
        x_adv = self.attacked(x, y, start, self.config.epsilon / 4, self.config.ranking_steps)
        with torch.no_grad():
            return tuple(int((self.logits(images).argmax(1) == y).sum()) for images in (x, x_adv))  # type: ignore[return-value]


def plain_twin(search: RandomSearch) -> PlainCandidate:
    """Return the plain counterpart of the first candidate before its first step."""
    config = search.config
    network = Network(search.genotype(), channels=config.channels, layers=config.layers, classes=3, image_shape=IMAGE,
                      placement=config.placement, width_ratio=config.width_ratio,
                      mean=(0.3,) if config.normalise else None, std=(0.4,) if config.normalise else None)
    network = network.to(DEVICE, torch.float64)
    assert search.weights.numel() == sum(parameter.numel() for parameter in network.parameters())
    nn.utils.vector_to_parameters(search.weights.clone(), network.parameters())
    return PlainCandidate(network, config)


@pytest.mark.parametrize("changes", [{}, {"gradient_clip": 0.05},
                                     {"placement": "normal", "width_ratio": "1:2:4", "normalise": True}])
def test_training_and_measuring_are_those_of_a_plain_transcription(changes: dict[str, Any]) -> None:
    search = make(**changes)
    plain = plain_twin(search)
    for number, epoch in enumerate((0, 0, 1)):
        search.begin_epoch(epoch)
        (x, y), alphas = batches(number)
        added = noise(number, 0.02)
        rate = learning_rate(search.config, epoch)
        report = search.step((x, y), alphas, learning_rate=rate, noise=added)
        told = (report.train_loss, report.train_accuracy, report.train_adversarial_accuracy)
        assert told == pytest.approx(plain.train(x, y, added[0], rate), abs=1e-9)
    torch.testing.assert_close(search.weights, nn.utils.parameters_to_vector(plain.network.parameters()).detach(),
                               rtol=1e-9, atol=1e-11)
    trained, counts = search.weights, (0, 0)
    search.begin_epoch(MEASURING)
    for number in (7, 8):
        weights_batch, (x, y) = batches(number)
        added = noise(number, 0.1)
        report = search.step(weights_batch, (x, y), learning_rate=1.0, noise=added)
        now = plain.correct(x, y, added[1])
        assert (report.natural_accuracy, report.adversarial_accuracy) == (now[0] / 8, now[1] / 8)
        counts = (counts[0] + now[0], counts[1] + now[1])
    search.end_epoch()
    assert [(one.natural_correct, one.adversarial_correct, one.images) for one in search.candidates] == [(*counts, 16)]
    assert search.weights is trained and search.genotype() == search.candidates[0].genotype


def test_starts_are_drawn_as_the_settings_say() -> None:
    for epoch, expected in ((0, 0.02 * torch.randn(8, *IMAGE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)),
                            (2, 0.1 * (2 * torch.rand(8, *IMAGE, generator=torch.Generator().manual_seed(5),
                                                      dtype=torch.float64) - 1))):
        one, two = make(), make()
        for search in (one, two):
            search.begin_epoch(epoch)
        reports = (one.step(*batches(1), learning_rate=0.1, generator=torch.Generator().manual_seed(5)),
                   two.step(*batches(1), learning_rate=0.1, noise=(expected, expected)))
        assert reports[0] == reports[1] and torch.equal(one.weights, two.weights)


def test_a_step_of_the_wrong_batch_reads_nothing_of_it() -> None:
    nonsense = (torch.full((8, *IMAGE), float("nan"), dtype=torch.float64, device=DEVICE), torch.full((8,), 99, device=DEVICE))
    search = make()
    search.step(batches(0)[0], nonsense, learning_rate=0.1, noise=noise(0, 0.02))
    search.begin_epoch(MEASURING)
    search.step(nonsense, batches(0)[1], learning_rate=0.1, noise=noise(0, 0.1))


def test_candidates_begin_alike_and_do_not_depend_on_how_many_there_are() -> None:
    three, one = make(), make(candidates=1, epochs=3)
    first = three.weights
    assert torch.equal(first, one.weights)
    found = []
    for search in (three, one):
        for epoch in range(search.config.epochs):
            search.begin_epoch(epoch)
            if epoch == 3:
                before = search.weights
            search.step(*batches(epoch), learning_rate=0.05, noise=noise(epoch, 0.02))
            if epoch == 3:  # the second candidate's first step started from weights of its own
                assert search.weights.shape != before.shape or not torch.equal(search.weights, before)
            search.end_epoch()
        found.append(search.candidates)
    assert found[0][0] == found[1][0] and [one.number for one in found[0]] == [1, 2, 3]
    assert len({one.genotype.hash for one in found[0]}) == 3
    stem = IMAGE[0] * 9 * 3 * 4  # the stem comes first in every network
    beginnings = [make()._fresh_network(3, candidate).weights()[:stem] for candidate in range(3)]
    assert all(torch.equal(beginning, first[:stem]) for beginning in beginnings)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    search = make()
    before = search.state_dict()
    with pytest.raises(RunError, match="finite"):
        search.step(*batches(0), learning_rate=float("inf"), noise=noise(0, 0.02))
    assert all(value is before[name] or value == before[name] for name, value in search.state_dict().items())


def test_stage_tells_candidate_epoch_and_the_best_so_far() -> None:
    search, seen = make(ranking="natural"), []
    for epoch in range(4):
        search.begin_epoch(epoch)
        search.step(*batches(epoch), learning_rate=0.05, noise=noise(epoch, 0.02))
        seen.append(search.stage)
        search.end_epoch()
    best = search.candidates[0].natural_accuracy
    assert seen == ["Candidate 1 of 3, epoch 1 of 2", "Candidate 1 of 3, epoch 2 of 2", "Candidate 1 of 3, measuring",
                    f"Candidate 2 of 3, epoch 1 of 2; best so far {100 * best:.1f} % natural "
                    "on the select split"]


# Rank


def test_the_order_is_by_the_chosen_accuracy_then_the_other_then_by_number() -> None:
    genotype = drawn(KINDS_OF_DARTS, 1)[0]
    dice = random.Random(0)
    for _ in range(50):
        candidates = [Candidate(number, genotype, 4, dice.randint(0, 4), dice.randint(0, 4)) for number in range(1, 9)]
        for by, first, second in (("adversarial", "adversarial_correct", "natural_correct"),
                                  ("natural", "natural_correct", "adversarial_correct")):
            found = ranked(candidates, by)  # type: ignore[arg-type]
            assert sorted(one.number for one in found) == list(range(1, 9))
            for better, worse in itertools.combinations(found, 2):
                pairs = [(getattr(one, first), getattr(one, second)) for one in (better, worse)]
                assert pairs[0] > pairs[1] or pairs[0] == pairs[1] and better.number < worse.number
        assert ranked(candidates[::-1], "none") == candidates


@pytest.mark.parametrize(("ranking", "winner"), [("adversarial", 2), ("natural", 3), ("none", 1)])
def test_the_result_is_the_best_candidate_of_the_chosen_ranking(ranking: str, winner: int) -> None:
    search = make(ranking=ranking)
    kinds = search.supernet.kinds
    three = drawn(kinds, 3)
    records = [{"number": number, "genotype": genotype.to_json(), "images": 9, "natural_correct": natural,
                "adversarial_correct": adversarial}
               for number, genotype, natural, adversarial in zip((1, 2, 3), three, (5, 6, 8), (2, 4, 3), strict=True)]
    search.load_state_dict(search.state_dict() | {"candidates": records})
    assert search.genotype() == three[winner - 1]


# At the door


def test_epochs_are_shared_equally_or_refused() -> None:
    config = build("search", "random_search", "digits", "smoke")
    assert [config.training_epoch(epoch) for epoch in range(4)] == [(0, 1), (1, 1), (0, 1), (1, 1)]
    assert learning_rate(config, 0) == learning_rate(config, 2) == config.weights_learning_rate
    config = build("search", "random_search", "digits", "smoke", {"candidates": 2, "epochs": 10})
    rates = [learning_rate(config, epoch) for epoch in range(10)]
    assert rates[:5] == rates[5:] and rates[:5] == sorted(rates[:5], reverse=True)
    assert rates[4] == pytest.approx(config.weights_learning_rate_min)
    for epochs, advice in ((7, "use 6 or 9"), (3, "use 6 or 9"), (11, "use 9 or 12")):
        with pytest.raises(ConfigError, match=f"multiple of the 3 candidates.*{advice}"):
            build("search", "random_search", "digits", "smoke", {"candidates": 3, "epochs": epochs})


def test_what_is_drawn_and_counted_shows_in_the_name() -> None:
    assert build("search", "random_search", preset="paper").deviations() == []
    names = [tuple(build("search", "random_search", changes={field: value}).deviations())
             for field, value in (("placement", "robust_first"), ("ranking", "natural"), ("ranking", "none"))]
    assert names == [("robust cells first",), ("ranked by natural accuracy",), ("unranked",)]
