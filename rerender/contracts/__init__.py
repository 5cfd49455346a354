"""Every kind of part. A choice is one file that fulfils one of these contracts.

Parts are frozen dataclasses: their fields are their configuration, they keep no state between
calls, and they refuse bad values when they are built.
"""

from rerender.contracts.constraint import (
    Attend,
    Constraint,
    Edits,
    Guidance,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Part,
)
from rerender.contracts.network import (
    Adapter,
    AttendJointly,
    AttentionMapEdit,
    Checkpoint,
    Condition,
    HiddenStates,
    JointAttention,
    Model,
    NoiseRequest,
    guide,
)
from rerender.contracts.output import Cell, Propagation, Smooth, Tracker
from rerender.contracts.sampling import (
    InitialLatent,
    Sampler,
    Schedule,
    Start,
    StartContext,
    StepOutput,
)
from rerender.contracts.source import Control, Data, FlowEstimator, KeyFrames, require_window

__all__ = [
    "Adapter",
    "Attend",
    "AttendJointly",
    "AttentionMapEdit",
    "Cell",
    "Checkpoint",
    "Condition",
    "Constraint",
    "Control",
    "Data",
    "Edits",
    "FlowEstimator",
    "Guidance",
    "HiddenStates",
    "InitialLatent",
    "InversionEdits",
    "JointAttention",
    "JointConstraint",
    "JointEdits",
    "KeyFrames",
    "Model",
    "NoiseRequest",
    "Part",
    "Propagation",
    "Sampler",
    "Schedule",
    "Smooth",
    "Start",
    "StartContext",
    "StepOutput",
    "Tracker",
    "guide",
    "require_window",
]
