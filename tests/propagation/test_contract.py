"""What every propagation owes, for each yaml of conf/propagation; none needs to be named here."""

from __future__ import annotations

import cv2
import pytest
import torch
import yaml
from torch import Tensor

from rerender.config.build import build
from rerender.config.paths import CONF
from rerender.contracts import Propagation
from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.video import MemoryVideo
from tests.propagation.scenes import keys, moving, still, texture

CHOICES = sorted(path.stem for path in (CONF / "propagation").glob("*.yaml"))
EXTERNAL = {"ebsynth"}  # needs a program that is not ours
OWN = [name for name in CHOICES if name not in EXTERNAL]


def choice(name: str) -> Propagation:
    node = yaml.safe_load((CONF / "propagation" / f"{name}.yaml").read_text(encoding="utf-8"))
    part = build(node, "propagation")
    assert isinstance(part, Propagation)
    return part


def run(name: str, video: MemoryVideo, indices: list[int], ahead: int = 1) -> list[Tensor]:
    return list(propagate(video, keys(video, indices), choice(name), Dis(), ahead=ahead))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(("size", "indices"), [((33, 49), [0, 4, 5]), ((48, 31), [2])])
def test_key_frames_count_and_range(name: str, size: tuple[int, int], indices: list[int]) -> None:
    video = moving(7, *size)
    images = run(name, video, indices)
    assert len(images) == 7
    for index, image in enumerate(images):
        assert image.shape == (3, *size) and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1
        assert index not in indices or torch.equal(image, 1 - video[index])


@pytest.mark.parametrize("name", [name for name in OWN if name != "published"])
def test_a_still_clip_stays_still(name: str) -> None:
    video = still(5)
    _, *between, last = run(name, video, [0, 4])
    for image in between:
        assert (image - between[0]).abs().max() < 0.5 / 255
        assert name == "source_mix" or (image - last).abs().max() < 0.5 / 255


@pytest.mark.parametrize("name", OWN)
def test_same_bytes_twice_and_on_two_threads(name: str) -> None:
    video = moving(8, 40, 56)
    once = run(name, video, [0, 4, 7])
    cv2.setNumThreads(2)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = run(name, video, [0, 4, 7], ahead=2)
    finally:
        torch.set_num_threads(torch_threads)
    assert all(map(torch.equal, once, again))


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("hold", "source_mix")])
def test_a_known_motion_is_followed(name: str) -> None:
    video = moving(7, 64, 96, speed=2)
    images = run(name, video, [0, 6])
    held = run("hold", video, [0, 6])

    def error(images: list[Tensor]) -> float:
        truth = 1 - video[3]
        return float((images[3] - truth)[:, 12:-12, 16:-16].square().mean())

    assert error(images) < 0.1 * error(held)


@pytest.mark.parametrize("name", OWN)
def test_frames_after_the_last_key_are_made_one_at_a_time(name: str) -> None:
    read: list[int] = []

    class Endless(MemoryVideo):
        def __getitem__(self, index: int) -> Tensor:
            read.append(index)
            return super().__getitem__(index)

    video = Endless([texture(24, 32)] * 500)
    images = propagate(video, keys(video, [0]), choice(name), Dis())
    for _ in range(3):
        next(images)
    assert max(read) <= 3
