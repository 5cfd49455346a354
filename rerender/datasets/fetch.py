"""``python -m rerender.fetch data=NAME``: a data set of conf/dataset, verified and unpacked.

``data=NAME`` is a manifest of conf/dataset or a manifest file of your own; ``archive=FILE`` takes
an archive that is there already (a path or file://), ``sha256=HEX`` says what it must hash to
where the manifest does not, and ``out=DIR`` is where it goes instead of datasets/NAME.
``data=demo`` draws nothing from the net: it writes down what the clips of the demo world are.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rerender import files
from rerender.config.build import unknown_key
from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.data.pictures import is_picture
from rerender.data.prompt import COLUMNS
from rerender.datasets.archive import ArchiveError, extract
from rerender.datasets.download import Tell, download, reach, sha256
from rerender.datasets.manifest import DatasetManifest, manifest
from rerender.errors import ConfigError, InputError
from rerender.exits import command, report
from rerender.kinds import expanded
from rerender.run_folder import read_json

FOLDER, SOURCE, PROMPTS, CLIPS = Path("datasets"), "source.json", "prompts.csv", "clips.json"
KEYS = ("data", "archive", "sha256", "out")
_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg")


def fetch(wanted: DatasetManifest, archive: Path | None, digest: str | None, out: Path) -> Path:
    """Have a data set unpacked in a folder; the folder appears complete or not at all.

    Args:
        wanted: the data set.
        archive: its archive where that is on disk already.
        digest: what the archive must hash to where the manifest does not say.
        out: the folder.

    Raises:
        ConfigError: the folder holds something else, or nothing says what the archive must be.
        InputError: the archive is not there.
        ArchiveError: it cannot be had, is damaged or hostile, or lacks clips.
    """
    expected = wanted.sha256 or digest
    if out.exists():
        return _there(out, wanted, expected)
    url = None if archive else _address(wanted, expected)
    archive = archive if url is None else _on_disk(url)
    if archive is not None and not archive.is_file():
        raise InputError(archive, "is not a file", "give the archive's path")
    work = out.parent / f".{out.name}.part"
    if archive is not None and Path(os.path.realpath(archive)).is_relative_to(
        os.path.realpath(work)
    ):
        raise ConfigError("archive", f"{archive} lies where this command works", "move it away")
    if archive is None and not _target(str(url), work).is_file():
        reach(str(url))
    with files.lock(work):
        files.unlinked(work, work / "unpacked")
        file = None
        try:
            file = archive or _downloaded(str(url), wanted, work)
            found = _verified(file, expected, kept=archive is not None)
            fresh = work / "unpacked"
            files.remove(fresh)
            left_out = extract(file, files.folder(fresh))
            clips = _clips(wanted, fresh)
            _describe(wanted, fresh, {"sha256": found, "clips": clips, "left_out": left_out})
            fresh.replace(out)
        except BaseException as error:
            files.remove(work / "unpacked")
            refused = file is not None and isinstance(error, ArchiveError)
            if refused or not any(path.name != files.LOCK for path in work.iterdir()):
                _clear(work)  # nothing that a later command could go on with
            raise
        _clear(work)
    return out


def _clear(work: Path) -> None:
    """Take away the folder that this command works in, and has locked."""
    for path in work.iterdir():
        if path.name != files.LOCK:
            files.remove(path)
    files.vacate(work)


def _there(out: Path, wanted: DatasetManifest, expected: str | None) -> Path:
    facts: dict[str, Any] = {}
    with suppress(InputError):
        facts = read_json(out / SOURCE)
    whole = isinstance(facts.get("clips"), list) and isinstance(facts.get("sha256"), str)
    if (
        not whole
        or facts.get("name") != wanted.name
        or facts.get("sha256") != (expected or facts.get("sha256"))
    ):
        cure = "remove it or choose another one with out="
        raise ConfigError("out", f"{out} holds something else", cure)
    return out


def _address(wanted: DatasetManifest, expected: str | None) -> str:
    """The archive's address, if what comes from there can be verified."""
    where = wanted.by_hand or wanted.url or "its makers"
    cure = f"get the archive from {where}, then say archive=PATH"
    if wanted.url is None:
        raise ConfigError(wanted.name, "cannot be fetched by a program", cure)
    if expected is None:
        problem = "its sha256 is not known, so that what comes could not be verified"
        raise ConfigError(wanted.name, problem, f"{cure}, or sha256=HEX if you know it")
    return wanted.url


def _on_disk(url: str) -> Path | None:
    """The path that an address without a host stands for."""
    return local(url) if urlsplit(url).scheme in ("", "file") else None


def local(text: str) -> Path:
    """A path from a path or a file:// address."""
    parts = urlsplit(text)
    return Path(unquote(parts.path)) if parts.scheme == "file" else expanded(text)


def _downloaded(url: str, wanted: DatasetManifest, work: Path) -> Path:
    target = _target(url, work)
    return target if target.is_file() else download(url, target, wanted.bytes, _tell())


