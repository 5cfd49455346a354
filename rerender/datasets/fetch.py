"""``python -m rerender.fetch data=NAME licence=accept``: a public data set, verified and ready.

``data=NAME`` is a manifest of conf/dataset or a manifest file of your own; without
``licence=accept`` its licence is shown and nothing is fetched. ``archive=PATH`` takes an archive or
a folder that is there already (a path or file://), ``sha256=HEX`` says what it must hash to where
the manifest does not, and ``out=DIR`` is where it goes instead of datasets/NAME. Where nobody
states a sha256, the first fetch writes one to datasets/NAME.lock, which later ones are held to.
``data=demo`` draws nothing from the net: it writes down what the clips of the demo world are.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from rerender import files
from rerender.config.build import unknown_key
from rerender.config.compose import literal, preflight
from rerender.config.paths import choices_of
from rerender.data.edits import FETCHED
from rerender.datasets.archive import ArchiveError
from rerender.datasets.download import download, reach
from rerender.datasets.manifest import DatasetManifest, manifest
from rerender.datasets.obtain import (
    Obtained,
    from_addresses,
    from_archive,
    from_folder,
    locked,
    tell,
)
from rerender.errors import ConfigError, InputError, RerenderError
from rerender.exits import command, report
from rerender.kinds import expanded
from rerender.run_folder import read_json

if TYPE_CHECKING:
    from rerender.datasets.layouts import Clips

FOLDER, SOURCE, TABLE, CLIPS = Path("datasets"), "source.json", FETCHED, "clips.json"
KEYS = ("data", "archive", "sha256", "out", "licence")
ACCEPT = "accept"


def fetch(wanted: DatasetManifest, archive: Path | None, digest: str | None, out: Path) -> Path:
    """Have a data set unpacked in a folder; the folder appears complete or not at all.

    Args:
        wanted: the data set.
        archive: its archive, or the folder it was unpacked to, where that is on disk already.
        digest: what the archive must hash to where the manifest does not say.
        out: the folder.

    Raises:
        ConfigError: the folder holds something else, or nothing says where the set is.
        InputError: the archive is not there, or the lock is damaged.
        ArchiveError: it cannot be had, is damaged or hostile, or lacks clips.
    """
    lock = out.with_name(f"{out.name}.lock")
    noted = locked(lock, wanted.name)
    expected = wanted.sha256 or digest or noted.get("sha256")
    work = out.parent / f".{out.name}.part"
    if out.exists():
        found = _there(out, wanted, expected)
        _forsaken(work)
        return found
    files.check_writable(out.parent, "out")
    files.unlinked(out.parent, work)  # nobody named it, and it is emptied
    url, archive = _source(wanted, archive, work)
    if url is not None and not _target(url, work).is_file():
        reach(url)
    with files.lock(work):
        if out.exists():  # another command has fetched it between the look at it and the lock
            _clear(work)
            return _there(out, wanted, expected)
        files.unlinked(work, work / "unpacked")
        refusable = False
        try:
            fresh = work / "unpacked"
            files.remove(fresh)
            if url is not None and wanted.videos:
                got = from_addresses(wanted, noted.get("files") or {}, work)
            elif archive is not None and archive.is_dir():
                got = from_folder(archive, expected, fresh)
            else:
                file = archive or _downloaded(str(url), wanted, work)
                refusable = True
                got = from_archive(file, expected, archive is not None, fresh)
            from rerender.datasets.layouts import clips_of  # loads torch, which asking need not

            clips = clips_of(wanted, fresh)
            _describe(wanted, fresh, got, clips)
            fresh.replace(out)
        except BaseException as error:
            files.remove(work / "unpacked")
            refused = refusable and isinstance(error, ArchiveError)
            if refused or not any(path.name != files.LOCK for path in files.children(work)):
                _clear(work)  # nothing that a later command could go on with
            raise
        _clear(work)
    if wanted.sha256 is None and digest is None and not noted:
        _note(lock, wanted, got)
    return out


def _source(
    wanted: DatasetManifest, archive: Path | None, work: Path
) -> tuple[str | None, Path | None]:
    """The address to fetch from, or the archive or folder on disk."""
    url = None if archive else _address(wanted)
    if url is not None and urlsplit(url).scheme in ("", "file") and not wanted.videos:
        archive = local(url)
        url = None
    if archive is not None and not (archive.is_file() or archive.is_dir()):
        raise InputError(archive, "is not a file", "give the archive's path")
    if archive is not None and Path(os.path.realpath(archive)).is_relative_to(
        os.path.realpath(work)
    ):
        raise ConfigError("archive", f"{archive} lies where this command works", "move it away")
    return url, archive


def _address(wanted: DatasetManifest) -> str:
    """Where the archive, or the first of its files, is fetched from."""
    if wanted.videos:
        return str(next(iter(wanted.videos.values()))["url"])
    if wanted.url is None:
        cure = f"get the archive from {wanted.by_hand or 'its makers'}, then say archive=PATH"
        raise ConfigError(wanted.name, "cannot be fetched by a program", cure)
    return wanted.url


def _clear(work: Path) -> None:
    """Take away the folder that this command works in, and has locked."""
    for path in files.children(work):
        if path.name != files.LOCK:
            files.remove(path)
    files.vacate(work)


def _forsaken(work: Path) -> None:
    """Take away the folder of a command that was killed when the data set was there."""
    if (work / files.LOCK).is_file() and not work.is_symlink():
        with suppress(OSError, RerenderError), files.lock(work):
            _clear(work)


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


def local(text: str) -> Path:
    """A path from a path or a file:// address."""
    parts = urlsplit(text)
    return Path(unquote(parts.path)) if parts.scheme == "file" else expanded(text)


