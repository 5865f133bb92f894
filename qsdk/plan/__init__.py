"""What a run is going to do, and every problem it would meet, before any of it is done."""

from qsdk.plan.inputs import is_observer
from qsdk.plan.making import FROM_DATA, Plan, Task, make_plan
from qsdk.plan.passes import chosen_passes

__all__ = ["FROM_DATA", "Plan", "Task", "chosen_passes", "is_observer", "make_plan"]
