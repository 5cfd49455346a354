"""Every way a run may be refused, with its exit code.

A message is one line: ``where: what is wrong; what to do``. ``where`` is a file or a config key,
and the rule that was broken names the value received. Anything that is not one of these
exceptions is a bug of ours and leaves with code 70.
"""

from __future__ import annotations

from typing import ClassVar


class RerenderError(Exception):
    """A refusal with a documented exit code.

    Args:
        where: the file or config key at fault.
        problem: the rule that was broken and the value received.
        cure: what the user can do about it.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, where: object, problem: str, cure: str) -> None:
        self.where, self.problem, self.cure = str(where), problem, cure
        super().__init__(" ".join(f"{where}: {problem}; {cure}".split()))


class ConfigError(RerenderError):
    """The configuration is not one that can be run (exit code 2)."""

    exit_code = 2


class InputError(RerenderError):
    """A video, frame folder or prompt list cannot be used (exit code 3)."""

    exit_code = 3


class WeightsError(RerenderError):
    """Model weights are missing, damaged or of another architecture (exit code 4)."""

    exit_code = 4


class ResourceError(RerenderError):
    """Disk or memory ran out, or an output cannot be written (exit code 5)."""

    exit_code = 5


class PartialSweepError(RerenderError):
    """Some jobs of a sweep failed, the others are complete (exit code 6)."""

    exit_code = 6


class LockedError(RerenderError):
    """Another process is working in the same folder (exit code 75)."""

    exit_code = 75
