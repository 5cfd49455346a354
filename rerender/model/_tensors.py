"""Tensors of safetensors files, one after the other, straight into the type they are computed in.

Files are read, not mapped: the pages of a mapped file count as memory of the process until the
system wants them back, so that half precision from a file in full precision would hold both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rerender.errors import WeightsError
from rerender.model._files import StoredTensor, header

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def everything(name: str) -> bool:
    """Every tensor is wanted."""
    return True


def tensors(
    files: Sequence[Path],
    dtype: torch.dtype,
    device: torch.device,
    wanted: Callable[[str], bool] = everything,
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of some files, floating-point ones in ``dtype``, others as they are.

    Args:
        files: safetensors files.
        dtype: of the result.
        device: of the result.
        wanted: whether a tensor of that name is read at all.

    Raises:
        WeightsError: a file is damaged, or a tensor is not finite, or not in ``dtype``.
    """
    for file in files:
        found = header(file).tensors
        with file.open("rb") as opened:
            for name, entry in sorted(found.items(), key=lambda item: item[1].begin):
                if wanted(name):
                    opened.seek(entry.begin)
                    raw = bytearray(entry.end - entry.begin)
                    if opened.readinto(raw) != len(raw):
                        raise WeightsError(file, "is cut off", "restore the file")
                    yield (
                        name,
                        _converted(file, name, _shaped(file, name, entry, raw), dtype, device),
                    )


def _shaped(file: Path, name: str, entry: StoredTensor, raw: bytearray) -> Tensor:
    kind = _TYPES.get(entry.dtype)
    if kind is None:
        problem = f"tensor {name} is of type {entry.dtype}, which is not known here"
        raise WeightsError(file, problem, "save it in half precision")
    if not raw:
        return torch.empty(entry.shape, dtype=kind)
    try:
        return torch.frombuffer(raw, dtype=kind).reshape(entry.shape)
    except (RuntimeError, ValueError) as error:
        problem = f"tensor {name} has {len(raw)} bytes for its shape {list(entry.shape)}"
        raise WeightsError(file, problem, "restore the file") from error


def _converted(
    file: Path, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device
) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.to(device)
    converted = tensor.to(dtype=dtype).to(device)
    if not converted.isfinite().all():
        if tensor.to(torch.float32).isfinite().all():
            problem = f"tensor {name} leaves the range of {str(dtype).removeprefix('torch.')}"
            cure = "its numbers are too large: take model.dtype=float32"
            raise WeightsError(file, problem, cure)
        raise WeightsError(file, f"tensor {name} holds NaN or infinity", "restore the file")
    return converted
