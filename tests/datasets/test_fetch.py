"""Data sets: fetched in pieces, verified, unpacked; every refusal names what to do instead."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rerender import files
from rerender.config.compose import preflight
from rerender.config.paths import CONF
from rerender.datasets import download as net
from rerender.datasets.archive import ArchiveError
from rerender.datasets.download import download
from rerender.datasets.fetch import fetch, main
from rerender.datasets.manifest import DatasetManifest, manifest
from rerender.errors import ConfigError, InputError
from tests.datasets import genuine
from tests.datasets.test_archive import tarred, zipped

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
FILES = {"set/a/00.png": PNG, "set/a/01.png": PNG, "set/b/00.png": PNG, "set/LICENSE": b"free"}
OK = "licence=accept"
BASE = DatasetManifest(name="toy", licence="CC0", attribution="nobody", inside=("set",))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return zipped(tmp_path / "toy.zip", FILES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(path: Path, body: str) -> Path:
    path.write_text(f"name: toy\nlicence: CC0\nattribution: nobody\ninside: [set]\n{body}\n")
    return path


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file; may stop in the middle, ignore ranges or answer with an error."""

    data: ClassVar[bytes] = b""
    stop_after: ClassVar[list[int]] = []
    ranges: ClassVar[bool] = True
    errors: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.asked.append(wanted)
        if self.errors:
            self.send_error(self.errors.pop(0))
            return
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if start > len(self.data):
            self.send_error(416)
            return
        rest = self.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.stop_after.pop(0)] if self.stop_after else rest)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def host(archive: Path) -> Iterator[str]:
    Server.data, Server.ranges = archive.read_bytes(), True
    for several in (Server.stop_after, Server.errors, Server.asked):
        several.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/toy.zip"
        server.shutdown()


def got(url: str, target: Path, size: int | None = None) -> bytes:
    return download(url, target, size, lambda have, total: None, pause=0.0).read_bytes()


# -- download -------------------------------------------------------------------------------------


def test_an_interrupted_download_goes_on_where_it_stopped(host: str, tmp_path: Path) -> None:
    Server.stop_after[:] = [100, 50]
    assert got(host, tmp_path / "got.zip") == Server.data
    assert Server.asked == ["", "bytes=100-", "bytes=150-"]
    assert not (tmp_path / "got.zip.part").exists()


def test_a_host_without_ranges_starts_again(host: str, tmp_path: Path) -> None:
    Server.ranges = False
    (tmp_path / "got.zip.part").write_bytes(b"wrong")
    assert got(host, tmp_path / "got.zip") == Server.data


def test_a_part_longer_than_the_file_is_thrown_away(host: str, tmp_path: Path) -> None:
    (tmp_path / "got.zip.part").write_bytes(bytes(len(Server.data) + 1))
    assert got(host, tmp_path / "got.zip") == Server.data


def test_errors_of_the_host_are_tried_again_and_others_are_not(host: str, tmp_path: Path) -> None:
    Server.errors[:] = [503, 500]
    assert got(host, tmp_path / "got.zip") == Server.data
    Server.errors[:] = [404]
    Server.asked.clear()
    with pytest.raises(ArchiveError, match=r"404 .*archive=PATH"):
        got(host, tmp_path / "other.zip")
    assert len(Server.asked) == 1


def test_after_so_many_tries_what_came_is_kept(host: str, tmp_path: Path) -> None:
    Server.stop_after[:] = [10] * net.TRIES
    with pytest.raises(ArchiveError, match="go on where it stopped"):
        got(host, tmp_path / "got.zip")
    assert (tmp_path / "got.zip.part").stat().st_size == 10 * net.TRIES


def test_another_length_than_the_manifest_says_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="the manifest says 7"):
        got(host, tmp_path / "got.zip", 7)


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "data:,x"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither http nor https"):
        got(url, tmp_path / "x")


def test_a_host_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"^http://127.0.0.1:9/x: cannot be fetched"):
        got("http://127.0.0.1:9/x", tmp_path / "x")


def test_a_host_that_never_answers_is_given_up_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net, "PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4)
        with pytest.raises(ArchiveError, match="cannot be reached"):
            net.reach(f"http://127.0.0.1:{silent.getsockname()[1]}/x.zip")


def test_a_name_server_that_never_answers_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "PATIENCE", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: time.sleep(5))
    with pytest.raises(ArchiveError, match="no answer within"):
        net.reach("http://nowhere.invalid/x.zip")


# -- fetch ----------------------------------------------------------------------------------------


