"""Propagation by a program `ebsynth` that the user has installed."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
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

from rerender import files
from rerender.contracts import FlowEstimator, Propagation
from rerender.errors import ConfigError, InputError, ResourceError
from rerender.flow._sample import grid, sample
from rerender.kinds import Program
from rerender.propagation.blending.blend import Blend, Guess, Soft
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches.guides import Guides, edges
from rerender.propagation.patches.merge import Plane, error
from rerender.propagation.patches.synthesis import Images, synthesised
from rerender.video import Segment

LOG = logging.getLogger(__name__)

SMALLEST = 11
"""Frames with a shorter side crash the program: its pyramid then has no level (it ends at twice the
patch and one)."""

WHERE = "propagation.program"
BY_HAND = "run it by hand to see what is wrong"


@dataclass(frozen=True)
class EbSynth(Propagation):
    """Runs EbSynth (Jamriška et al. 2019) for each frame and direction, with the paper's guides.

    The released program does not tell its errors, so blending goes by how well flow explains the
    source. The paper's authors run one that does, in a file ``.bin`` beside its picture: those are
    used where they are found.

    Attributes:
        program: name or path of the program. Named by path, its content decides stage keys too.
        guides: weights of the guides.
        votes: its ``-searchvoteiters``.
        sweeps: its ``-patchmatchiters``.
        uniformity: its ``-uniformity``.
        threads: of the program on the processor. Its answers are the same every time with 1 only.
        timeout: seconds for one frame.
        blend: how the two directions become one.

    Raises:
        ConfigError: by ``check`` and ``fill``, where there is no such program.
        InputError: by ``fill``, where frames are too small for it.
        ResourceError: it fails, takes too long or makes no picture of the right size.
    """

    program: Program = "ebsynth"
    guides: Guides = field(default_factory=Guides)
    votes: Annotated[int, Field(ge=1, le=1000)] = 12
    sweeps: Annotated[int, Field(ge=1, le=1000)] = 6
    uniformity: Annotated[float, Field(ge=0)] = 3500.0
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    timeout: Annotated[float, Field(gt=0)] = 600.0
    blend: Blend = field(default_factory=Soft)

    def check(self) -> None:
        located(self.program)

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        height, width = segment.video.size
        if min(height, width) < SMALLEST:
            problem = f"ebsynth needs {SMALLEST} pixels a side, received {height}x{width}"
            raise InputError("video", problem, "raise data.size or take another propagation")
        LOG.info("ebsynth: %s", version(located(self.program)))
        yield from synthesised(segment, flow, self.blend, self.made)

    def made(self, images: Images, index: int) -> Guess:
        """One frame, and its error: the program's own, or how well flow explains the source."""
        image, errors = self.run(images)
        if errors is None:
            moved = sample(images.source, images.offset, cv2.INTER_CUBIC)
            return Guess(image, error(moved, images.target))
        # From sums over a patch to the mean squared level of a colour channel.
        return Guess(image, errors / np.float32(25 * self.guides.colour))

    def pictures(self, images: Images) -> list[tuple[Pixels, Pixels, float]]:
        """The guides: at the key frame, at the frame, and their weight."""
        source, target, offset = images.source, images.target, images.offset
        return [
            (source, target, self.guides.colour),
            (edges(source), edges(target), self.guides.edge),
            (images.style, images.before, self.guides.temporal),
            (ramps(np.zeros_like(offset)), ramps(offset), self.guides.position),
        ]

    def run(self, images: Images) -> tuple[Pixels, Plane | None]:
        """One call of the program: its picture, and its errors if it tells them."""
        with files.scratch_folder() as place:
            command = [located(self.program), "-style", written(place / "style.png", images.style)]
            command += ["-weight", str(self.guides.style)]
            for number, (here, there, weight) in enumerate(self.pictures(images)):
                command += ["-guide", written(place / f"{number}-key.png", here)]
                command += [written(place / f"{number}-frame.png", there), "-weight", str(weight)]
            command += ["-searchvoteiters", str(self.votes), "-patchmatchiters", str(self.sweeps)]
            command += ["-uniformity", str(self.uniformity), "-output", str(place / "output.png")]
            said = self.call(command)
            image = self.read(place / "output.png", images.style, said)
            return image, told(place / "output.bin", image)

    def call(self, command: Sequence[str]) -> str:
        """Run the program to its end and return what it said, or say why not."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        # A file, not a pipe: what a killed wrapper script leaves running would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=self.timeout,
                    env=environment,
                    check=False,
                )
            except subprocess.TimeoutExpired as late:
                limit = f"takes more than {self.timeout:g} s for one frame"
                raise ResourceError(WHERE, limit, "raise propagation.timeout") from late
            except OSError as refused:
                raise ConfigError(WHERE, f"cannot be run: {refused.strerror}", BY_HAND) from refused
            output.seek(0)
            said = excerpt(output.read().decode(errors="replace"))
        if done.returncode != 0:
            problem = f"{command[0]} {ending(done.returncode)}: {said}"
            raise ResourceError(WHERE, problem, BY_HAND)
        return said

    def read(self, path: Path, like: Pixels, said: str) -> Pixels:
        """The picture that the program made: grey ones have one channel."""
        made = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
        if made is None or made.shape != like.shape:
            problem = f"{self.program} ended well but made no picture of the right size: {said}"
            raise ResourceError(WHERE, problem, BY_HAND)
        return np.ascontiguousarray(made[..., ::-1]).astype(np.float32)


def told(path: Path, image: Pixels) -> Plane | None:
    """The errors that the program wrote, ``[H,W]``: their number in 8 bytes, then floats."""
    if not path.is_file():
        return None
    data, shape = path.read_bytes(), image.shape[:2]
    count = shape[0] * shape[1]
    if len(data) != 8 + 4 * count or int.from_bytes(data[:8], "little") != count:
        problem = f"wrote {len(data)} bytes of errors for a picture of {shape[0]}x{shape[1]}"
        raise ResourceError(WHERE, problem, BY_HAND)
    return np.frombuffer(data, "<f4", offset=8).reshape(shape).astype(np.float32)


def excerpt(said: str) -> str:
    """What tells why a program failed: its lines of errors, or else its last words."""
    lines = said.strip().splitlines()
    return " ".join([line for line in lines if "error" in line.lower()] or lines)[-200:]


def ending(code: int) -> str:
    """How a program ended, by its return code."""
    if code >= 0:
        return f"ends with code {code}"
    try:
        return f"is ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"is ended by signal {-code}"


def located(program: str) -> str:
    """The full path of the program."""
    found = shutil.which(program)
    if found is None and Path(program).is_file():
        raise ConfigError(WHERE, f"{program!r} may not be executed", "chmod +x")
    if found is None:
        cure = "install ebsynth, or set propagation.program to its path"
        raise ConfigError(WHERE, f"no program {program!r} is found", cure)
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
    files.put(path, data.tobytes())
    return str(path)


def ramps(offset: NDArray[np.float32]) -> Pixels:
    """Where each pixel comes from, as two ramps over the key frame; blue is 0."""
    height, width = offset.shape[:2]
    where = (grid(height, width) + offset) * np.array(
        [255 / max(width - 1, 1), 255 / max(height - 1, 1)], np.float32
    )
    picture: Pixels = np.dstack([where.clip(0, 255), np.zeros((height, width, 1), np.float32)])
    return picture
