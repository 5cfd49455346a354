"""Every kind of part. A choice is one file that fulfils one of these contracts.

Parts are frozen dataclasses: their fields are their configuration, they keep no state between
calls, and they refuse bad values when they are built.
"""

from rerender.contracts.attention import (
    AttendJointly,
    AttentionProcessor,
    Canvas,
    FeatureEdit,
    Features,
    Grid,
    HiddenStates,
    SelfAttention,
)
from rerender.contracts.constraint import (
    Attend,
    CleanJointly,
    Constraint,
    Edits,
    Guidance,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Part,
)
from rerender.contracts.context import AttentionContext, StoredContext
from rerender.contracts.demand import MemoryDemand
from rerender.contracts.mask import Mask
from rerender.contracts.network import Checkpoint, Model
from rerender.contracts.output import Cell, Propagation, Smooth, Tracker
from rerender.contracts.request import (
    Adapter,
    AttentionMapEdit,
    Condition,
    JointAttention,
    NoiseRequest,
    guide,
)
from rerender.contracts.sampling import (
    InitialLatent,
    Sampler,
    Schedule,
    Start,
    StartContext,
    StepOutput,
)
from rerender.contracts.source import (
    BatchedFlowEstimator,
    Control,
    Data,
    FlowEstimator,
    KeyFrames,
    require_window,
)
from rerender.contracts.workers import SegmentWorkers, Workers

__all__ = [
    "Adapter",
    "Attend",
    "AttendJointly",
    "AttentionContext",
    "AttentionMapEdit",
    "AttentionProcessor",
    "BatchedFlowEstimator",
    "Canvas",
    "Cell",
    "Checkpoint",
    "CleanJointly",
    "Condition",
    "Constraint",
    "Control",
    "Data",
    "Edits",
    "FeatureEdit",
    "Features",
    "FlowEstimator",
    "Grid",
    "Guidance",
    "HiddenStates",
    "InitialLatent",
    "InversionEdits",
    "JointAttention",
    "JointConstraint",
    "JointEdits",
    "KeyFrames",
    "Mask",
    "MemoryDemand",
    "Model",
    "NoiseRequest",
    "Part",
    "Propagation",
    "Sampler",
    "Schedule",
    "SegmentWorkers",
    "SelfAttention",
    "Smooth",
    "Start",
    "StartContext",
    "StepOutput",
    "StoredContext",
    "Tracker",
    "Workers",
    "guide",
    "require_window",
]