def test_a_data_set_is_fetched_verified_and_unpacked(
    host: str, here: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(here / "toy.yaml", f"url: {host}\nsha256: {digest(archive)}\ncount: 2")
    assert main([f"data={file}", OK]) == 0
    said = capsys.readouterr().out
    assert "2 clips" in said and "licence: CC0" in said and "data.path=datasets/toy " in said
    assert (here / "datasets/toy/set/a/01.png").read_bytes() == PNG
    facts = json.loads((here / "datasets/toy/source.json").read_text())
    assert (facts["sha256"], facts["clips"]) == (digest(archive), ["a", "b"])
    assert sorted(path.name for path in (here / "datasets").iterdir()) == ["toy"]
    Server.asked.clear()
    assert main([f"data={file}", OK]) == 0
    assert Server.asked == [], "nothing is fetched twice"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_an_archive_on_disk_is_used_where_it_is(form: str, here: Path, archive: Path) -> None:
    file = written(here / "toy.yaml", "url: null")
    assert main([f"data={file}", f"archive={form.format(archive)}", OK]) == 0
    assert archive.is_file()
    assert (here / "datasets/toy/set/b/00.png").is_file()


def test_prompts_become_a_table_that_a_folder_reads(here: Path, archive: Path) -> None:
    prompts = {"a": {"prompt": "a, cat"}, "b": {"prompt": "dog", "source_prompt": "wolf"}}
    out = fetch(replace(BASE, prompts=prompts), archive, None, here / "toy")
    from rerender.config.job import Job

    said = [f"data.path={out}", f"data.prompts={out / 'set.yaml'}", "data.size=16"]
    job = Job.of(preflight(["data=folder", *said]).jobs[0])
    found = [(clip.name, clip.prompt, clip.source_prompt) for clip in job.data.clips()]
    assert found == [("a", "a, cat", ""), ("b", "dog", "wolf")]


def test_a_hash_that_differs_refuses_and_leaves_nothing(host: str, here: Path) -> None:
    wanted = replace(BASE, url=host, sha256="0" * 64)
    with pytest.raises(ArchiveError, match="expected 000000000000; it was removed"):
        fetch(wanted, None, None, here / "toy")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.zip", "http://nowhere.invalid/x.zip"])
def test_without_a_network_nothing_is_made(
    url: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it was tried again"))
    file = written(here / "toy.yaml", f"url: {url}\nsha256: {'a' * 64}")
    assert main([f"data={file}", OK]) == 4
    *shown, message = capsys.readouterr().err.splitlines()
    assert shown == ["fetch: licence: CC0", "fetch: attribution: nobody"]
    assert "cannot be reached" in message and "archive=PATH" in message
    assert [path.name for path in here.iterdir()] == ["toy.yaml"]


def test_an_archive_of_ones_own_is_never_removed(here: Path, archive: Path) -> None:
    with pytest.raises(ArchiveError, match="give the right archive"):
        fetch(BASE, archive, "1" * 64, here / "toy")
    assert archive.is_file()
    inside = here / ".toy.part" / "mine.zip"
    inside.parent.mkdir(exist_ok=True)
    inside.write_bytes(archive.read_bytes())
    with pytest.raises(ConfigError, match="lies where this command works"):
        fetch(BASE, inside, None, here / "toy")
    assert inside.read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "\\xff", '{"name": "toy"}', "[" * 9999])
def test_a_damaged_description_is_no_bug(
    text: str, here: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(here / "toy.yaml", "url: null")
    assert main([f"data={file}", f"archive={archive}", OK]) == 0
    (here / "datasets" / "toy" / "source.json").write_text(text)
    assert main([f"data={file}", f"archive={archive}", OK]) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clips": ("a", "c")}, r"lacks 1 clips \(c\)"),
        ({"count": 3}, "holds 2 clips in set, expected 3"),
        ({"inside": ("other",)}, "holds 0 clips in other"),
    ],
)
def test_clips_are_compared_with_the_manifest(
    change: dict[str, object], says: str, here: Path, archive: Path
) -> None:
    with pytest.raises(ArchiveError, match=says):
        fetch(replace(BASE, **change), archive, None, here / "toy")  # type: ignore[arg-type]
    assert list(here.iterdir()) == []


def test_a_hostile_archive_leaves_nothing(here: Path, tmp_path: Path) -> None:
    bad = tarred(tmp_path / "bad.tgz", {**FILES, "set/../../../up.png": PNG})
    with pytest.raises(ArchiveError, match="leaves the archive's folder"):
        fetch(BASE, bad, None, here / "toy")
    assert list(here.iterdir()) == []
    assert not list(tmp_path.rglob("up.png"))


