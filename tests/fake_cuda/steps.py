"""One step of each kind of run on a fake GPU: `python -m tests.fake_cuda.steps LIBRARY` prints what waits, as JSON."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.fake_cuda import device

if __name__ == "__main__":
    device.load(Path(sys.argv[1]))

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.optim import optimizer
from torch.utils import _foreach_utils

from engine import graphs
from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import Genotype
from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import LINF, AttackSettings
from engine.attack.guard import Watched, attacked, under_attack
from engine.attack.methods import run_attack, start
from engine.configuring import build
from engine.data.augmentation import augment
from engine.data.loading import Images
from engine.search.construction import method_class, supernet_of
from engine.search.methods.random_search import method as random_search
from engine.search.methods.random_search.sampling import random_genotype
from engine.search.methods.registry import METHODS
from engine.space.building import with_channels_last
from engine.space.network import Network
from engine.train.retrain import Retraining
from tests.fake_cuda.observer import ObservedRecording, observed

GPU = torch.device("cuda:0")
GENERATOR = torch.Generator(GPU)  # plays torch's global generator of the device
SHAPE, SEARCHED, BATCH, CLASSES = (3, 32, 32), (3, 16, 16), 2, 10


def main() -> None:
    """Run the named steps, or all, and print {name of the step: {event: count}}."""
    warnings.simplefilter("ignore")
    with _cuda_of_the_host():
        print(json.dumps({name: _seen_by(STEPS[name]) for name in sys.argv[2:] or STEPS}))


def _seen_by(step: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Run a step, and check that it leaves the global random state of both devices as it was."""
    before = torch.get_rng_state(), GENERATOR.get_state()
    seen = step()
    assert torch.equal(before[0], torch.get_rng_state()) and torch.equal(before[1], GENERATOR.get_state())
    return seen


def search_step(method: str, epoch: int, **changes: Any) -> dict[str, int]:
    """Take two search steps with recorded passes. Return what the observer has seen in the recordings and in the second step.

    The first step fills caches, such as tables of indices. Random search records no passes.
    """
    short = {field: 1 for field in ("attack_steps", "ranking_steps") if field in METHODS[method].config.model_fields}
    config = build("search", method, "cifar10", "paper", short | {"channels": 8, "layers": 4, "batch_size": BATCH} | changes)
    with observed() as observer:
        supernet = supernet_of(method, config, classes=CLASSES, image_shape=SEARCHED)
        supernet.use_backends(supernet.backends("cuda"))
        recorder = graphs.Graphs(lambda function, inputs: ObservedRecording(observer, function, inputs))
        records = {"graphs": recorder} if config.on_supernet else {}
        search = method_class(method)(config, supernet, device=GPU, dtype=torch.float32, seed=0, **records)
        search.begin_epoch(epoch)
        second = getattr(config, "out_of_distribution", None)
        extra = {"out_of_distribution": torch.rand(BATCH, *SEARCHED, device=GPU)} if second else {}
        batches = [(torch.rand(BATCH, *SEARCHED, device=GPU), torch.randint(CLASSES, (BATCH,), device=GPU)) for _ in range(2)]
        take = partial(search.step, *batches, learning_rate=0.025, generator=torch.Generator().manual_seed(0), **extra)
        take()
        recorded = {event: count for event, count in observer.seen.items() if event.startswith("recorded")}
        observer.seen.clear()
        take()
        assert not recorder.refusal, recorder.refusal
        state = [tensor for tensor in (search.weights, search.alphas, search.buffers) if tensor is not None]
        assert {tensor.device for tensor in state} == {GPU}
        return recorded | observer.seen


