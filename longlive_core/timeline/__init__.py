"""The timeline: prompts over time, from text to a plan in chunks and frames.

    script = parse("0s A panda walks\\n12s The panda sits {keep}")
    plan = script.plan(duration=20.0)
    print(plan.describe())

    parse.py    text -> Script; notations/ has a file for each way to write a timeline
    options.py  `{keep, seed=7}` at the end of a prompt: add an option or a transition here
    snap.py     Script -> Plan: times become chunks
    plan.py     the plan that a rollout follows
    write.py    Script or Plan -> text
    edit.py     new segments in a plan

The language is described in docs/timeline.md. Every error of the user raises `TimelineError` (a `ValueError`) that
names line and column; nothing is ignored and nothing falls back silently.
"""

from ..config import TRANSITIONS
from .edit import NewSegment, with_segment, with_segments
from .limits import MAX_CHUNKS, MAX_SECONDS, MAX_SEGMENTS
from .parse import parse
from .plan import Plan, PlannedPrompt, PlannedSegment, shot_boundary
from .report import timeline_report
from .script import Script, check_first
from .snap import DEFAULT_SEGMENT_SECONDS
from .syntax import Segment, Time, TimelineError
from .times import parse_time
from .write import plan_text, read_exact, script_text

__all__ = [
    "DEFAULT_SEGMENT_SECONDS",
    "MAX_CHUNKS",
    "MAX_SECONDS",
    "MAX_SEGMENTS",
    "NewSegment",
    "TRANSITIONS",
    "Plan",
    "PlannedPrompt",
    "PlannedSegment",
    "Script",
    "Segment",
    "Time",
    "TimelineError",
    "check_first",
    "parse",
    "parse_time",
    "plan_text",
    "read_exact",
    "script_text",
    "shot_boundary",
    "timeline_report",
    "with_segment",
    "with_segments",
]
