"""What the studio takes, refuses and answers."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rerender import files
from rerender.codec import open_video
from rerender.errors import ConfigError, ResourceError
from rerender.propagate_keys import main as propagate
from rerender.studio.plan import model_of
from tests.studio.conftest import HOST, added, serving


def test_an_upload_is_a_clip_whatever_its_name(client: Any, film: bytes, place: Path) -> None:
    answer = client.post(
        "/api/clips", params={"name": "../../.ssh/<img src=x>\x00 Kätzchen.MP4"}, content=film
    )
    facts = answer.json()
    assert (facts["frames"], facts["width"], facts["height"], facts["rate"]) == (21, 64, 48, 25)
    assert facts["file"] == "img-src-x-Kätzchen.mp4"
    kept = [path for path in place.rglob("*") if path.is_file() and path.name != "made.mp4"]
    assert {path.parent for path in kept} == {place / "outputs/studio/clips" / facts["id"]}
    assert added(client, film, "again.mov") == facts["id"]  # the same content is the same clip
    assert [clip["id"] for clip in client.get("/api/clips").json()] == [facts["id"]]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("run.sh", bytes, "run.sh: is no video file"),
        ("", bytes, "upload: is no video file"),
        ("text.mp4", lambda film: b"#EXTM3U\nfile:///etc/passwd\n", "text.mp4: "),
        ("half.mp4", lambda film: film[: len(film) // 2], "half.mp4: "),
    ],
)
def test_what_is_no_whole_video_is_refused_in_one_line(
    client: Any, film: bytes, place: Path, name: str, change: Any, said: str
) -> None:
    answer = client.post("/api/clips", params={"name": name}, content=change(film))
    assert answer.status_code == 400
    line = answer.json()["error"]
    assert line.startswith(said)
    assert "\n" not in line
    assert str(place) not in line
    assert not [path for path in (place / "outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("after", ["²", "٣", "9" * 5000, "-1", "x", ""])
def test_what_is_no_number_is_none(client: Any, after: str) -> None:
    answer = client.get("/api/previews/none", params={"after": after})
    assert answer.status_code < 500


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_over_the_limit_is_refused(place: Path, film: bytes, announced: bool) -> None:
    def blocks() -> Iterator[bytes]:
        yield from (film[i : i + 500] for i in range(0, len(film), 500))

    with serving(upload=2000) as client:
        content = film if announced else blocks()
        answer = client.post("/api/clips", params={"name": "cat.mp4"}, content=content)
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]
    assert not [path for path in (place / "outputs").rglob("*") if path.is_file()]


def test_a_frame_is_the_one_that_a_run_reads(client: Any, film: bytes, place: Path) -> None:
    clip = added(client, film)
    answer = client.get(f"/api/clips/{clip}/frames/7")
    assert answer.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=float)
    read = files.levels(open_video(place / "made.mp4")[7]).permute(1, 2, 0).numpy()
    other = files.levels(open_video(place / "made.mp4")[12]).permute(1, 2, 0).numpy()
    assert abs(shown - read).mean() < 3 < abs(shown - other).mean()
    refused = client.get(f"/api/clips/{clip}/frames/21")
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("frame: 21 is not in the clip of 21")


@pytest.mark.parametrize(
    "path",
    [
        "/api/clips/..%2f..%2f..%2fetc/frames/0",
        "/api/clips/0123456789abcdef/frames/0",
        "/api/runs/..%2fclips/video.mp4",
        "/api/runs/0123456789abcdef/keys/0",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/app.py",
        "/etc/passwd",
    ],
)
def test_nothing_else_of_the_machine_is_served(client: Any, path: str) -> None:
    assert client.get(path).status_code in (400, 404)


def test_every_file_of_the_page_is_served_and_names_no_other_host(client: Any) -> None:
    from rerender.studio.answers import PAGE

    for path in PAGE.iterdir():
        answer = client.get(f"/static/{path.name}")
        assert answer.status_code == 200
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and 'src="//' not in text, path
        assert "innerHTML" not in text, path
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "access-control-allow-origin" not in page.headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1", "127.0.0.1:80", "", "x@127.0.0.1:7860"],
)
def test_another_host_name_is_refused(client: Any, host: str) -> None:
    assert client.get("/api/clips", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", [HOST, "localhost:7860", "[::1]:7860", "LOCALHOST:7860"])
def test_names_of_this_machine_are_ours(client: Any, host: str) -> None:
    assert client.get("/api/clips", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"x-rerender-studio": ""},
    ],
)
def test_another_site_changes_nothing(
    client: Any, film: bytes, place: Path, headers: dict[str, str]
) -> None:
    answer = client.post("/api/clips", params={"name": "a.mp4"}, content=film, headers=headers)
    assert answer.status_code == 403
    assert not (place / "outputs").exists()
    assert (
        client.options("/api/clips", headers={"origin": "http://evil.example"}).status_code == 403
    )


def test_a_token_is_asked_for_once(place: Path) -> None:
    token = "a-token-of-some-length"
    with serving(token) as client:
        assert client.get("/").status_code == 401
        assert client.get("/api/clips").status_code == 401
        assert client.get("/", params={"token": "another"}).status_code == 401
        assert client.get("/api/clips", params={"token": token}).status_code == 401
        bearer = {"authorization": f"Bearer {token}"}
        assert client.get("/api/clips", headers=bearer).status_code == 200
        entered = client.get("/", params={"token": token})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/api/clips").status_code == 200  # by the cookie


def test_others_are_let_in_by_token_alone() -> None:
    from rerender.studio.main import token_for

    assert (
        token_for("127.0.0.1", None)
        is token_for("localhost", None)
        is token_for("::1", None)
        is None
    )
    made = token_for("0.0.0.0", None)
    assert made and len(made) >= 24 and made != token_for("0.0.0.0", None)
    for weak in ("", "short", "with a space in it, long", "ünïcödé-ünïcödé-ünïcödé"):
        with pytest.raises(ConfigError, match="--token"):
            token_for("127.0.0.1", weak)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (["data.path=a.mp4"], "data.path"),
        (["out=x"], "out"),
        (["+exp=smoke"], "exp"),
        (["sampling.stepz=3"], "sampling.stepz"),
        (["model=nothing"], "model"),
    ],
)
def test_settings_of_every_run_are_checked_at_once(settings: list[str], where: str) -> None:
    from rerender.studio.main import checked

    with pytest.raises(ConfigError, match=where):
        checked(settings)


def test_clips_of_one_s_own_are_drawn_by_the_model_for_them_unless_another_is_said() -> None:
    from rerender.studio.main import with_model

    assert with_model(["seed=3"]) == ["model=demo_natural", "seed=3"]
    assert with_model([]) == ["model=demo_natural"]
    for said in ("model=sd15", "model.path=FILE", "+model=tiny"):
        assert with_model([said]) == [said]
    about = {name: model_of((f"model={name}",)) for name in ("demo", "demo_natural", "tiny")}
    assert about["demo"]["small"] == 256 and about["tiny"]["small"] is None
    assert about["demo_natural"]["small"] in range(128, 513)
    assert about["demo_natural"]["styles"] == about["demo"]["styles"] and about["demo"]["styles"]


def test_a_port_in_use_is_said() -> None:
    from rerender.studio.main import listening

    with listening("127.0.0.1", 0) as taken, pytest.raises(ResourceError, match="--port"):
        listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="--host"):
        listening("no such host.invalid", 0)


def test_other_commands_load_nothing_of_the_studio() -> None:
    code = (
        "import sys; from rerender.run import main; code = main(['--version']);"
        "names = 'rerender.studio', 'starlette', 'uvicorn';"
        "print([name for name in sys.modules if name.startswith(names)])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")


def test_a_mask_is_a_picture_of_the_clips_shape(client: Any, film: bytes, place: Path) -> None:
    clip = added(client, film)

    def sent(image: Image.Image) -> Any:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return client.post(f"/api/clips/{clip}/masks", content=buffer.getvalue())

    painted = Image.new("L", (64, 48))
    painted.paste(255, (10, 10, 40, 30))
    name = sent(painted).json()["mask"]
    kept = np.asarray(Image.open(io.BytesIO(client.get(f"/api/clips/{clip}/masks/{name}").content)))
    assert np.array_equal(kept, np.asarray(painted))
    assert "is empty" in sent(Image.new("L", (64, 48))).json()["error"]
    assert "shape" in sent(Image.new("L", (48, 64), 255)).json()["error"]
    nothing = client.post(f"/api/clips/{clip}/masks", content=b"no picture")
    assert nothing.status_code == 400 and str(place) not in nothing.json()["error"]
    assert len(list(place.rglob("masks/*"))) == 1


def test_a_mended_key_frame_stands_among_those_of_its_run(
    client: Any, film: bytes, place: Path
) -> None:
    clip = added(client, film)
    asked = {"clip": clip, "prompt": "oil", "size": 48, "interval": 10, "start": 1}
    command = client.post("/api/command", json=asked).json()
    run, runs = command["id"], place / "outputs/studio/runs"
    for number in (0, 10, 19):  # as if it had been made
        image = Image.new("RGB", (64, 64), (number, 0, 0))  # as a model's multiples may have it
        (runs / run / "keys").mkdir(parents=True, exist_ok=True)
        image.save(runs / run / "keys" / f"{number:06d}.png")
    facts = {"clip": clip, "settings": asked, "arguments": command["arguments"], "time": 0.0}
    files.put_json(runs / f"{run}.json", facts)

    def sent(number: int, image: Image.Image) -> Any:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return client.post(f"/api/runs/{run}/keys/{number}", content=buffer.getvalue())

    mended = sent(10, Image.new("RGB", (128, 96), (0, 200, 0)))
    assert mended.status_code == 201
    settings = mended.json()
    assert {**settings, "keys": ""} == {**asked, "keys": ""}
    kept = sorted((place / "outputs/studio/clips" / clip / "keys" / settings["keys"]).iterdir())
    assert [path.name for path in kept] == ["000000.png", "000010.png", "000019.png"]
    pictures = [Image.open(io.BytesIO(path.read_bytes())) for path in kept]
    assert [each.getpixel((5, 5)) for each in pictures] == [(0, 0, 0), (0, 200, 0), (19, 0, 0)]
    assert {each.size for each in pictures} == {(64, 48)}
    plan = client.post("/api/plan", json=settings).json()
    assert plan["shots"] == [[1, 11, 20]]
    assert "keyframes=folder" in plan["arguments"]
    more = sent(5, Image.new("RGB", (64, 48)))  # painted where there was none
    kept = (place / "outputs/studio/clips" / clip / "keys" / more.json()["keys"]).iterdir()
    assert sorted(int(path.stem) for path in kept) == [0, 5, 10, 19]
    assert "another" in sent(20, Image.new("RGB", (64, 48))).json()["error"]
    whole = client.get(f"/api/runs/{run}/keys/19", params={"whole": ""})
    assert Image.open(io.BytesIO(whole.content)).size == (64, 48)
    assert "the clip is 64x48" in sent(0, Image.new("RGB", (48, 64))).json()["error"]


def test_frames_to_paint_next_are_those_of_the_command(
    client: Any, film: bytes, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = added(client, film)
    asked = {"clip": clip, "prompt": "oil", "size": 48, "interval": 10, "start": 1, "frames": 18}
    command = client.post("/api/command", json=asked).json()
    run, runs = command["id"], place / "outputs/studio/runs"
    facts = {"clip": clip, "settings": asked, "arguments": command["arguments"], "time": 0.0}
    files.put_json(runs / f"{run}.json", facts)
    assert "no key frames" in client.get(f"/api/runs/{run}/suggestions").json()["error"]
    for number in (0, 10):
        (runs / run / "keys").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(runs / run / "keys" / f"{number:06d}.png")
    found = client.get(f"/api/runs/{run}/suggestions").json()
    assert len({each["frame"] for each in found}) == 4
    assert all(0 < each["frame"] < 18 and each["frame"] != 10 for each in found)
    video = next((place / "outputs/studio/clips" / clip).glob("*.mp4"))
    line = ["--keys", str(runs / run / "keys"), "--video", str(video), "--suggest", "4"]
    assert propagate([*line, "--out", "next.png", "data.start=1", "data.frames=18"]) == 0
    said = capsys.readouterr().out.splitlines()
    lines = [f"frame {each['frame']}: {each['gain']:+.2f} dB; lies in frames" for each in found]
    assert [line.split(" lies")[0] for line in said[:4]] == [
        line.split(" lies")[0] for line in lines
    ]


def test_a_file_that_is_taken_away_before_it_is_sent_is_said_to_be_gone(place: Path) -> None:
    """A run that is made again, or another page that forgets it, takes it away meanwhile."""
    from starlette.testclient import TestClient

    from rerender.studio.app import application

    app = application(Path("outputs/studio"), (), 2**20)
    app.state.studio.runs.file = lambda run, name: place / "gone.png"
    answer = TestClient(app).get("/api/runs/0000000000000000/sheet.png")
    assert answer.status_code == 400
    assert "is gone since it was asked for" in answer.json()["error"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--folder=mine"], 2, "mine is a file"),
        (["--folder=mine/below"], 2, "mine is a file"),
        (["model.device=cuda:7"], 2, "model.device: there is no cuda:7 here"),
        (["devices=[cpu,cuda:7]"], 2, "devices: there is no cuda:7 here"),
    ],
)
def test_what_no_run_could_have_is_refused_before_the_page_is_served(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rerender.studio import main

    monkeypatch.setattr(main, "listening", lambda *more: pytest.fail("it listens"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"mine")
    assert main.main(["--port=0", *arguments]) == code
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