def training_step(channels_last: bool = False, **changes: Any) -> dict[str, int]:
    """Take three training steps, of which the first two make recordings. Return what the observer has seen in recordings and in
    the third step."""
    config = build("retrain", None, "cifar10", "paper",
                   {"channels": 8, "layers": 4, "batch_size": BATCH, "attack_steps": 2} | changes)
    with observed() as observer:
        network = Network(CATALOG["ARNAS"].genotype, channels=8, layers=4, classes=CLASSES, image_shape=SHAPE,
                          auxiliary=config.auxiliary_weight > 0).to(GPU)
        recorder = graphs.Graphs(lambda function, inputs: ObservedRecording(observer, function, inputs))
        training = Retraining(config, with_channels_last(network) if channels_last else network, 10, graphs=recorder)
        x, y = torch.rand(BATCH, *SHAPE, device=GPU), torch.randint(CLASSES, (BATCH,), device=GPU)
        observer.seen.clear()
        for epoch in range(2):
            training.step(x, y, epoch=epoch, step=0)
        recorded = {event: count for event, count in observer.seen.items() if event.startswith("recorded")}
        observer.seen.clear()
        training.step(x, y, epoch=2, step=0)
        assert recorder.replays and not recorder.refusal, recorder.refusal
        assert {tensor.device for tensor in training.network.state_dict().values()} == {GPU}
        return recorded | observer.seen


def launches(recorded: bool) -> dict[str, int]:
    """Return the number of operations that a PGD-7 training step of a published network launches one by one."""
    config = build("retrain", None, "cifar10", "paper", {"batch_size": BATCH})
    with observed() as observer:
        network = Network(CATALOG["ARNAS"].genotype, channels=36, layers=20, classes=CLASSES, image_shape=SHAPE,
                          auxiliary=True).to(GPU)
        record = partial(ObservedRecording, observer) if recorded else None
        training = Retraining(config, network, 10, graphs=graphs.Graphs(record))
        x, y = torch.rand(BATCH, *SHAPE, device=GPU), torch.randint(CLASSES, (BATCH,), device=GPU)
        for epoch in range(2):
            training.step(x, y, epoch=epoch, step=0)
        observer.launched = 0
        training.step(x, y, epoch=2, step=0)
        return {"launched": observer.launched}


def attack_batch(name: str) -> dict[str, int]:
    """Attack one batch, and return what the observer has seen."""
    with observed() as observer:
        network = Network(CATALOG["ARNAS"].genotype, channels=8, layers=4, classes=CLASSES, image_shape=SHAPE).to(GPU).eval()
        x, y = torch.rand(BATCH, *SHAPE, device=GPU), torch.randint(CLASSES, (BATCH,), device=GPU)
        observer.seen.clear()
        settings = AttackSettings(8 / 255, 2 / 255, CLASSES, seed=1, norm=ATTACKS[name].norms[0])
        assert run_attack(ATTACKS[name], network, x, y, settings).device == GPU
        return dict(observer.seen)


def attack_of_images(resident: bool) -> dict[str, int]:
    """Attack all images of a split block by block, and return what the observer has seen.

    Args:
        resident: True if the images are on the device, False if they are in host memory.
    """
    with observed() as observer:
        network = Network(CATALOG["ARNAS"].genotype, channels=8, layers=4, classes=CLASSES, image_shape=SHAPE).to(GPU).eval()
        images = Images(torch.zeros(2 * BATCH, *SHAPE, dtype=torch.uint8), GPU, resident)
        y = torch.zeros(2 * BATCH, dtype=torch.int64, device=GPU)
        settings = AttackSettings(8 / 255, 2 / 255, CLASSES, seed=1, norm=LINF)
        recorder = graphs.Graphs(lambda function, inputs: ObservedRecording(observer, function, inputs))
        with under_attack(network):
            logits = attacked(network, graphs=recorder, batch=BATCH)
            running = start(ATTACKS["pgd-20"], Watched(network, logits=logits), images.__getitem__, y,
                            targets=y[:, None], ids=range(len(y)), settings=settings, size=BATCH)
            observer.seen.clear()
            for _ in range(2):
                running.step()
            attacked_images = [image.x_adv.device for block in running.finished() for image in block]
        assert running.over and attacked_images == [GPU] * 2 * BATCH and recorder.replays >= 40 and not recorder.refusal
        return dict(observer.seen)


