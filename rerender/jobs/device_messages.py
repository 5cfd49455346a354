"""What the process of a run and those that it started for its devices say to each other.

A message is JSON; tensors follow it as messages of their own, float32 as they lie in memory. Both
ends are processes of one command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerender.errors import RerenderError

SHOT, FILL = "shot", "fill"
Message = Mapping[str, Any]
_KINDS = {kind.exit_code: kind for kind in RerenderError.__subclasses__()}


def send(channel: Connection, message: Message, tensors: Sequence[Tensor] = ()) -> None:
    """Say something.

    Raises:
        OSError: the other end has gone.
    """
    shapes = [list(each.shape) for each in tensors]
    channel.send_bytes(json.dumps({**message, "tensors": shapes}).encode())
    for each in tensors:
        data = each.detach().to("cpu", torch.float32).contiguous().numpy()
        channel.send_bytes(data.data.cast("B"))


def receive(channel: Connection) -> tuple[dict[str, Any], list[Tensor]]:
    """What the other end says next.

    Raises:
        EOFError, OSError: it has gone.
    """
    message = json.loads(channel.recv_bytes())
    tensors = []
    for shape in message.pop("tensors"):
        data = np.frombuffer(bytearray(channel.recv_bytes()), np.float32)
        tensors.append(torch.from_numpy(data.reshape(shape)))
    return message, tensors


def refusal(error: RerenderError) -> Message:
    """An error of ours, as `raised` makes it again."""
    return {"code": error.exit_code, "said": [error.where, error.problem, error.cure]}


def raised(message: Message) -> Exception:
    """The error that another process has ended a part with."""
    kind = _KINDS.get(message["code"])
    if kind is None:
        return RuntimeError(message["said"][0])
    return kind(*message["said"])