def test_a_place_that_cannot_be_written_is_refused_before_anybody_is_asked(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerender.datasets.fetch.reach", lambda url: pytest.fail("was asked"))
    (here / "file").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="file is a file"):
        fetch(replace(BASE, url="http://127.0.0.1:9/toy.zip"), None, None, here / "file" / "toy")
    assert [path.name for path in here.iterdir()] == ["file"]


def test_what_a_killed_call_left_is_not_used(here: Path, archive: Path) -> None:
    stale = here / ".toy.part" / "unpacked" / "set" / "stale"
    stale.mkdir(parents=True)
    (stale / "00.png").write_bytes(PNG)
    out = fetch(BASE, archive, None, here / "toy")
    assert not (out / "set" / "stale").exists()
    assert sorted(path.name for path in here.iterdir()) == ["toy", "toy.lock"]


def test_what_a_call_left_that_was_killed_at_its_end_is_taken_away(
    here: Path, archive: Path
) -> None:
    out, work = fetch(BASE, archive, None, here / "toy"), here / ".toy.part"
    files.put(work / "set.zip", b"the archive")
    with files.lock(work):  # somebody is at it
        assert fetch(BASE, archive, None, out) == out
        assert (work / "set.zip").is_file()
    assert fetch(BASE, archive, None, out) == out
    assert not work.exists()
    files.put(work / "notes.txt", b"no command of ours has worked here")
    assert fetch(BASE, archive, None, out) == out
    assert (work / "notes.txt").is_file()


def test_of_two_that_fetch_at_once_the_later_one_takes_what_came(
    here: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends between the look at the folder and the lock."""
    lock, others = files.lock, [1]

    def late(path: Path) -> Any:
        if others:
            others.clear()
            fetch(BASE, archive, None, here / "toy")
        return lock(path)

    monkeypatch.setattr(files, "lock", late)
    out = fetch(BASE, archive, None, here / "toy")
    assert not others and (out / "source.json").is_file()
    assert sorted(path.name for path in here.iterdir()) == ["toy", "toy.lock"]


def test_a_pipe_is_no_archive(here: Path) -> None:
    os.mkfifo(here / "toy.zip")
    with pytest.raises(InputError, match="is not a file"):
        fetch(BASE, here / "toy.zip", None, here / "toy")


def test_a_planted_folder_of_work_is_not_emptied(here: Path, archive: Path, tmp_path: Path) -> None:
    """What lies where a fetch works is taken away; a link there would lead that elsewhere."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.jpg").write_text("x")
    (here / ".toy.part").symlink_to(photos)
    with pytest.raises(ConfigError, match="is a link"):
        fetch(BASE, archive, None, here / "toy")
    assert [path.name for path in photos.iterdir()] == ["one.jpg"]


def test_a_folder_of_something_else_is_left_alone(here: Path, archive: Path) -> None:
    (here / "toy").mkdir()
    (here / "toy" / "mine").write_text("x")
    with pytest.raises(ConfigError, match="holds something else"):
        fetch(BASE, archive, None, here / "toy")
    assert (here / "toy" / "mine").read_text() == "x"


# -- licence, lock, folders, addresses -------------------------------------------------------------


