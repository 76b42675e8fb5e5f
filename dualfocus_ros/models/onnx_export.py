# SPDX-License-Identifier: Apache-2.0
"""ONNX export of the network, for stacks of a fixed size.

The graphs contain the network only; alignment, rectification, exposure correction and metric depth
are in :mod:`dualfocus_ros.inference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
import logging
from pathlib import Path
from typing import Any
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from dualfocus_ros import __version__
from dualfocus_ros.exceptions import ExportError
from dualfocus_ros.io.atomic_files import atomic_write
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.encoders import PlaneFeatures
from dualfocus_ros.models.layers import cat_planes, fold_batch_norm
from dualfocus_ros.models.weights import LoadedModel, shipped_models

WHOLE, ENCODER, DECODER = 'whole', 'encoder', 'decoder'
IMAGES, IMAGE, FOCUS = 'images', 'image', 'focus_dioptres'
OUTPUTS = ('inverse_depth', 'sigma')
# Fields of PlaneFeatures other than levels.
_SINGLE_FEATURES = ('fine', 'keys', 'texture', 'surfaces')
# Oldest operator set with all operators, for the widest support by runtimes.
OPSET = 18
LICENCE = 'Apache-2.0'
INSTALL = "pip install 'dualfocus_ros[export]', or onnx onnxscript onnxruntime"


@dataclass(frozen=True)
class ExportShape:
    """Stack size of a graph: N planes of height x width pixels."""

    planes: int
    height: int
    width: int


class _Graph(nn.Module):
    """Function of a network, in the form that the exporter needs."""

    def __init__(self, network: DualFocus, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


def _named_tensors(features: PlaneFeatures) -> dict[str, Tensor]:
    """Return features, concatenated over planes, by their names in the graphs."""
    named = {f'levels_{index}': cat_planes(level) for index, level in enumerate(features.levels)}
    for field in _SINGLE_FEATURES:
        if tensors := getattr(features, field):
            named[field] = cat_planes(tensors)
    return named


def export_whole(model: LoadedModel, path: Path, size: ExportShape) -> None:
    """Write one graph: images (1, N, 3, H, W) and focus (1, N) to inverse depth and sigma.

    :param path: replaced atomically.
    :raises ExportError: if onnx or onnxscript is not installed.
    """
    images, focus = _example_inputs(size)
    network = fold_batch_norm(model.network)
    metadata = _metadata(model, size, WHOLE) | {
        IMAGES: '(1, N, 3, H, W) float32 sRGB in [0, 1], channels R G B, planes from far to near',
        FOCUS: '(1, N) float32 focus of the planes in 1/m, ascending',
    }

    def estimate(images: Tensor, focus: Tensor) -> tuple[Tensor, Tensor]:
        features = network.encode(images[0])
        prediction = network.decode_sorted(features, focus, images.shape[-2:])
        return prediction.dioptres, prediction.sigma

    graph = _Graph(network, estimate)
    _write(graph, (images, focus), [IMAGES, FOCUS], list(OUTPUTS), path, metadata)


def export_split(model: LoadedModel, encoder: Path, decoder: Path, size: ExportShape) -> None:
    """Write two graphs: one plane to its features, and the features of N planes to depth.

    The input of the second graph is the features concatenated along the first axis, from far to
    near.

    :raises ExportError: if onnx or onnxscript is not installed.
    """
    images, focus = _example_inputs(size)
    network = fold_batch_norm(model.network)
    with torch.no_grad():
        features = network.encode(images[0])
    named = _named_tensors(features)
    names = list(named)

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        return tuple(_named_tensors(network.encode(image)).values())

    def decode(focus: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        planes = features.with_tensors(tensors)
        prediction = network.decode_sorted(planes, focus, images.shape[-2:])
        return prediction.dioptres, prediction.sigma

    metadata = _metadata(model, size, ENCODER) | {
        IMAGE: '(1, 3, H, W) float32 sRGB in [0, 1], channels R G B',
    }
    _write(_Graph(network, encode), (images[0, :1],), [IMAGE], names, encoder, metadata)
    metadata = _metadata(model, size, DECODER) | {
        'features': '(N, C, h, w) outputs of the encoder, joined along the first axis, planes '
        'from far to near',
        FOCUS: '(1, N) float32 focus of the planes in 1/m, ascending',
    }
    inputs = focus, *named.values()
    _write(_Graph(network, decode), inputs, [FOCUS, *names], list(OUTPUTS), decoder, metadata)


def run_onnx(paths: list[Path], images: np.ndarray, focus: np.ndarray) -> list[np.ndarray]:
    """Run a whole graph, or encoder and decoder, in onnxruntime on the CPU.

    :param paths: the whole graph, or encoder and decoder.
    :param images: (1, N, 3, H, W) float32, planes from far to near.
    :param focus: (1, N) float32 in 1/m, ascending.
    :returns: inverse depth and sigma, each (1, H, W) in 1/m.
    :raises ExportError: if onnxruntime is not installed.
    """
    last = _inference_session(paths[-1])
    feed = {IMAGES: images}
    if len(paths) > 1:
        encoder = _inference_session(paths[0])
        names = [output.name for output in encoder.get_outputs()]
        planes = [encoder.run(names, {IMAGE: image[None]}) for image in images[0]]
        feed = {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*planes))}
    outputs: list[np.ndarray] = last.run(list(OUTPUTS), feed | {FOCUS: focus})
    return outputs


@dataclass(frozen=True)
class OutputDifference:
    """Absolute differences of one output to PyTorch, as shares of the sweep.

    The sweep is the nearest minus the farthest focus in 1/m.

    :param output: ``inverse_depth`` or ``sigma``.
    """

    output: str
    largest: float
    median: float


def compare_with_pytorch(
    model: LoadedModel, paths: list[Path], images: np.ndarray, focus: np.ndarray
) -> list[OutputDifference]:
    """Compare ONNX with PyTorch on one stack; parameters as of :func:`run_onnx`."""
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(images), torch.from_numpy(focus))
    sweep = float(focus.max() - focus.min())
    found = run_onnx(paths, images, focus)
    differences = []
    for name, one, other in zip(OUTPUTS, found, (expected.dioptres, expected.sigma), strict=True):
        share = np.abs(one - other.numpy()) / sweep
        differences.append(OutputDifference(name, float(share.max()), float(np.median(share))))
    return differences


def require_packages(*packages: str) -> None:
    """Check that packages are installed.

    :raises ExportError: naming the missing ones.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(f'{" and ".join(missing)} not installed: {INSTALL}')


