"""Export of genotypes as JSON, of trained weights, and of networks as stand-alone PyTorch modules or as ONNX.

Functions that need torch import it when they are called.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.architecture.network import DerivedNetwork
from engine.architecture.placement import STEM_MULTIPLIER, positions
from engine.errors import ConfigError
from engine.exchange.source import Source
from engine.files import atomic_write_bytes
from engine.registry import unknown_name

if TYPE_CHECKING:
    from torch import Tensor

TEMPLATE = Path(__file__).with_name("standalone.py")
_BLOCK = re.compile(r"(?<=# --- the architecture ---\n).*(?=# --- end of the architecture ---\n)", re.DOTALL)


def write(source: Source, form: str, out: Path) -> list[Path]:
    """Write a network or its genotype to a file, and return the paths of all files written.

    Args:
        source: the network.
        form: one of `WRITERS`.
        out: file to write. The weights of a module are written to a second file in the same folder.

    Raises:
        ConfigError: the form is unknown or cannot represent this network, the package onnx is needed but missing, there are no
            trained weights, the network's size is invalid, or a file cannot be written.
        RunError: the run that holds the weights cannot be read.
        CheckpointError: the checkpoint with the weights cannot be read.
    """
    if form not in WRITERS:
        raise ConfigError(unknown_name("export form", form, WRITERS))
    return WRITERS[form](source, out)


def write_json(source: Source, out: Path) -> list[Path]:
    """Write the genotype as one line of JSON, and return the path in a list.

    The option `--genotype` and the command `rampart describe` take this line as text, and `rampart import` reads the file.

    Raises:
        ConfigError: the network is hand-made and so has no genotype, or `out` cannot be written.
    """
    return _written({out: (source.cells("An export as genotype").genotype.to_json() + "\n").encode()})


def write_weights(source: Source, out: Path) -> list[Path]:
    """Write the trained weights as a state dict, and return the path in a list.

    `torch.load(file, weights_only=True)` reads the file. The names of the weights are the parameter names of the exported module.

    Raises:
        ConfigError: there are no trained weights, or the file cannot be written.
        RunError, CheckpointError: the run or the checkpoint that holds the weights cannot be read.
    """
    return _written({out: saved(weights_of(source))})


def write_safetensors(source: Source, out: Path) -> list[Path]:
    """Write the trained weights as a safetensors file, and return the path in a list.

    The file has the same names and values as the file that `write_weights` writes. The file's metadata names the run and the
    network.

    Raises:
        ConfigError: there are no trained weights, or the file cannot be written.
        RunError, CheckpointError: the run or the checkpoint that holds the weights cannot be read.
    """
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in weights_of(source).items()}
    return _written({out: save(tensors, {"source": source.title, **source.facts})})


def write_module(source: Source, out: Path) -> list[Path]:
    """Write the network as one Python file. Write trained weights, if there are any, to a .pt file in the same folder.

    Args:
        source: network to export.
        out: Python file to write. Its name must be a Python identifier followed by ".py".

    Returns:
        Paths of the files written, the Python file first.

    Raises:
        ConfigError: Python cannot import a file called `out`, the network is hand-made or has an invalid size, or a file cannot
            be written.
        RunError: the run that holds the weights cannot be read.
        CheckpointError: the checkpoint with the weights cannot be read.
    """
    if out.suffix != ".py" or not out.stem.isidentifier():
        raise ConfigError(f"A module's file must have a name that Python can import, such as network.py, got {out.name!r}; "
                          "choose another --out.")
    files = {out: module_text(source.cells("An export as module"), module=out.stem, title=source.title).encode()}
    if source.retrained is not None:
        files[out.with_suffix(".pt")] = saved(weights_of(source))
    return _written(files)


def write_onnx(source: Source, out: Path) -> list[Path]:
    """Write the network with its weights as one ONNX file, and return the path in a list.

    Raises:
        ConfigError: the package onnx is not installed, the network's size is invalid, or the file cannot be written.
        RunError: the run that holds the weights cannot be read.
        CheckpointError: the checkpoint with the weights cannot be read.
    """
    from engine.exchange.onnx_graph import graph_of

    source.network.cost()  # raises ConfigError if the network cannot be built
    return _written({out: graph_of(source)})


def module_text(network: DerivedNetwork, *, module: str, title: str) -> str:
    """Return the text of a Python module for a network: a copy of `standalone.py` with the network's architecture inserted.

    Args:
        network: network to describe.
        module: name under which the module will be imported, for the example in its docstring.
        title: name of the network, for the first line of the docstring.

    Raises:
        ConfigError: the network's size is invalid.
    """
    network.cost()  # raises ConfigError if the network cannot be built
    text = TEMPLATE.read_text(encoding="utf-8")
    head = f'"""{title}: a network of stacked cells that needs torch and nothing else.\n'
    text = text.replace('"""A network of stacked cells that needs torch and nothing else.\n', head, 1)
    text = text.replace("from network import", f"from {module} import", 1).replace('"network.pt"', f'"{module}.pt"', 1)
    return _BLOCK.sub(lambda _: _architecture(network), text, count=1)


