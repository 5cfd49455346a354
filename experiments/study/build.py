"""The folder of a study: the page that people open, and the key that stays with who asks.

``RESULTS/study/page`` is static and says nothing of methods: every video is encoded in the same
way, at the size and the times of its source, under a name that only the key explains. Beside it lie
``key.json`` and ``invitations.csv``, which are not for those who are asked.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from eval.metrics.weights import digest
from experiments.escape import csv_cell
from experiments.media import Media
from experiments.report import INDEX, PAGE, policy
from experiments.study import design, invitations
from experiments.study.design import StudyPair, Wanted
from experiments.study.material import Material, encode_all, gather
from experiments.study.votes import KEY, KEY_FORMAT
from rerender import files
from rerender.errors import ConfigError, InputError
from rerender.run_folder import STUDY, read_json

INVITATIONS, SITE, VOTES = "invitations.csv", "page", "votes"


def build(root: Path, wanted: Wanted, tree: Mapping[str, Any] | None = None) -> Path:
    """Make the folder of a study; the same results and wishes give the same study again.

    Args:
        root: a folder of results with at least two methods.
        wanted: what is asked of whom.
        tree: configuration that says what the clips are; None for the runs' own.

    Returns:
        ``RESULTS/study``.

    Raises:
        InputError: fewer than two methods with a clip in common, or a video cannot be read.
        ConfigError: the design would leave videos unseen, or another study is there already.
    """
    material = gather(root, wanted.methods, tree)
    plans = _plans(material, wanted)
    folder = files.unlinked(root, root / STUDY)
    secret = _secret(folder / KEY)
    facts = _facts(material, wanted, plans)
    _require_free(folder, facts["study"])
    site = folder / SITE
    checked = _checked(material, plans)
    films = encode_all(material, checked, Media(site), secret, wanted.with_source)
    codes = [invitations.code(secret, person) for person in range(wanted.people)]
    text = render(_page(material, wanted, plans, films, codes, facts["study"]))
    files.put(site / INDEX, text.encode(errors="replace"))
    files.put(folder / INVITATIONS, _invitations(codes).encode())
    files.put_json(folder / KEY, {"format": KEY_FORMAT, "secret": secret, **facts})
    files.folder(folder / VOTES)
    return folder


def _plans(material: Material, wanted: Wanted) -> list[list[StudyPair]]:
    shown = material.shown()
    plans = design.plans(shown, wanted.people, wanted.trials, wanted.checks, wanted.seed)
    pairs, seen = len(design.items(shown)), sum(len(plan) - wanted.checks for plan in plans)
    if seen < 2 * pairs:
        problem = (
            f"{wanted.people} people with {wanted.trials} comparisons each see {pairs} pairs of"
            " videos less than twice each"
        )
        least = -(-2 * pairs // min(wanted.trials, pairs))
        cure = f"invite {least} people, ask for more comparisons or name fewer methods"
        raise ConfigError("--people", problem, cure)
    return plans


def _facts(
    material: Material, wanted: Wanted, plans: Sequence[Sequence[StudyPair]]
) -> dict[str, Any]:
    """What the key says; its hash is the study's name."""
    made = [
        {
            name: {"seed": outcome.seed, "sha256": [digest(file) for file in outcome.files()]}
            for name, outcome in found.items()
        }
        for found in material.found
    ]
    facts = {
        "title": wanted.title,
        "note": wanted.note,
        "with_source": wanted.with_source,
        "seed": wanted.seed,
        "checks": wanted.checks,
        "questions": dict(wanted.questions),
        "methods": material.methods,
        "clips": [{**clip, "made": each} for clip, each in zip(material.clips, made, strict=True)],
        "plans": [[asdict(pairing) for pairing in plan] for plan in plans],
    }
    text = json.dumps(facts, sort_keys=True)
    return {"study": hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16], **facts}


def _secret(path: Path) -> str:
    """The secret behind the invitations: that of the study which is there, or a new one."""
    if path.is_file():
        found = read_json(path).get("secret")
        if isinstance(found, str) and found:
            return found
        raise InputError(path, "is no key of a study", "move it away")
    return secrets.token_hex(32)


def _require_free(folder: Path, study: str) -> None:
    if not (folder / KEY).is_file():
        return
    before = read_json(folder / KEY).get("study")
    if before != study:
        problem = "another study is here (other results, people, questions or seed)"
        raise ConfigError(folder, problem, "move it away: its votes would not fit this one")


def _checked(material: Material, plans: Sequence[Sequence[StudyPair]]) -> set[tuple[int, str]]:
    """Clips and methods of which there is an attention check."""
    return {(p.clip, material.methods[p.left]) for plan in plans for p in plan if p.check}


def _page(
    material: Material,
    wanted: Wanted,
    plans: Sequence[Sequence[StudyPair]],
    films: Mapping[tuple[int, str], str],
    codes: Sequence[str],
    study: str,
) -> dict[str, Any]:
    """What the page knows: no names of methods, and people by the hash of their invitation."""
    addresses = sorted(set(films.values()))  # names are hashes: their order tells nothing
    number = {address: place for place, address in enumerate(addresses)}

    def side(pairing: StudyPair, which: str) -> int:
        method = material.methods[getattr(pairing, which)]
        broken = pairing.check and pairing.check != which
        return number[films[pairing.clip, f"!{method}" if broken else method]]

    def source(clip: int) -> int | None:
        return number.get(films.get((clip, "source"), ""))

    return {
        "study": study,
        "format": invitations.FORMAT,
        "title": wanted.title,
        "note": wanted.note,
        "questions": [[name, text] for name, text in wanted.questions.items()],
        "films": addresses,
        "clips": [
            {"prompt": clip["prompt"], "source": source(place), "wide": _wide(material, place)}
            for place, clip in enumerate(material.clips)
        ],
        "people": {
            invitations.person_id(code): [
                [pairing.clip, side(pairing, "left"), side(pairing, "right")] for pairing in plan
            ]
            for code, plan in zip(codes, plans, strict=True)
        },
    }


def _wide(material: Material, clip: int) -> bool:
    height, width = material.sources[clip].size
    return width > 1.25 * height


def render(data: Mapping[str, Any]) -> str:
    """The page as HTML; every text is escaped, and goes into the page as text."""
    css, js = ((PAGE / name).read_text(encoding="utf-8") for name in ("study.css", "study.js"))
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True)
    return environment.get_template("study.html.j2").render(
        policy=policy(scripts=(js,), styles=(css,)), css=css, js=js, data=data
    )


def _invitations(codes: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["person", "invitation", "address"])
    for number, code in enumerate(codes, 1):
        spaced = invitations.spaced(code)
        writer.writerow([number, csv_cell(spaced), f"{SITE}/{INDEX}#{spaced}"])
    return out.getvalue()