def _downloaded(url: str, wanted: DatasetManifest, work: Path) -> Path:
    target = _target(url, work)
    return target if target.is_file() else download(url, target, wanted.bytes, tell())


def _target(url: str, work: Path) -> Path:
    """Where the archive goes."""
    return work / (Path(urlsplit(url).path).name or "archive")


def _describe(wanted: DatasetManifest, folder: Path, got: Obtained, clips: Clips) -> None:
    """What the folder is and where it is from, and its clips, prompts and masks as a table."""
    said = {"name": wanted.name, "licence": wanted.licence, "attribution": wanted.attribution}
    facts = {"url": wanted.url, "sha256": got.sha256, "clips": sorted(clips)}
    files.put_json(folder / SOURCE, {**said, **facts, "left_out": got.left_out})
    table = yaml.safe_dump({**said, "clips": clips}, sort_keys=False, allow_unicode=True, width=100)
    files.put(folder / TABLE, table.encode())


def _note(lock: Path, wanted: DatasetManifest, got: Obtained) -> None:
    """Write down what came, for the sets whose makers do not say what must come."""
    stated = wanted.videos and all(said.get("sha256") for said in wanted.videos.values())
    if stated:
        return
    said = {"name": wanted.name, "sha256": got.sha256, "files": dict(got.files)}
    files.put_json(lock, said)
    text = f"{lock}: nobody states a sha256 of {wanted.name}; what came is written down there"
    report(f"{text}, keep it, and later fetches must be the same", "fetch")


def demo(settings: Sequence[str], out: Path) -> Path:
    """Write down what the clips of the demo world are, with a hash of all their frames.

    Args:
        settings: key=value as for a run, beginning with ``data=``.
        out: the folder.

    Raises:
        ConfigError: a setting is wrong.
    """
    from rerender.config.job import Job

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
        ours = [text for text in given if not text.startswith(("out=", "licence="))]
        return f"{demo(ours, out)}\n"
    for key in said:
        if key not in KEYS:
            raise unknown_key(key, key, KEYS)
    wanted = manifest(name)
    if not said.get("out"):
        out = FOLDER / wanted.name
    archive = local(said["archive"]) if said.get("archive") else None
    if not out.exists():
        _source(wanted, archive, out.parent / f".{out.name}.part")
        _require_licence(wanted, said.get("licence"))
    folder = fetch(wanted, archive, said.get("sha256"), out)
    return _closing(folder, wanted, name)


def _require_licence(wanted: DatasetManifest, answer: str | None) -> None:
    """Show the licence, and go on only where it is accepted.

    Raises:
        ConfigError: it is not.
    """
    for line in _terms(wanted):
        report(line, "fetch")
    if answer != ACCEPT:
        problem = f"that of {wanted.name} is not accepted, received {answer!r}"
        raise ConfigError("licence", problem, f"read it above, then say licence={ACCEPT}")


def _terms(wanted: DatasetManifest) -> list[str]:
    owns = [
        f"licence of {name}: {said['licence']}"
        for name, said in wanted.videos.items()
        if said.get("licence")
    ]
    terms = f" ({wanted.terms})" if wanted.terms else ""
    return [f"licence: {wanted.licence}{terms}", f"attribution: {wanted.attribution}", *owns]


def _closing(folder: Path, wanted: DatasetManifest, name: str) -> str:
    """Where the clips are, what they are under, and the command that uses them."""
    facts = read_json(folder / SOURCE)
    clips: Mapping[str, Any] = yaml.safe_load((folder / TABLE).read_text("utf-8"))["clips"]
    asked = [edit for clip in clips.values() for edit in clip.get("edits", ())]
    kinds = Counter(edit.get("kind") or "no kind" for edit in asked)
    lines = [f"{folder}/  {len(clips)} clips, sha256 {facts['sha256']}"]
    if asked:
        each = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines.append(f"  edits: {len(asked)} ({each})")
    lines += [f"  {line}" for line in _terms(wanted)]
    words = ["python", "-m", "rerender.run", f"data={name}"]
    if name not in choices_of("data") or folder != FOLDER / name:
        table = f"data.prompts={folder / TABLE}"
        words[-1:] = ["data=folder", f"data.path={folder}", table, "data.shard=each"]
    if not all(clip.get("edits") or clip.get("prompt") for clip in clips.values()):
        words.append("prompt=an oil painting")
    return "\n".join([*lines, f"  {shlex.join(words)}"]) + "\n"
