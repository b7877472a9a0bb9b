"""ONNX files of plain models."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..zoo import get_model


class _Tensors(nn.Module):
    """A model of mm as one of tensors: normalized images to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, mode='tensor')


def export_onnx(
    name: str | Path | Config,
    checkpoint: str | Path | None,
    out: str | Path,
    size: tuple[int, int],
) -> Path:
    """Write a model for ONNX runtimes, which need neither mm nor PyTorch.

    It takes preprocessed images, (N, 3, H, W) with any N and of the given
    size, and returns the logits: (N, classes), or (N, classes, h, w) at the
    resolution of the decode head.

    Args:
        name (str | Path | Config): Name in the model zoo, or config.
        checkpoint (str | Path, optional): By default the published weights.
        out (str | Path): The file to write, ``*.onnx``.
        size (tuple[int, int]): H and W.

    Raises:
        ValueError: As :func:`get_model`.
    """
    weights = True if checkpoint is None else checkpoint
    model = _Tensors(get_model(name, weights, device='cpu')).eval()
    batch = torch.export.Dim('batch', min=1)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    program = torch.export.export(
        model,
        # Of two images: an axis of one would be taken as fixed.
        (torch.zeros(2, 3, *size),),
        dynamic_shapes={'images': {0: batch}},
        strict=False,
    )
    torch.onnx.export(
        _without_batch_norm(program),
        (),
        str(out),
        dynamo=True,
        input_names=['images'],
        output_names=['logits'],
        external_data=False,
    )
    return out


def _without_batch_norm(program: ExportedProgram) -> ExportedProgram:
    """The BatchNorms of torch 2.6 as sums and products.

    It writes them as ONNX nodes of three outputs, which no runtime takes.
    """
    if torch.__version__ >= '2.7':
        return program
    aten = torch.ops.aten
    operators = [
        aten._native_batch_norm_legit_no_training,
        aten._native_batch_norm_legit,
    ]
    table = torch.export.default_decompositions()
    table.update(torch._decomp.get_decompositions(operators))
    return program.run_decompositions(table)
