"""Every kind of part. A choice is one file that fulfils one of these contracts.

Parts are frozen dataclasses: their fields are their configuration, they keep no state between
calls, and they refuse bad values when they are built.
"""

from rerender.contracts.constraint import Act, Attend, Constraint, Edit, Edits, Joint, Pull
from rerender.contracts.network import (
    Checkpoint,
    Condition,
    Look,
    Maps,
    Model,
    Query,
    Shown,
    Together,
    guide,
)
from rerender.contracts.output import Cell, Propagation, Smooth, Tracker
from rerender.contracts.sampling import Memory, Move, Opening, Sampler, Schedule, Stage, Start
from rerender.contracts.source import Control, Data, FlowEstimator, KeyFrames, require_window

__all__ = [
    "Act",
    "Attend",
    "Cell",
    "Checkpoint",
    "Condition",
    "Constraint",
    "Control",
    "Data",
    "Edit",
    "Edits",
    "FlowEstimator",
    "Joint",
    "KeyFrames",
    "Look",
    "Maps",
    "Memory",
    "Model",
    "Move",
    "Opening",
    "Propagation",
    "Pull",
    "Query",
    "Sampler",
    "Schedule",
    "Shown",
    "Smooth",
    "Stage",
    "Start",
    "Together",
    "Tracker",
    "guide",
    "require_window",
]