def _architecture(network: DerivedNetwork) -> str:
    """Return the lines of Python that describe a network's architecture.

    They replace the lines between the two marks in `standalone.py`.
    """
    genotype, channels = network.genotype, network.channels
    lines = ["# Per cell kind: (operation, input state) of every edge, two per node; states 0 and 1 are the outputs of the two",
             "# cells before.", "EDGES = {"]
    for kind, cell in genotype.cells:
        lines.append(f'    "{kind}": [')
        for first in range(0, len(cell.edges), 2):
            pair = ", ".join(f'("{name}", {state})' for name, state in cell.edges[first:first + 2])
            lines.append(f"        {pair},  # state {2 + first // 2}")
        lines.append("    ],")
    concat = ", ".join(f'"{kind}": {list(cell.concat)}' for kind, cell in genotype.cells)
    lines += ["}", "# Per cell kind: the states that are concatenated to the cell's output.", f"CONCAT = {{{concat}}}",
              "# From input to output: (cell kind, channels of a node, stride).", "CELLS = ["]
    lines += [f'    ("{position.kind}", {position.channels_multiplier * channels}, {2 if position.reduction else 1}),'
              for position in positions(genotype.kinds, network.layers, network.placement, network.width_ratio)]
    lines += ["]", f"STEM_CHANNELS = {STEM_MULTIPLIER * channels}", f"CLASSES = {network.classes}",
              f"IMAGE_SHAPE = {network.image_shape}", ""]
    return "\n".join(lines)


def weights_of(source: Source) -> dict[str, Tensor]:
    """Return the weights of the retrained network by name, without the auxiliary head, which only training uses.

    Raises:
        ConfigError: the source has no trained weights.
        RunError, CheckpointError: the run or the checkpoint that holds the weights cannot be read.
    """
    from engine.run.attacked_network import network_of

    if source.retrained is None:
        raise ConfigError(f"Weights need a retrained network, got {source.title}, which is only an architecture; retrain it "
                          "first, and give the id of the retraining or of an attack on it.")
    network = network_of(source.retrained)[1]
    return {name: value for name, value in network.state_dict().items() if not name.startswith("auxiliary_head.")}


def saved(weights: Mapping[str, Tensor]) -> bytes:
    """Return the content of a file that `torch.save` writes for a state dict."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(weights), buffer)
    return buffer.getvalue()


def _written(files: Mapping[Path, bytes]) -> list[Path]:
    """Write all files and return their paths. The first file is written last, because it is useless without the other files."""
    paths: Sequence[Path] = list(files)
    for path in reversed(paths):
        try:
            atomic_write_bytes(path, files[path])
        except OSError as problem:
            raise ConfigError(f"The export could not be written to {path} ({problem.strerror or problem}); choose another --out."
                              ) from None
    return list(paths)


WRITERS: Mapping[str, Callable[[Source, Path], list[Path]]] = {
    "genotype": write_json, "weights": write_weights, "safetensors": write_safetensors, "module": write_module,
    "onnx": write_onnx}
