"""Small results and the votes of people who do not exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.study import invitations
from experiments.study.votes import KEY, StudyKey, read_key
from rerender import files
from rerender.codec import encode
from rerender.data.demo import Demo
from rerender.run_folder import STUDY
from rerender.video import MemoryVideo

SEEDS, FRAMES, SIZE = (1000000, 1000001), 12, 64
DATA = [f"data.seeds=[{SEEDS[0]},{SEEDS[1]}]", f"data.frames={FRAMES}", f"data.size={SIZE}"]
LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "unchanged": lambda image: image,
    "inverted": lambda image: 1 - image,
    "colourless": lambda image: image.mean(0, keepdim=True).expand(3, -1, -1),
}


def put_results(root: Path, names: Sequence[str] = ()) -> None:
    """Three methods, two clips of the demo world."""
    clips = Demo(seeds=SEEDS, frames=FRAMES, size=SIZE).clips()
    for name, look in zip(names or LOOKS, LOOKS.values(), strict=False):
        for clip in clips:
            frames = [look(clip.video[index]).contiguous() for index in range(FRAMES)]
            with files.writing(root / name / f"{clip.name}.mp4") as file:
                encode(frames, MemoryVideo(frames), file)


def key_of(root: Path) -> StudyKey:
    return read_key(root / STUDY / KEY)


Chooser = Callable[[int, str, int, int], int]
"""(person, question, method on the left, on the right) -> the method that is chosen."""


def ballot(key: StudyKey, person: int, choose: Chooser, attentive: bool = True) -> dict[str, Any]:
    """The file that the page would save."""
    votes: list[invitations.Vote] = []
    for trial, pairing in enumerate(key.plans[person]):
        for question in key.questions:
            if pairing.check:
                wrong = {"left": "right", "right": "left"}[pairing.check]
                side = pairing.check if attentive else wrong
            else:
                chosen = choose(person, question, pairing.left, pairing.right)
                side = "left" if chosen == pairing.left else "right"
            votes.append((trial, question, side, 1500))
    code = key.codes[person]
    return {
        "format": invitations.FORMAT,
        "study": key.study,
        "person": invitations.person_id(code),
        "votes": [list(vote) for vote in votes],
        "seal": invitations.seal(code, key.study, votes),
    }


def put_votes(folder: Path, name: str, found: dict[str, Any]) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(found))
    return path