def _target(url: str, work: Path) -> Path:
    """Where the archive goes."""
    return work / (Path(urlsplit(url).path).name or "archive")


def _verified(file: Path, expected: str | None, kept: bool) -> str:
    found = sha256(file)
    if expected is not None and found != expected.lower():
        if not kept:
            file.unlink()
        cure = "give the right archive" if kept else "it was removed; run it again"
        problem = f"sha256 is {found[:12]}, expected {expected[:12]}"
        raise ArchiveError(file, problem, cure)
    return found


def _clips(wanted: DatasetManifest, folder: Path) -> list[str]:
    """Names of the clips, checked against the manifest."""
    found: list[str] = []
    for place in wanted.inside:
        base = folder / place
        for path in sorted(base.iterdir()) if base.is_dir() else ():
            if path.is_dir() and any(map(is_picture, path.iterdir())):
                found.append(path.name)
            elif path.suffix.lower() in _VIDEOS:
                found.append(path.stem)
    missing = sorted(set(wanted.clips) - set(found))
    cure = "get the archive from its makers again"
    if missing:
        problem = f"lacks {len(missing)} clips ({', '.join(missing)[:200]})"
        raise ArchiveError(wanted.name, problem, cure)
    if not found or wanted.count not in (None, len(found)):
        count = wanted.count or "any"
        problem = f"holds {len(found)} clips in {', '.join(wanted.inside)}, expected {count}"
        raise ArchiveError(wanted.name, problem, cure)
    return found


def _describe(wanted: DatasetManifest, folder: Path, facts: Mapping[str, Any]) -> None:
    """What the folder is and where it is from, and its prompts as a table."""
    said = {"name": wanted.name, "licence": wanted.licence, "attribution": wanted.attribution}
    files.put_json(folder / SOURCE, {**said, "url": wanted.url, **facts})
    if wanted.prompts:
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, restval="")
        table.writeheader()
        for name, row in wanted.prompts.items():
            table.writerow({"name": name, **row})
        files.put(folder / PROMPTS, text.getvalue().encode())


def _tell() -> Tell:
    """Says how far a download is, a line every few seconds."""
    last = [time.monotonic()]

    def tell(have: int, total: int | None) -> None:
        if time.monotonic() - last[0] > 5 or have == total:
            last[0] = time.monotonic()
            of = f" of {total / 1e6:.0f}" if total else ""
            report(f"{have / 1e6:.0f}{of} MB", "fetch")

    return tell


def demo(settings: Sequence[str], out: Path) -> Path:
    """Write down what the clips of the demo world are, with a hash of all their frames.

    Args:
        settings: key=value as for a run, beginning with ``data=``.
        out: the folder.

    Raises:
        ConfigError: a setting is wrong.
    """
    job = Job.of(preflight(literal(settings)).jobs[0])
    rows = []
    for clip in job.data.clips():
        total = hashlib.sha256()
        for index in range(len(clip.video)):
            total.update(clip.video[index].numpy().tobytes())
        frames, size = len(clip.video), list(clip.video.size)
        row = {"name": clip.name, "prompt": clip.prompt, "source_prompt": clip.source_prompt}
        rows.append({**row, "frames": frames, "size": size, "sha256": total.hexdigest()})
    files.put_json(out / CLIPS, rows)
    return out / CLIPS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return command(_main, arguments)


def _main(given: list[str]) -> int:
    if not given or set(given) & {"-h", "--help"}:
        sys.stdout.write(f"{__doc__}\n")
        return 0 if given else 2
    sys.stdout.write(_run([argument for argument in given if argument != "debug=true"]))
    return 0


def _run(given: Sequence[str]) -> str:
    said = dict(argument.partition("=")[::2] for argument in given)
    name = said.get("data", "")
    out = expanded(said.get("out") or FOLDER / Path(name).stem)
    if name.startswith("demo"):
        return f"{demo([text for text in given if not text.startswith('out=')], out)}\n"
    for key in said:
        if key not in KEYS:
            raise unknown_key(key, key, KEYS)
    wanted = manifest(name)
    if not said.get("out"):
        out = FOLDER / wanted.name
    archive = local(said["archive"]) if said.get("archive") else None
    folder = fetch(wanted, archive, said.get("sha256"), out)
    facts = read_json(folder / SOURCE)
    return _closing(folder, wanted, facts)


def _closing(folder: Path, wanted: DatasetManifest, facts: Mapping[str, Any]) -> str:
    """Where the clips are, what they are under, and the command that uses them."""
    lines = [
        f"{folder}/  {len(facts['clips'])} clips, archive sha256 {facts['sha256']}",
        f"  licence: {wanted.licence}",
        f"  attribution: {wanted.attribution}",
    ]
    prompts = f"data.prompts={folder / PROMPTS}" if wanted.prompts else "prompt=an oil painting"
    for place in wanted.inside:
        if (folder / place).is_dir():
            words = ["python", "-m", "rerender.run", "data=folder", f"data.path={folder / place}"]
            lines.append(f"  {shlex.join([*words, prompts])}")
    return "\n".join(lines) + "\n"
