"""Tensors of safetensors files, one after the other, straight into the type they are computed in.

Files are read, not mapped: the pages of a mapped file count as memory of the process until the
system wants them back, so that half precision from a file in full precision would hold both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

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

_PIECE = 1 << 20  # numbers read at once


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
                    yield name, _read(opened, file, name, entry, dtype).to(device)


def _read(
    opened: BinaryIO, file: Path, name: str, entry: StoredTensor, dtype: torch.dtype
) -> Tensor:
    """One tensor, a piece at a time, so that nothing large is held in both types."""
    kind = _TYPES.get(entry.dtype)
    if kind is None:
        problem = f"tensor {name} is of type {entry.dtype}, which is not known here"
        raise WeightsError(file, problem, "save it in half precision")
    made = torch.empty(entry.shape, dtype=dtype if kind.is_floating_point else kind)
    if made.numel() * kind.itemsize != entry.end - entry.begin:
        problem = f"tensor {name} has {entry.end - entry.begin} bytes for its shape {[*made.shape]}"
        raise WeightsError(file, problem, "restore the file")
    flat = made.view(-1)
    for start in range(0, made.numel(), _PIECE):
        into = flat[start : start + _PIECE]
        raw = bytearray(len(into) * kind.itemsize)
        if opened.readinto(raw) != len(raw):  # type: ignore[attr-defined]
            raise WeightsError(file, "is cut off", "restore the file")
        piece = torch.frombuffer(raw, dtype=kind)
        into.copy_(piece)
        if kind.is_floating_point and not into.isfinite().all():
            _refuse(file, name, piece, dtype)
    return made


def _refuse(file: Path, name: str, piece: Tensor, dtype: torch.dtype) -> NoReturn:
    if piece.to(torch.float32).isfinite().all():
        problem = f"tensor {name} leaves the range of {str(dtype).removeprefix('torch.')}"
        raise WeightsError(file, problem, "its numbers are too large: take model.dtype=float32")
    raise WeightsError(file, f"tensor {name} holds NaN or infinity", "restore the file")
