"""Export of a network as an ONNX graph, for programs without PyTorch. Needs the package onnx (requirements-onnx.txt).

Uses torch's tracing exporter: the newer one needs two more packages and takes ten times as long for the same graph.
"""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import torch

from engine.architecture.named import NAME_KEY
from engine.architecture.network import DerivedNetwork
from engine.errors import ConfigError
from engine.exchange.source import Source
from engine.run.loop_attack import network_of

OPERATORS = 17  # version of ONNX's operators; read by every runtime since 2022


def graph_of(source: Source) -> bytes:
    """Return an ONNX file: "images" [batch, C, H, W], pixels in 0..1 -> "logits" [batch, classes], for any batch size.

    It contains the normalisation and BatchNorm's running statistics, but not the auxiliary head. Without trained weights it
    has random ones from a fixed seed, and its metadata says "untrained".

    Raises:
        ConfigError: onnx is not installed, or an invalid size.
        RunError, CheckpointError: the weights cannot be read.
    """
    onnx = _onnx()
    if source.retrained is not None:
        network = network_of(source.retrained)[1]
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = source.network.build()
    buffer = io.BytesIO()
    example = torch.zeros(2, *source.network.image_shape)  # a batch of one would be taken for a constant
    axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        # The exporter warns that it is the older one, and that heights and widths become constants of the graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (example,), buffer, input_names=["images"], output_names=["logits"],  # type: ignore[arg-type]
                          dynamic_axes=axes, opset_version=OPERATORS, dynamo=False)
    network_kind = ({"genotype": source.network.genotype.to_json()} if isinstance(source.network, DerivedNetwork)
                    else {NAME_KEY: source.network.name})
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {"source": source.title, **network_kind,
                                        "weights": "untrained" if source.retrained is None else "retrained"})
    return bytes(model.SerializeToString())


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ConfigError("An ONNX file needs the package onnx, which is not installed; run `.venv/bin/python -m pip install -r "
                          "requirements-onnx.txt`.") from None
