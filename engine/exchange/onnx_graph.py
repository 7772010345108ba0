"""Export of a network as an ONNX graph, for programs without PyTorch. It requires the package onnx (requirements-onnx.txt).

The module uses torch's older exporter, which traces the network. The newer exporter requires two more packages and takes ten
times as long for the same graph.
"""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import torch

from engine.errors import ConfigError
from engine.exchange.source import Source
from engine.run.attacked_network import network_of

OPERATORS = 17  # version of the ONNX operator set, which every runtime since 2022 can read


def graph_of(source: Source) -> bytes:
    """Return the content of an ONNX file with a network and its weights.

    The graph maps the input "images" [batch, C, H, W], pixels in 0..1, to the output "logits" [batch, classes], for any batch
    size. The graph includes the normalisation of the images and the running statistics of BatchNorm. The auxiliary head is left
    out, because only training uses it. If the network has no trained weights, the file contains random weights from a fixed seed,
    and the metadata of the file says "untrained".

    Raises:
        ConfigError: the package onnx is not installed, or the network's size is invalid.
        RunError: the run that holds the weights cannot be read.
        CheckpointError: the checkpoint with the weights cannot be read.
    """
    onnx = _onnx()
    if source.retrained is not None:
        network = network_of(source.retrained)[1]
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = source.network.build()
    buffer = io.BytesIO()
    example = torch.zeros(2, *source.network.image_shape)  # for a batch of one, the exporter would fix the batch size
    axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        # The exporter warns that it is the older one, and that image height and width become constants in the graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (example,), buffer, input_names=["images"], output_names=["logits"],  # type: ignore[arg-type]
                          dynamic_axes=axes, opset_version=OPERATORS, dynamo=False)
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {"source": source.title, **source.facts,
                                        "weights": "untrained" if source.retrained is None else "retrained"})
    return bytes(model.SerializeToString())


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ConfigError("An ONNX file needs the package onnx, which is not installed; run `.venv/bin/python -m pip install -r "
                          "requirements-onnx.txt`.") from None
