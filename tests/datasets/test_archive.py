"""Archives: what is plain is unpacked, what is hostile or damaged refuses the whole of it."""

from __future__ import annotations

import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rerender.datasets.archive import ArchiveError, Limits, extract

PLAIN = {"set/a/0.png": b"picture", "set/b.mp4": b"film" * 1000, "set/README": b"words"}


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in files.items():
            out.writestr(zipfile.ZipInfo(name), data, method)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "zip": zipped,
    "zip, stored": lambda path, files: zipped(path, files, zipfile.ZIP_STORED),
    "tar": lambda path, files: tarred(path, files, "w"),
    "tar.gz": tarred,
    "tar.bz2": lambda path, files: tarred(path, files, "w:bz2"),
}


def unpacked(target: Path) -> dict[str, bytes]:
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }


def refusal(archive: Path, target: Path, limits: Limits | None = None) -> str:
    with pytest.raises(ArchiveError) as caught:
        extract(archive, target, limits)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", MAKERS)
def test_plain_archives_are_unpacked(kind: str, tmp_path: Path) -> None:
    archive = MAKERS[kind](tmp_path / "archive", PLAIN)
    assert extract(archive, tmp_path / "out") == 0
    assert unpacked(tmp_path / "out") == PLAIN


def test_files_of_other_kinds_are_left_out(tmp_path: Path) -> None:
    files = {**PLAIN, "set/.DS_Store": b"x", "__MACOSX/set/a.png": b"x", "set/data.npz": b"x"}
    assert extract(zipped(tmp_path / "a.zip", files), tmp_path / "out") == 3
    assert unpacked(tmp_path / "out") == PLAIN


HOSTILE = {
    "../up.png": "leaves",
    "a/../../up.png": "leaves",
    "/tmp/up.png": "is not a path",
    "C:\\up.png": "is not a path",
    "C:/up.png": "is not a path",
    "a\\..\\up.png": "is not a path",
    "a//b.png": "leaves",
    "a/./b.png": "leaves",
    "line\nbreak.png": "control characters",
    "x" * 300 + ".png": "longer name",
    "/".join("d" * 20) + "/x.png": "longer name",
    "code.py": "is a program",
    "model.PTH": "is a program",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_hostile_names_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    archive = MAKERS[kind](tmp_path / "archive", {"fine.png": b"1", name: b"2"})
    assert HOSTILE[name] in refusal(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("up.png"))


@pytest.mark.parametrize("names", [("a.png", "A.png"), ("a.png", "a.png"), ("é.png", "é.png")])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_one_on_some_disk_are_refused(
    names: tuple[str, str], kind: str, tmp_path: Path
) -> None:
    if kind == "tar.gz":
        with tarfile.open(tmp_path / "a", "w:gz") as out:
            for name in names:
                out.addfile(tarfile.TarInfo(name))
    else:
        with zipfile.ZipFile(tmp_path / "a", "w") as twice:
            for name in names:
                twice.writestr(name, b"1")
    assert "is there twice" in refusal(tmp_path / "a", tmp_path / "out")


def test_a_file_holds_no_files(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a", {"a.png": b"1", "a.png/b.png": b"2"})
    assert "lies inside a file" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w") as out:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = kind, "../../etc/passwd"
        out.addfile(info)
    message = refusal(tmp_path / "a", tmp_path / "out")
    assert "neither a file nor a folder" in message or "is damaged" in message
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as out:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = (mode | 0o777) << 16
        out.writestr(info, "../../etc/passwd")
    assert "neither a file nor a folder" in refusal(tmp_path / "a", tmp_path / "out")


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.png": b"1"}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + place] |= 1
    archive.write_bytes(bytes(data))
    assert "is encrypted" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2"])
def test_bombs_are_refused(kind: str, tmp_path: Path) -> None:
    archive = MAKERS[kind](tmp_path / "a", {"a.png": bytes(40 << 20)})
    assert archive.stat().st_size < 1 << 20
    message = refusal(archive, tmp_path / "out", Limits(slack=1 << 20))
    assert "more than" in message
    assert not list(tmp_path.glob("out/*"))


def test_too_many_entries_and_bytes_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {f"{n}.png": b"12345678" for n in range(6)})
    assert "5 that are allowed" in refusal(archive, tmp_path / "out", Limits(entries=5))
    assert "more than 40 bytes" in refusal(archive, tmp_path / "two", Limits(bytes=40))


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The overlapping zip bomb: many entries of the directory point at one content."""
    archive = zipped(tmp_path / "a.zip", {"a.png": bytes(range(256)) * 99}, zipfile.ZIP_STORED)
    data = archive.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    copies = b"".join(entry.replace(b"a.png", b"%c.png" % letter) for letter in b"abcdefgh")
    tail = bytearray(data[end:])
    tail[8:12] = (8).to_bytes(2, "little") * 2
    tail[12:16] = len(copies).to_bytes(4, "little")
    archive.write_bytes(data[:start] + copies + bytes(tail))
    assert "share their bytes" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", MAKERS)
def test_truncated_archives_are_refused(kind: str, tmp_path: Path) -> None:
    noise = {"a.png": bytes((n * 7919 >> 3) % 256 for n in range(60_000))}
    archive = MAKERS[kind](tmp_path / "a", noise)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    assert re.search("is damaged|not as long", refusal(archive, tmp_path / "out"))


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.png": b"0123456789" * 50}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[data.index(b"0123456789") + 20] ^= 1
    archive.write_bytes(bytes(data))
    assert "damaged" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"PK\x03\x04", b"\x1f\x8b", b"BZh9"])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    assert refusal(tmp_path / "a", tmp_path / "out").startswith(str(tmp_path / "a"))


def test_a_negative_size_neither_hangs_nor_passes(tmp_path: Path) -> None:
    """CVE-2025-8194: such a header sends tarfile back to it for ever."""
    info = tarfile.TarInfo("a.png")
    info.size = 512
    header = bytearray(info.tobuf())
    header[124:136] = (256**12 - 512).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a").write_bytes(bytes(header) + bytes(4096))
    refusal(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()
