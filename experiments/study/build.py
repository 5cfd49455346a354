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
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jinja2 import Environment, FileSystemLoader
from torch import Tensor

from eval.metrics.weights import digest
from eval.references import Made
from eval.results import Outcome, discover
from eval.runs.sources import Sources
from experiments.escape import csv_cell
from experiments.media import Media
from experiments.report import INDEX, PAGE, policy
from experiments.study import design, invitations
from experiments.study.bradley_terry import connected
from experiments.study.design import StudyPair
from rerender import files
from rerender.errors import ConfigError, InputError, RerenderError
from rerender.fitting import resize
from rerender.run_folder import STUDY, read_json
from rerender.video import Video

log = logging.getLogger(__name__)

KEY, INVITATIONS, SITE, VOTES = "key.json", "invitations.csv", "page", "votes"
KEY_FORMAT = "rerender-study-key/1"
QUESTIONS = {
    "prompt": "Which video fits the text better?",
    "steady": "Which video is steadier, with less flicker?",
    "overall": "Which video do you prefer overall?",
}
_QUESTION = re.compile(r"[a-z][a-z0-9_]{0,30}")
_BLOCK = 12  # blocks along the short side of a damaged video


@dataclass(frozen=True)
class Wanted:
    """What is asked of whom.

    Attributes:
        people: how many are invited.
        trials: pairs of videos for each.
        checks: attention checks for each, besides.
        seed: of the design.
        questions: id -> text, asked at every pair.
        methods: which take part; () for all.
        title, note: head of the page and a text below it.
        with_source: show the source beside the two.
    """

    people: int = 20
    trials: int = 20
    checks: int = 2
    seed: int = 0
    questions: Mapping[str, str] = field(default_factory=lambda: dict(QUESTIONS))
    methods: tuple[str, ...] = ()
    title: str = "Which video is better?"
    note: str = ""
    with_source: bool = False

    def __post_init__(self) -> None:
        for name, least in (("people", 2), ("trials", 1), ("checks", 0), ("seed", 0)):
            if getattr(self, name) < least:
                problem = f"must be at least {least}, received {getattr(self, name)}"
                raise ConfigError(f"--{name}", problem, "give another number")
        for name, text in self.questions.items():
            if not _QUESTION.fullmatch(name) or not text.strip():
                problem = f"a question is id=text with an id of a-z, 0-9, _, received {name}={text}"
                raise ConfigError(
                    "--question", problem, 'say: --question steady="Which is steadier?"'
                )
        if self.checks > self.trials:
            problem = f"more checks ({self.checks}) than comparisons ({self.trials})"
            raise ConfigError("--checks", problem, "give fewer")


@dataclass
class Material:
    """The clips of a study and what was made of them.

    Attributes:
        methods: names, in order.
        clips: name and prompt of each clip.
        sources: the source of each clip, which sets size and times; the first result where the
            source is not known.
        known: whether that is the source.
        found: ``found[clip][method]``: the result.
    """

    methods: list[str] = field(default_factory=list)
    clips: list[dict[str, str]] = field(default_factory=list)
    sources: list[Video] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    found: list[dict[str, Outcome]] = field(default_factory=list)

    def shown(self) -> list[list[bool]]:
        """``[clip][method]``, whether there is such a video."""
        return [[method in made for method in self.methods] for made in self.found]


@dataclass(frozen=True)
class Beginning(Made):
    """The first ``frames`` frames of a video that is `Made`."""

    frames: int

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self.like.timestamps[: self.frames]

    @property
    def end(self) -> Fraction:
        whole = self.frames == len(self.like)
        return self.like.end if whole else self.like.timestamps[self.frames]


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
    films = _films(material, wanted, _checked(material, plans), Media(site), secret)
    codes = [invitations.code(secret, person) for person in range(wanted.people)]
    text = render(_page(material, wanted, plans, films, codes, facts["study"]))
    files.put(site / INDEX, text.encode(errors="replace"))
    files.put(folder / INVITATIONS, _invitations(codes).encode())
    files.put_json(folder / KEY, {"format": KEY_FORMAT, "secret": secret, **facts})
    files.folder(folder / VOTES)
    return folder