def test_the_licence_is_shown_and_asked_for(
    host: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(here / "toy.yaml", f"url: {host}\nterms: https://example.org/terms")
    for answer in ([], ["licence=yes"]):
        assert main([f"data={file}", *answer]) == 2
        first, second, error = capsys.readouterr().err.splitlines()
        assert first == "fetch: licence: CC0 (https://example.org/terms)"
        assert second == "fetch: attribution: nobody"
        assert error.startswith("error: licence: that of toy is not accepted")
    assert Server.asked == [], "nothing is fetched before it is accepted"
    assert [path.name for path in here.iterdir()] == ["toy.yaml"]


def test_what_nobody_states_a_sum_of_is_written_down_and_held_to(
    host: str, here: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, lock = written(here / "toy.yaml", f"url: {host}"), here / "datasets" / "toy.lock"
    assert main([f"data={file}", OK]) == 0
    assert "what came is written down there" in capsys.readouterr().err
    assert json.loads(lock.read_text())["sha256"] == digest(archive)
    shutil.rmtree(here / "datasets" / "toy")
    assert main([f"data={file}", OK]) == 0, "the same again"
    shutil.rmtree(here / "datasets" / "toy")
    Server.data = zipped(tmp_path / "other.zip", {**FILES, "set/c/00.png": PNG}).read_bytes()
    assert main([f"data={file}", OK]) == 4
    assert "expected " + digest(archive)[:12] in capsys.readouterr().err
    assert not (here / "datasets" / "toy").exists()
    lock.write_text("{")
    assert main([f"data={file}", OK]) == 3
    assert "toy.lock: " in capsys.readouterr().err


def test_a_folder_will_do_for_an_archive(here: Path, tmp_path: Path) -> None:
    source = tmp_path / "own"
    for name, data in {**FILES, "set/a/code.py": b"x", ".git/config": b"y"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    out = fetch(BASE, source, None, here / "toy")
    facts = json.loads((out / "source.json").read_text())
    assert (facts["clips"], facts["left_out"]) == (["a", "b"], 1)
    assert not list(out.rglob("*.py")) and not (out / ".git").exists()
    shutil.rmtree(out)
    (source / "set/a/00.png").write_bytes(PNG + b"x")
    with pytest.raises(ArchiveError, match="expected " + facts["sha256"][:12]):
        fetch(BASE, source, None, out)
    assert source.is_dir()
    (source / "set/a/02.png").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"02\.png: is a link"):
        fetch(replace(BASE, name="else"), source, None, here / "linked")
    assert not (here / "linked").exists()
    with pytest.raises(InputError, match="holds no pictures"):
        fetch(replace(BASE, name="else"), here, None, here / "deep" / "else")


def test_a_list_of_addresses(host: str, here: Path, tmp_path: Path) -> None:
    """Each file is fetched, resumed and verified by itself; its own attribution goes with it."""
    film = genuine.film(tmp_path / "film.mp4")
    Server.data = film.read_bytes()
    said = {"url": host.replace("toy.zip", "film.mp4"), "sha256": digest(film)}
    more = {"attribution": "Ann", "edits": [{"prompt": "oil", "kind": "style"}]}
    listed: dict[str, Any] = {
        "one": {**said, **more},
        "two": {"url": said["url"], "source_prompt": "a cat"},
    }
    wanted = replace(BASE, layout="videos", inside=("videos",), videos=listed)
    Server.stop_after[:] = [100]
    out = fetch(wanted, None, None, here / "toy")
    assert Server.asked[:2] == ["", "bytes=100-"]
    from rerender.data.folder import Folder

    clips = Folder(out, "ink", prompts=out / "set.yaml").clips()
    assert [(c.name, c.prompt, c.kind, c.attribution, c.source_prompt) for c in clips] == [
        ("one", "oil", "style", "Ann", ""),
        ("two", "ink", "", "nobody", "a cat"),
    ]
    noted = json.loads((here / "toy.lock").read_text())["files"]
    assert noted["two"] == digest(film)
    shutil.rmtree(out)
    Server.data = genuine.film(tmp_path / "other.mp4", 4).read_bytes()
    with pytest.raises(ArchiveError, match="it was removed; run it again"):
        fetch(wanted, None, None, out)
    assert not out.exists()


# -- manifests and the command line ---------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((CONF / "dataset").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_manifest_is_complete_and_can_be_supplied_by_hand(
    path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = manifest(path.stem)
    assert found.name == path.stem
    assert found.url or found.by_hand or found.videos, "say where it is"
    assert len(set(found.clips)) == len(found.clips)
    assert main([f"data={path.stem}"]) == 2
    *shown, message = capsys.readouterr().err.splitlines()
    if found.url or found.videos:
        assert message.startswith("error: licence: ") and "say licence=accept" in message
        assert any(found.licence in line for line in shown)
    else:
        assert "archive=PATH" in message and not shown
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["data=davi"], 2, "choices: demo, davis, five, pexels, tgve, v2vbench"),
        (["data=../conf/dataset/davis"], 2, "no data set"),
        (["dat=davis"], 2, "did you mean data?"),
        (["data=davis", "archive=nowhere.zip"], 3, "nowhere.zip: is not a file"),
        (["data=demo", "data.motoin=fast"], 2, "did you mean"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def test_a_manifest_must_be_one(here: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key; did you mean sha256"):
        manifest(str(written(here / "toy.yaml", "sha265: x")))
    with pytest.raises(ConfigError, match="sha256"):
        manifest(str(written(here / "toy.yaml", "sha256: abc")))
    (here / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="holds no settings"):
        manifest(str(here / "list.yaml"))
    with pytest.raises(InputError):
        fetch(BASE, here / "missing", None, here / "out")


def test_the_clips_of_the_demo_world_are_written_down(here: Path) -> None:
    said = ["data=demo", "data.seeds=[1000000,1000001]", "data.frames=2", "data.size=16"]
    assert main(said) == 0
    file = here / "datasets" / "demo" / "clips.json"
    rows = json.loads(file.read_text())
    assert [row["name"] for row in rows] == ["demo-slow-1000000", "demo-slow-1000001"]
    assert len({row["sha256"] for row in rows}) == 2
    before = file.read_bytes()
    assert main(said) == 0
    assert file.read_bytes() == before