def _example_inputs(size: ExportShape) -> tuple[Tensor, Tensor]:
    """Return inputs for tracing; only their shapes enter the graph."""
    shape = (1, size.planes, 3, size.height, size.width)
    return torch.full(shape, 0.5), torch.linspace(0.2, 2.0, size.planes)[None]


def _metadata(model: LoadedModel, size: ExportShape, part: str) -> dict[str, str]:
    shipped = any(entry['sha256'] == model.sha256 for entry in shipped_models().values())
    return {
        'model': model.name,
        'part': part,
        'weights_sha256': model.sha256,
        'planes': str(size.planes),
        'height': str(size.height),
        'width': str(size.width),
        'inverse_depth': '(1, H, W) float32 in 1/m',
        'sigma': '(1, H, W) float32, one standard deviation of the inverse depth, in 1/m',
        'licence': LICENCE if shipped else f'network {LICENCE}; weights are not those shipped',
        'dualfocus_ros': __version__,
    }


def _write(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    path: Path,
    metadata: dict[str, str],
) -> None:
    require_packages('onnx', 'onnxscript')
    with torch.no_grad():
        # Fill the cache of the projection: cached matrices become constants of the graph, others
        # would be recomputed in each run.
        module.eval()(*inputs)
    # Autograd disables the code paths that are fast in PyTorch on a CPU only.
    with torch.enable_grad(), _silence_exporter():
        program: Any = torch.onnx.export(
            module,
            inputs,
            input_names=input_names,
            output_names=output_names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    graph = program.model.graph
    parts = [*graph, *graph.inputs, *graph.initializers.values()]
    for part in [*parts, *(value for node in graph for value in node.outputs)]:
        part.metadata_props.clear()  # stack traces with paths of this machine
    program.model.metadata_props.update(metadata)
    with atomic_write(path) as partial:
        program.save(str(partial), external_data=False)


@contextmanager
def _silence_exporter() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)
            warnings.simplefilter('ignore', DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _inference_session(path: Path) -> Any:
    require_packages('onnxruntime')
    runtime = import_module('onnxruntime')
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # ERROR
    return runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