def gather(
    root: Path, methods: Sequence[str] = (), tree: Mapping[str, Any] | None = None
) -> Material:
    """Clips and results of a folder, of each method and clip the result of the lowest seed.

    Raises:
        InputError: there is nothing to compare, or a result is damaged.
        ConfigError: an unknown method is named.
    """
    outcomes = discover(root)
    sources = Sources(tree, outcomes)
    names = sorted({outcome.method for outcome in outcomes})
    unknown = [name for name in methods if name not in names]
    if unknown:
        raise ConfigError("--methods", f"no method {unknown[0]!r}", f"there are {', '.join(names)}")
    material = Material(sorted(set(methods)) or names)
    numbers: dict[str, int] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.method, -1 if o.seed is None else o.seed)):
        if outcome.method not in material.methods:
            continue
        outcome.check()
        try:
            clip = sources.find(outcome)[1]
            name, prompt, video, known = clip.name, clip.prompt, clip.video, True
        except RerenderError:
            name, prompt, video, known = outcome.clip or root.name, "", outcome.alone(), False
        if name not in numbers:
            numbers[name] = len(material.clips)
            material.clips.append({"name": name, "prompt": prompt})
            material.sources.append(video)
            material.known.append(known)
            material.found.append({})
        material.found[numbers[name]].setdefault(outcome.method, outcome)
    _require_comparable(root, material)
    return material


def _require_comparable(root: Path, material: Material) -> None:
    counts = np.array(material.shown() or [[False]], float)
    if len(material.methods) < 2 or not connected(counts.T @ counts):
        said = ", ".join(material.methods) or "none"
        problem = f"holds no two methods that are connected by clips which both made ({said})"
        raise InputError(root, problem, "lay out results as METHOD/CLIP.mp4, at least two methods")


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


def _films(
    material: Material, wanted: Wanted, checked: set[tuple[int, str]], media: Media, secret: str
) -> dict[tuple[int, str], str]:
    """Addresses of all videos: by clip and method, "source" for sources and "!METHOD" for the
    damaged ones of attention checks."""
    films = {}
    for number, (clip, source) in enumerate(zip(material.clips, material.sources, strict=True)):
        opened = {name: outcome.open(source) for name, outcome in material.found[number].items()}
        frames = min(len(source), *(len(video) for video in opened.values()))
        for name, video in {"source": source, **opened}.items():
            if len(video) > frames:
                log.warning(
                    "%s of %s: %d of its %d frames are shown, which all have",
                    name, clip["name"], frames, len(video),
                )  # fmt: skip
        for name, video in opened.items():
            content = [digest(file) for file in material.found[number][name].files()]
            for mark, made in (("", _fitted(video, source)), ("!", _damaged(video, source))):
                if mark and (number, name) not in checked:
                    continue
                key = f"{secret} {frames} {mark}{source.size} {source.timestamps} {content}"
                film = Beginning(source, made, frames)
                films[number, f"{mark}{name}"] = media.film(film, (), key)
        if wanted.with_source and material.known[number]:
            film = Beginning(source, source.__getitem__, frames)
            films[number, "source"] = media.film(film, (), f"{secret} source {source.digest()}")
    return films


def _fitted(video: Video, source: Video) -> Any:
    """Frames of a result at the size of its source."""
    return lambda index: resize(video[index], source.size).clamp(0, 1)


def _damaged(video: Video, source: Video) -> Any:
    """Frames in coarse blocks whose brightness jumps: worse under every question."""
    height, width = source.size
    block = max(1, min(height, width) // _BLOCK)

    def make(index: int) -> Tensor:
        image = resize(video[index], source.size)[None]
        small = F.adaptive_avg_pool2d(image, (max(1, height // block), max(1, width // block)))
        gain = 0.45 if index % 2 else 1.3
        return (F.interpolate(small, (height, width))[0] * gain).clamp(0, 1).to(torch.float32)

    return make


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
