"""Previews: the newest one counts, frames are those of the same functions as a run's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from rerender import Clip, fit, load_model, open_video, parts, render
from rerender.config.sampling import Sampling
from rerender.errors import InputError
from rerender.scene import Watch
from rerender.studio import preview
from rerender.studio.frames import jpeg
from rerender.studio.preview import frames, serve_previews
from rerender.studio.previews import LOST, Previews
from rerender.studio.settings import StudioSettings, few_steps, preview_of
from tests.codec.making import make, pictures
from tests.studio.conftest import added
from tests.studio.test_runs import until


class Maker:
    """What stands in for the process that makes previews."""

    def __init__(self) -> None:
        self.ends: list[Connection] = []

    def connect(self) -> Connection:
        ours, theirs = Pipe()
        self.ends.append(theirs)
        return ours

    def asked(self) -> dict[str, Any]:
        assert self.ends[-1].poll(60)
        found: dict[str, Any] = json.loads(self.ends[-1].recv_bytes())
        return found

    def says(self, data: bytes = b"", **head: Any) -> None:
        self.ends[-1].send_bytes(json.dumps(head).encode() + b"\n" + data)


def test_the_newest_preview_counts_and_none_is_made_twice() -> None:
    maker = Maker()
    previews = Previews(maker.connect)
    first = previews.ask(["data=video"], {"prompt": "oil"})
    number = maker.asked()["number"]
    maker.says(b"one", number=number, frame=0)
    assert previews.state(first, 0, 60) == {"id": first, "frames": 1, "end": None}
    assert previews.ask(["data=video"], {"prompt": "oil"}) == first  # under way
    previews.ask(["data=demo"], {}, idle=True)  # to get warm, which nobody needs any more
    assert previews.state(first, 0, 0)["end"] is None
    second = previews.ask(["data=video"], {"prompt": "neon"})
    assert previews.state(first, 1, 60)["end"] == "stopped"
    later = maker.asked()
    assert later["values"] == {"prompt": "neon"} and len(maker.ends) == 1
    maker.says(b"late", number=number, frame=1)  # of the one that nobody waits for
    maker.says(b"neon", number=later["number"], frame=0)
    maker.says(number=later["number"], end="")
    until(lambda: previews.state(second, 0, 0)["end"] == "")
    assert previews.frame(second, 0) == b"neon"
    assert previews.ask(["data=video"], {"prompt": "neon"}) == second  # whole
    again = previews.ask(["data=video"], {"prompt": "oil"})
    assert again == first and maker.asked()["values"] == {"prompt": "oil"}
    assert previews.state(first, 0, 0)["frames"] == 0
    previews.stop()  # a run begins
    assert previews.state(first, 0, 60)["end"] == "stopped" and maker.asked() == {}
    for wrong in (lambda: previews.frame(first, 0), lambda: previews.state("x", 0, 0)):
        with pytest.raises(InputError):
            wrong()


def test_a_killed_process_is_said_and_another_one_is_asked() -> None:
    maker = Maker()
    previews = Previews(maker.connect)
    first = previews.ask([], {"prompt": "oil"})
    maker.asked()
    maker.ends[-1].close()
    assert previews.state(first, 0, 60)["end"] == LOST
    previews.ask([], {"prompt": "oil"})
    assert maker.asked()["values"] == {"prompt": "oil"} and len(maker.ends) == 2
    previews.close()
    with pytest.raises(EOFError):
        maker.ends[-1].recv_bytes()  # which ends it


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make(tmp_path / "cat.mp4", pictures(7))


SMALL = ["model=tiny", "data=video", "keyframes.interval=3", "propagation=warp", "data.size=48"]
FEW = ["sampling.steps=3", "constraint=[cross_frame]", "metrics=[]", "tracker=none"]


def test_its_frames_are_those_of_the_method(film: Path) -> None:
    values = {"prompt": "a cat, 'sitting' ${x}", "sampling.strength": None, "seed": 3}
    values["negative_prompt"] = "rain"
    made = list(frames([*SMALL, *FEW, f"data.path={film}"], values, Watch()))
    model = load_model("tiny")
    video = fit(open_video(film), 48, model.size_multiple)
    clip = Clip("cat", video, prompt=str(values["prompt"]), negative_prompt="rain")
    chosen = parts("model=tiny", *SMALL[2:4], *FEW[:2], "sampling.strength=null")
    truth = list(render(clip, model, chosen, 3))
    assert len(made) == len(truth) == 7
    assert all(torch.equal(one, other) for one, other in zip(made, truth, strict=True))


def test_a_newer_request_ends_the_one_before_it(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Pipe()
    newer, made = threading.Event(), count()

    def held(image: torch.Tensor) -> bytes:
        if next(made):  # the first preview is at its second frame when the newer one is asked for
            assert newer.wait(120)
        return jpeg(image)

    monkeypatch.setattr(preview, "jpeg", held)
    server = threading.Thread(target=serve_previews, args=(theirs,))
    server.start()

    def ask(number: int, **more: Any) -> None:
        arguments = [*SMALL, *FEW, f"data.path={film}"]
        asked = {"number": number, "arguments": arguments, "values": {"prompt": "oil", **more}}
        ours.send_bytes(json.dumps(asked).encode())

    def answers() -> Iterator[tuple[dict[str, Any], bytes]]:
        while ours.poll(120):
            head, _, data = ours.recv_bytes().partition(b"\n")
            yield json.loads(head), data

    ask(1)
    heard = answers()
    head, data = next(heard)
    assert (head, data[:2]) == ({"number": 1, "frame": 0}, b"\xff\xd8")
    ask(2, prompt="neon")
    newer.set()
    said = []
    for head, _ in heard:
        said.append(head)
        if head == {"number": 2, "end": ""}:
            break
    assert {"number": 1, "end": "stopped"} in said
    assert [each["frame"] for each in said if each["number"] == 2 and "frame" in each] == [
        *range(7)
    ]
    ask(3, **{"sampling.strength": 7})
    assert "sampling.strength" in next(heard)[0]["end"]
    ours.close()
    server.join(120)
    assert not server.is_alive()


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.5, 0.7, 0.75, 0.8, 0.9, 1.0])
def test_few_steps_begin_where_many_would(strength: float) -> None:
    steps = few_steps(strength)
    executed = steps - Sampling(steps=steps, strength=strength, guidance=1.0).skipped()
    assert 4 <= executed <= 6
    assert 0 <= strength - executed / steps < 0.08


def test_what_a_preview_leaves_out() -> None:
    ranges = [{"first": 5, "last": 9, "prompt": "neon", "strength": 0.5}]
    given = {"clip": "0" * 16, "prompt": "oil", "start": 7, "source_size": True, "ranges": ranges}
    small, keys = preview_of(StudioSettings.of(given), 0.75, small=256)
    assert (small.prompt, small.ranges, small.source_size, small.frames) == ("neon", [], False, 21)
    assert (small.size, small.preset, keys["sampling.strength"]) == (128, "turbo", 0.5)
    other, keys = preview_of(StudioSettings.of({**given, "ranges": []}), None, small=None)
    assert (other.size, other.preset, keys) == (
        None,
        "fast",
        {"sampling.batch_size": 1, "sampling.strength": None},
    )


def test_there_is_none_without_the_warm_process(client: Any, film: Path) -> None:
    assert client.get("/api/about").json()["preview"] is False
    clip = added(client, film.read_bytes())
    answer = client.post("/api/previews", json={"clip": clip, "prompt": "oil"}).json()
    assert "press Restyle" in answer["refused"]
    assert client.get("/api/previews/0123456789abcdef").status_code == 400
