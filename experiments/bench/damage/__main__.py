"""Damaged files of every kind, given to the commands that read them.

    python -m experiments.bench.damage --out experiments/bench/damage.md

Each mutant is one whole file with one kind of damage, made from a seed, and handled by the command
that reads such files, in a copy of this process that has everything imported. It must be taken
with the right result, or refused in one line. ``--count`` sets how many mutants, ``--again KIND
NUMBER`` makes one of them again in the folder ``--keep`` and shows what was said.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from random import Random

import cv2
import torch

from experiments.bench.damage.kinds import COUNT, KINDS, Command, MutantTrial, warm
from experiments.bench.damage.seeds import plant
from rerender import files
from rerender.exits import terminable

COUNT_OF_MUTANTS, LIMIT, BATCH = 2000, 20.0, 25
ROOM = 16 << 30  # bytes of address space for one command
OK, WARNED, REFUSED = "ok", "ok, warned", "refused"
BUG, HANG, CRASH, MISCOUNT, WRONG = "code 70", "hang", "crash", "wrong count", "wrong result"
VERDICTS = (OK, WARNED, REFUSED, BUG, HANG, CRASH, MISCOUNT, WRONG)
FAULTS = (BUG, HANG, CRASH, MISCOUNT, WRONG)
REFUSALS = (2, 3, 4, 5, 6, 75)
Name = tuple[str, int]  # kind and number of a mutant


@dataclass(frozen=True)
class MutantResult:
    """What became of one mutant.

    Attributes:
        kind, number: which one.
        what: the file that was damaged.
        verdict: one of `VERDICTS`.
        code: the exit code; None where there was none.
        said: what the command said, or what is wrong.
        seconds: that it took.
    """

    kind: str
    number: int
    what: str
    verdict: str
    code: int | None
    said: str
    seconds: float


@dataclass
class _Batch:
    """A child process and the mutants it still has to do."""

    pid: int
    pipe: int
    left: deque[Name]
    since: float
    text: bytes = b""


@dataclass
class MutantPool:
    """Child processes that work on mutants; one that hangs or dies costs one mutant.

    Attributes:
        seeds: folder of the whole files.
        seed: of all damage.
        limit: seconds for one mutant.
        results: those so far.
    """

    seeds: Path
    seed: int
    limit: float
    results: list[MutantResult] = field(default_factory=list)

    def run(self, names: Sequence[Name], workers: int) -> list[MutantResult]:
        """All mutants, in any order."""
        waiting = deque(names)
        running: dict[int, _Batch] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
                    started = self._start(batch)
                    running[started.pipe] = started
                for pipe in select.select(list(running), [], [], 0.5)[0]:
                    if not self._heard(running[pipe]):
                        waiting += self._ended(running.pop(pipe), CRASH)
                now = time.monotonic()
                for late in [each for each in running.values() if now - each.since > self.limit]:
                    waiting += self._ended(running.pop(late.pipe), HANG)
        finally:
            for each in running.values():
                self._ended(each, HANG)
        return self.results

    def _start(self, names: Sequence[Name]) -> _Batch:
        sys.stdout.flush()
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid:
            os.close(theirs)
            return _Batch(pid, ours, deque(names), time.monotonic())
        try:
            os.close(ours)
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
            for kind, number in names:
                with _folder():
                    result = attempt(self.seeds, self.seed, kind, number)
                os.write(theirs, json.dumps(asdict(result)).encode() + b"\n")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _heard(self, batch: _Batch) -> bool:
        """Take what a child has written; whether it still lives."""
        block = os.read(batch.pipe, 1 << 16)
        *lines, batch.text = (batch.text + block).split(b"\n")
        for line in lines:
            self.results.append(MutantResult(**json.loads(line)))
            batch.left.popleft()
            batch.since = time.monotonic()
        return bool(block)

    def _ended(self, batch: _Batch, verdict: str) -> list[Name]:
        """The mutants that a child has not done; the one it was at has its verdict."""
        os.close(batch.pipe)
        with suppress(ProcessLookupError):
            os.killpg(batch.pid, signal.SIGKILL)
        status = os.waitpid(batch.pid, 0)[1]
        if batch.left:
            kind, number = batch.left.popleft()
            how = f"ended with {os.waitstatus_to_exitcode(status)}"
            spent = time.monotonic() - batch.since
            self.results.append(MutantResult(kind, number, "", verdict, None, how, spent))
        return list(batch.left)


@contextmanager
def _folder() -> Iterator[None]:
    """An empty working folder for one mutant."""
    place = tempfile.mkdtemp(prefix="damage-")
    try:
        os.chdir(place)
        yield
    finally:
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)


def attempt(seeds: Path, seed: int, kind: str, number: int) -> MutantResult:
    """Make one mutant in the working folder and give it to its command."""
    begun = time.monotonic()
    trial = KINDS[kind].make(seeds, Random(f"{seed} {kind} {number}"))
    with tempfile.TemporaryFile() as heard:
        code = _called(trial.command, heard.fileno())
        heard.seek(0)
        said = heard.read().decode(errors="replace")
    verdict, why = judged(trial, code, said)
    spent = round(time.monotonic() - begun, 2)
    return MutantResult(kind, number, trial.what, verdict, code, why[-600:], spent)


def _called(command: Command, heard: int) -> int | None:
    """The exit code of a command, None where it raised; all it says goes to a file."""
    kept = os.dup(1), os.dup(2)
    os.dup2(heard, 1)
    os.dup2(heard, 2)
    try:
        return command()
    except SystemExit as end:  # argparse
        return end.code if isinstance(end.code, int) else 2
    except BaseException:
        traceback.print_exc()
        return None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, file in enumerate(kept, 1):
            os.dup2(file, number)
            os.close(file)


def judged(trial: MutantTrial, code: int | None, said: str) -> tuple[str, str]:
    """The verdict on a command, and what speaks for it."""
    lines = said.strip().splitlines() or [""]
    if code not in (0, *REFUSALS) or "Traceback (most recent" in said:
        return BUG, next((line for line in lines if "; please report it" in line), lines[-1])
    if code:
        spoken = [line for line in lines if line.startswith(("error: ", "usage: "))]
        return (REFUSED, spoken[-1]) if spoken else (BUG, f"refused without a word: {lines[-1]}")
    wrong = trial.judge()
    if not wrong:
        return OK, ""
    if not wrong.startswith(COUNT):
        return WRONG, wrong
    warned = [line for line in lines if line.startswith("warning: ")]
    return (WARNED, warned[-1]) if warned else (MISCOUNT, wrong)


def names(count: int) -> list[Name]:
    """About ``count`` mutants, by the shares of their kinds; at least one of each."""
    total = sum(kind.share for kind in KINDS.values())
    numbers = {name: max(round(count * kind.share / total), 1) for name, kind in KINDS.items()}
    return [(name, number) for name, most in numbers.items() for number in range(most)]


def prepare(place: Path) -> None:
    """Make the whole files, and have everything imported that commands need."""
    torch.set_num_threads(1)  # more would not outlive the copying of this process
    cv2.setNumThreads(1)
    plant(place)
    with _folder(), tempfile.TemporaryFile() as heard:
        if _called(lambda: warm(place), heard.fileno()) != 0:
            heard.seek(0)
            raise RuntimeError(heard.read().decode(errors="replace")[-1000:])
    gc.collect()  # a copy that closed a decoder would wait for threads that it does not have
    gc.freeze()


def table(results: Sequence[MutantResult], seed: int) -> str:
    """The figures as a page."""
    counts = Counter((result.kind, result.verdict) for result in results)
    faulty = sum(counts[kind, verdict] for kind in KINDS for verdict in FAULTS)
    slowest = max(result.seconds for result in results)
    lines = [
        "# What damaged files come to",
        "",
        f"`python -m experiments.bench.damage --seed {seed}`, {date.today()}: {len(results)}",
        f"files, each with one kind of damage; {faulty} faults. The slowest took {slowest:.1f} s.",
        "",
        "ok: right count of frames, or the same bytes as undamaged where the whole is known;",
        "warned: another count, and a warning says so; refused: one line and exit code 2 to 6.",
        "The others are faults; wrong result: damage stayed in a folder of results or its video.",
        "",
        f"| kind | {' | '.join(VERDICTS)} |",
        f"|---|{'---|' * len(VERDICTS)}",
    ]
    for kind in KINDS:
        cells = (str(counts[kind, verdict]) for verdict in VERDICTS)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    sums = (sum(counts[kind, verdict] for kind in KINDS) for verdict in VERDICTS)
    return "\n".join([*lines, f"| all | {' | '.join(map(str, sums))} |"]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, judge and write the page; 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="page to write")
    parser.add_argument("--count", type=int, default=COUNT_OF_MUTANTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one mutant")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this one")
    parser.add_argument("--again", nargs=2, metavar=("KIND", "NUMBER"), help="one mutant, kept")
    parser.add_argument("--keep", type=Path, default=Path("mutant"), help="its folder")
    options = parser.parse_args(arguments)
    out, keep = (path and path.absolute() for path in (options.out, options.keep))
    with tempfile.TemporaryDirectory() as place, terminable():
        tempfile.tempdir = str(files.folder(Path(place) / "work"))  # of commands that hang, too
        prepare(Path(place))
        if options.again:
            kind, number = options.again
            keep.mkdir(parents=True)
            os.chdir(keep)
            found = attempt(Path(place), options.seed, kind, int(number))
            sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n")
            return int(found.verdict in FAULTS)
        wanted = [name for name in names(options.count) if name[0] in (options.kind or KINDS)]
        results = MutantPool(Path(place), options.seed, options.limit).run(wanted, options.workers)
    gc.unfreeze()  # libraries complain of what is left at the end
    faults = [result for result in results if result.verdict in FAULTS]
    for each in sorted(faults, key=lambda result: (result.kind, result.verdict, result.number)):
        sys.stdout.write(f"{each.verdict}  {each.kind} {each.number}  {each.what}: {each.said}\n")
    if out:
        files.put(out, table(results, options.seed).encode())
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