def loaded_batch(resident: bool) -> dict[str, int]:
    """Load and augment one batch of a search, and return what the observer has seen.

    Args:
        resident: True if all images are on the device, False if they are in host memory.
    """
    with observed() as observer:
        images = Images(torch.zeros(8, *SHAPE, dtype=torch.uint8), GPU, resident)
        blank = torch.zeros(SHAPE[0], device=GPU)
        observer.seen.clear()
        x = augment(images[torch.arange(BATCH)], torch.Generator().manual_seed(0), 4, True, 16, blank)
        assert (x.device, x.shape) == (GPU, (BATCH, *SHAPE))
        return dict(observer.seen)


SEARCHES: dict[str, dict[str, Any]] = {
    "clipped and normalised": {"clip_images": True, "gradient_normalisation": "l2", "normalise": True},
    "bfloat16 attack": {"attack_precision": "bf16"},
    "TRADES, curvature, size": {"robust_objective": "trades", "added_objectives": ["curvature", "parameter_share"]},
    "first order": {"unrolled": False},
    "UPGrad": {"weighting": "upgrad"},
}
TRAININGS: dict[str, dict[str, Any]] = {
    "PGD-AT": {}, "PGD-AT in bfloat16": {"precision": "bf16"}, "channels last": {"channels_last": True},
    "TRADES": {"training": "trades"}, "Fast-AT": {"training": "fast_at"}, "natural": {"training": "natural"},
    "normalised, averaged, drop path": {"normalise": True, "average_decay": 0.999, "drop_path": 0.2},
}
# The searches of attacks such as APGD depend on values, which fake tensors do not have.
ATTACKED = ("fgsm", "pgd-20")
EPOCHS = {"first epoch": 0, "late epoch": 49}
STEPS: dict[str, Callable[[], dict[str, int]]] = {
    **{f"search {name}, {title}": partial(search_step, name, epoch) for name in METHODS
       for title, epoch in EPOCHS.items()},
    **{f"search arnas, {title}": partial(search_step, "arnas", 0, **changes) for title, changes in SEARCHES.items()},
    **{f"retrain, {title}": partial(training_step, **changes) for title, changes in TRAININGS.items()},
    "batch, images on the device": partial(loaded_batch, True), "batch, images in host memory": partial(loaded_batch, False),
    "launches of PGD-AT, eager": partial(launches, False), "launches of PGD-AT, recorded": partial(launches, True),
    **{f"attack, {name}": partial(attack_batch, name) for name in ATTACKED},
    "attack of images on the device": partial(attack_of_images, True),
    "attack of images in host memory": partial(attack_of_images, False),
}


def _moved(network: nn.Module, *to: Any, **settings: Any) -> nn.Module:
    """Move a network as `Module.to` does, which cannot swap the content of fake parameters that autograd refers to."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.detach().to(*to, **settings), requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(*to, **settings))
    return network


def _drawn(kinds: Sequence[str], generator: torch.Generator) -> Genotype:
    """Draw a genotype as a random search does. Fake tensors have no values, so that the draws need real ones."""
    with unset_fake_temporarily():
        return random_genotype(kinds, generator)


@contextmanager
def _cuda_of_the_host() -> Iterator[None]:
    """Replace the few functions of `torch.cuda` that a CPU build lacks, and let a random search draw real architectures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", GENERATOR.manual_seed)
        patch.setattr(torch.cuda, "get_rng_state", lambda device: GENERATOR.get_state())
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device: GENERATOR.set_state(state))
        patch.setattr(nn.Module, "to", _moved)
        patch.setattr(random_search, "random_genotype", _drawn)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *given, **settings: True)
        # A copy of the mode would free the mode's weak references to storages a second time.
        patch.setattr(FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, raising=False)
        for module in (optimizer, _foreach_utils):  # work on many tensors at once, as with the parameters of a GPU
            patch.setattr(module, "_foreach_supported_types", [*module._foreach_supported_types, FakeTensor])
        yield


if __name__ == "__main__":
    main()
