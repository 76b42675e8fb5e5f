# SPDX-License-Identifier: Apache-2.0
"""The network as ONNX graphs of fixed size, for runtimes without PyTorch.

Only the network: what aligns, rectifies and evens out the planes before it, and what makes metric
depth of its output, is in :mod:`dualfocus_ros.inference`.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from dualfocus_ros.models.batch_norm_folding import fold_batch_norm
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.encoders import PlaneFeatures, cat_planes
from dualfocus_ros.models.weights import LoadedModel, shipped_models

WHOLE, ENCODER, DECODER = 'whole', 'encoder', 'decoder'
IMAGES, IMAGE, FOCUS = 'images', 'image', 'focus_dioptres'
OUTPUTS = ('inverse_depth', 'sigma')
# The features beside those of the levels.
_SINGLE_FEATURES = ('fine', 'keys', 'texture', 'surfaces')
# The lowest that has every operator needed: the older, the more runtimes read it.
OPSET = 18
LICENCE = 'Apache-2.0'
INSTALL = "pip install 'dualfocus_ros[export]', or onnx onnxscript onnxruntime"


@dataclass(frozen=True)
class StackShape:
    """What a graph is made for.

    :param planes: N.
    :param height: H in pixels.
    :param width: W in pixels.
    """

    planes: int
    height: int
    width: int


class _Whole(nn.Module):
    """Stack to inverse depth and sigma."""

    def __init__(self, network: DualFocus) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, focus_dioptres: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.encode(images[0])
        prediction = self.network.decode_sorted(features, focus_dioptres, images.shape[-2:])
        return prediction.dioptres, prediction.sigma


class _Encoder(nn.Module):
    """One plane to its features."""

    def __init__(self, network: DualFocus) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(_named_tensors(self.network.encode(image)).values())


class _Decoder(nn.Module):
    """Features of N planes to inverse depth and sigma."""

    def __init__(self, network: DualFocus, size: StackShape, template: PlaneFeatures) -> None:
        super().__init__()
        self.network = network
        self.size = (size.height, size.width)
        self.template = template

    def forward(self, focus_dioptres: Tensor, *features: Tensor) -> tuple[Tensor, Tensor]:
        planes = self.template.with_tensors(features)
        prediction = self.network.decode_sorted(planes, focus_dioptres, self.size)
        return prediction.dioptres, prediction.sigma


def _named_tensors(features: PlaneFeatures) -> dict[str, Tensor]:
    """Return the tensors of features, each of all planes, under the names that the graphs use."""
    named = {f'levels_{index}': cat_planes(level) for index, level in enumerate(features.levels)}
    for field in _SINGLE_FEATURES:
        if parts := getattr(features, field):
            named[field] = cat_planes(parts)
    return named


def export_whole(model: LoadedModel, path: Path, size: StackShape) -> None:
    """Write one graph: images (1, N, 3, H, W) and focus (1, N) to inverse depth and sigma.

    :param path: is replaced once the new file is complete.
    :raises ExportError: without the packages that write ONNX.
    """
    images, focus = _example(size)
    network = fold_batch_norm(model.network)
    about = _metadata(model, size, WHOLE) | {
        IMAGES: '(1, N, 3, H, W) float32 sRGB in [0, 1], channels R G B, planes from far to near',
        FOCUS: '(1, N) float32 focus of the planes in 1/m, ascending',
    }
    _write(_Whole(network), (images, focus), [IMAGES, FOCUS], list(OUTPUTS), path, about)


def export_split(model: LoadedModel, encoder: Path, decoder: Path, size: StackShape) -> None:
    """Write two graphs: one plane to its features, and the features of N planes to depth.

    The features of the planes are concatenated along their first axis, from far to near.

    :raises ExportError: without the packages that write ONNX.
    """
    images, focus = _example(size)
    network = fold_batch_norm(model.network)
    with torch.no_grad():
        features = network.encode(images[0])
    named = _named_tensors(features)
    names = list(named)
    about = _metadata(model, size, ENCODER) | {
        IMAGE: '(1, 3, H, W) float32 sRGB in [0, 1], channels R G B',
    }
    _write(_Encoder(network), (images[0, :1],), [IMAGE], names, encoder, about)
    about = _metadata(model, size, DECODER) | {
        'features': '(N, C, h, w) outputs of the encoder, joined along the first axis, planes '
        'from far to near',
        FOCUS: '(1, N) float32 focus of the planes in 1/m, ascending',
    }
    module = _Decoder(network, size, features)
    _write(module, (focus, *named.values()), [FOCUS, *names], list(OUTPUTS), decoder, about)


def run_onnx(paths: list[Path], images: np.ndarray, focus: np.ndarray) -> list[np.ndarray]:
    """Run a whole graph, or encoder and decoder, in onnxruntime on the CPU.

    :param paths: of the whole graph, or of encoder and decoder.
    :param images: (1, N, 3, H, W) float32.
    :param focus: (1, N) float32.
    :returns: inverse depth and sigma, each (1, H, W) in 1/m.
    :raises ExportError: without onnxruntime.
    """
    last = _inference_session(paths[-1])
    feed = {IMAGES: images}
    if len(paths) > 1:
        encoder = _inference_session(paths[0])
        names = [output.name for output in encoder.get_outputs()]
        planes = [encoder.run(names, {IMAGE: image[None]}) for image in images[0]]
        feed = {name: np.concatenate(parts) for name, parts in zip(names, zip(*planes))}
    outputs: list[np.ndarray] = last.run(list(OUTPUTS), feed | {FOCUS: focus})
    return outputs


@dataclass(frozen=True)
class OutputDifference:
    """How far an ONNX graph is from PyTorch, as shares of the sweep (nearest - farthest focus).

    :param output: ``inverse_depth`` or ``sigma``.
    """

    output: str
    largest: float
    median: float


def compare_with_pytorch(
    model: LoadedModel, paths: list[Path], images: np.ndarray, focus: np.ndarray
) -> list[OutputDifference]:
    """Run ONNX and the network as it is used in PyTorch on one stack; see :func:`run_onnx`."""
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

    :raises ExportError: if one of them is not.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(f'{" and ".join(missing)} not installed: {INSTALL}')


def _example(size: StackShape) -> tuple[Tensor, Tensor]:
    """Return inputs to trace with: only their shapes enter the graph."""
    shape = (1, size.planes, 3, size.height, size.width)
    return torch.full(shape, 0.5), torch.linspace(0.2, 2.0, size.planes)[None]


def _metadata(model: LoadedModel, size: StackShape, part: str) -> dict[str, str]:
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
    about: dict[str, str],
) -> None:
    require_packages('onnx', 'onnxscript')
    with torch.no_grad():
        # Once for real: the projection's matrices become constants of the graph that way, where
        # tracing alone would leave the runtime to compute them in every run.
        module.eval()(*inputs)
    # With gradients on, the network leaves out what it does only to be quick in PyTorch on a CPU.
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
    _drop_trace_metadata(program.model)
    program.model.metadata_props.update(about)
    with atomic_write(path) as partial:
        program.save(str(partial), external_data=False)


def _drop_trace_metadata(model: Any) -> None:
    """Drop what the exporter notes about operators: stack traces with paths of this machine."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph:
        node.metadata_props.clear()
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Keep the exporter's advice to its own developers from the user; errors are raised."""
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
    options.log_severity_level = 3  # errors
    return runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
