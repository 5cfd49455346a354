"""Propagation by a program `ebsynth` that the user has installed."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rerender import store
from rerender.contracts import FlowEstimator, Propagation
from rerender.errors import ConfigError, ResourceError
from rerender.flow.sample import grid, sample
from rerender.propagation.blend import Blend, Guess, Soft
from rerender.propagation.guides import Guides, edges
from rerender.propagation.merge import error
from rerender.propagation.pixels import Pixels
from rerender.propagation.synthesis import Images, synthesised
from rerender.video import Segment

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EbSynth(Propagation):
    """Runs EbSynth (Jamriška et al. 2019) for each frame and direction, with the paper's guides.

    The released program does not tell its errors, so blending goes by how well flow explains the
    source.

    Attributes:
        program: name or path of the program.
        guides: weights of the guides.
        votes: its ``-searchvoteiters``.
        sweeps: its ``-patchmatchiters``.
        uniformity: its ``-uniformity``.
        timeout: seconds for one frame.
        blend: how the two directions become one.

    Raises:
        ConfigError: by ``fill``, where there is no such program.
        ResourceError: it fails, takes too long or makes no picture of the right size.
    """

    program: str = "ebsynth"
    guides: Guides = field(default_factory=Guides)
    votes: Annotated[int, Field(ge=1, le=1000)] = 12
    sweeps: Annotated[int, Field(ge=1, le=1000)] = 6
    uniformity: Annotated[float, Field(ge=0)] = 3500.0
    timeout: Annotated[float, Field(gt=0)] = 600.0
    blend: Blend = field(default_factory=Soft)

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        LOG.info("ebsynth: %s", version(located(self.program)))
        yield from synthesised(segment, flow, self.blend, self.made)

    def made(self, images: Images, index: int) -> Guess:
        """One frame, and how well flow explains its source."""
        moved = sample(images.source, images.offset, cv2.INTER_CUBIC)
        return Guess(self.run(images), error(moved, images.target))

    def pictures(self, images: Images) -> list[tuple[Pixels, Pixels, float]]:
        """The guides: at the key frame, at the frame, and their weight."""
        source, target, offset = images.source, images.target, images.offset
        return [
            (source, target, self.guides.colour),
            (edges(source), edges(target), self.guides.edge),
            (images.style, images.before, self.guides.temporal),
            (ramps(np.zeros_like(offset)), ramps(offset), self.guides.position),
        ]

    def run(self, images: Images) -> Pixels:
        """One call of the program."""
        with tempfile.TemporaryDirectory(prefix="rerender-") as folder:
            place = Path(folder)
            command = [located(self.program), "-style", written(place / "style.png", images.style)]
            command += ["-weight", str(self.guides.style)]
            for number, (here, there, weight) in enumerate(self.pictures(images)):
                command += ["-guide", written(place / f"{number}-key.png", here)]
                command += [written(place / f"{number}-frame.png", there), "-weight", str(weight)]
            command += ["-searchvoteiters", str(self.votes), "-patchmatchiters", str(self.sweeps)]
            command += ["-uniformity", str(self.uniformity), "-output", str(place / "output.png")]
            self.call(command)
            return self.read(place / "output.png", images.style)

    def call(self, command: Sequence[str]) -> None:
        """Run the program to its end, or say why not."""
        where, cure = "propagation.program", "run it by hand to see what is wrong"
        try:
            done = subprocess.run(command, capture_output=True, timeout=self.timeout, check=False)
        except subprocess.TimeoutExpired as late:
            limit = f"takes more than {self.timeout:g} s for one frame"
            raise ResourceError(where, limit, "raise propagation.timeout") from late
        except OSError as refused:
            raise ConfigError(where, f"cannot be run: {refused.strerror}", cure) from refused
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()[-200:]
            problem = f"{command[0]} ends with code {done.returncode}: {said}"
            raise ResourceError(where, problem, cure)

    def read(self, path: Path, like: Pixels) -> Pixels:
        """The picture that the program made."""
        made = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
        if made is None or made.shape != like.shape:
            problem = f"{self.program} ended well but made no picture of the right size"
            cure = "run it by hand to see what is wrong"
            raise ResourceError("propagation.program", problem, cure)
        return np.ascontiguousarray(made[..., ::-1]).astype(np.float32)


def located(program: str) -> str:
    """The full path of the program."""
    found = shutil.which(program)
    if found is None:
        cure = "install ebsynth, or set propagation.program to its path"
        raise ConfigError("propagation.program", f"no program {program!r} is found", cure)
    return found


@lru_cache(maxsize=4)
def version(path: str) -> str:
    """What there is to know of a program that tells no version: its path, size and digest."""
    data = Path(path).read_bytes()
    return f"{path}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}"


def written(path: Path, picture: Pixels) -> str:
    """The path of a picture saved as png."""
    whole = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".png", whole[..., ::-1])
    store.put(path, data.tobytes())
    return str(path)


def ramps(offset: NDArray[np.float32]) -> Pixels:
    """Where each pixel comes from, as two ramps over the key frame; blue is 0."""
    height, width = offset.shape[:2]
    where = (grid(height, width) + offset) * np.array(
        [255 / max(width - 1, 1), 255 / max(height - 1, 1)], np.float32
    )
    picture: Pixels = np.dstack([where.clip(0, 255), np.zeros((height, width, 1), np.float32)])
    return picture
