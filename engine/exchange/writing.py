"""Export of a genotype as JSON and of a network as a stand-alone PyTorch module or as ONNX. Imports torch only where needed."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.architecture.network import DerivedNetwork
from engine.architecture.placement import STEM_MULTIPLIER, positions
from engine.errors import ConfigError
from engine.exchange.source import Source
from engine.files import atomic_write_bytes
from engine.registry import unknown_name

FORMATS = {"json": "the genotype", "module": "a PyTorch module in one file that needs torch and nothing else",
           "onnx": "an ONNX graph with its weights (needs requirements-onnx.txt)"}
TEMPLATE = Path(__file__).with_name("standalone.py")
_BLOCK = re.compile(r"(?<=# --- the architecture ---\n).*(?=# --- end of the architecture ---\n)", re.DOTALL)


def write(source: Source, form: str, out: Path) -> list[Path]:
    """Write `source` in one of `FORMATS`. Returns the files written.

    Raises:
        ConfigError, RunError, CheckpointError: as `write_json`, `write_module` and `write_onnx`.
    """
    if form not in FORMATS:
        raise ConfigError(unknown_name("export format", form, FORMATS))
    return {"json": write_json, "module": write_module, "onnx": write_onnx}[form](source, out)


def write_json(source: Source, out: Path) -> list[Path]:
    """Write the genotype as one line of JSON, which `--genotype`, `describe` and `import` read. Returns the files written.

    Raises:
        ConfigError: a hand-made network, or `out` cannot be written.
    """
    return _written({out: (source.cells("An export as json").genotype.to_json() + "\n").encode()})


def write_module(source: Source, out: Path) -> list[Path]:
    """Write the network as one Python file and its weights, if it has any, as a .pt of tensors in the same folder.

    Args:
        source: the network.
        out: the Python file; its name must be "<identifier>.py".

    Returns:
        The files written: the module, then the weights.

    Raises:
        ConfigError: a name that Python cannot import, a hand-made network, an invalid size, or a file that cannot be written.
        RunError, CheckpointError: the weights cannot be read.
    """
    if out.suffix != ".py" or not out.stem.isidentifier():
        raise ConfigError(f"A module's file must have a name that Python can import, such as network.py, got {out.name!r}; "
                          "choose another --out.")
    files = {out: module_text(source.cells("An export as module"), module=out.stem, title=source.title).encode()}
    if source.retrained is not None:
        files[out.with_suffix(".pt")] = _weights_of(source)
    return _written(files)


def write_onnx(source: Source, out: Path) -> list[Path]:
    """Write the network with its weights as one ONNX file, by `engine.exchange.onnx_graph.graph_of`.

    Returns:
        The file written.

    Raises:
        ConfigError: onnx is not installed, an invalid size, or a file that cannot be written.
        RunError, CheckpointError: the weights cannot be read.
    """
    from engine.exchange.onnx_graph import graph_of

    source.network.cost()  # refuses what cannot be built
    return _written({out: graph_of(source)})


def module_text(network: DerivedNetwork, *, module: str, title: str) -> str:
    """`standalone.py` with an architecture of its own.

    Args:
        network: the architecture at its size.
        module: name under which the file will be imported, for the example in its docstring.
        title: name of the architecture, for the first line.

    Raises:
        ConfigError: an invalid size.
    """
    network.cost()  # refuses what cannot be built
    text = TEMPLATE.read_text(encoding="utf-8")
    head = f'"""{title}: a network of stacked cells that needs torch and nothing else.\n'
    text = text.replace('"""A network of stacked cells that needs torch and nothing else.\n', head, 1)
    text = text.replace("from network import", f"from {module} import", 1).replace('"network.pt"', f'"{module}.pt"', 1)
    return _BLOCK.sub(lambda _: _architecture(network), text, count=1)


def _architecture(network: DerivedNetwork) -> str:
    """The lines between the template's marks, for one architecture."""
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


def _weights_of(source: Source) -> bytes:
    """Return the retrained network's state dict, without the auxiliary head, as torch.save writes it."""
    import torch

    from engine.run.loop_attack import network_of

    assert source.retrained is not None
    network = network_of(source.retrained)[1]
    buffer = io.BytesIO()
    torch.save({name: value for name, value in network.state_dict().items() if not name.startswith("auxiliary_head.")}, buffer)
    return buffer.getvalue()


def _written(files: Mapping[Path, bytes]) -> list[Path]:
    """Write all files. The first one goes last, because it needs the others."""
    paths: Sequence[Path] = list(files)
    for path in reversed(paths):
        try:
            atomic_write_bytes(path, files[path])
        except OSError as problem:
            raise ConfigError(f"The export could not be written to {path} ({problem.strerror or problem}); choose another --out."
                              ) from None
    return list(paths)
