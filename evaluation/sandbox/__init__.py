"""Running generated Python programs, cut off from the machine and from their own verdict.

docs/sandbox.md says what each layer is for, what attacks were tried and what is left open.
"""

from evaluation.sandbox.host import DEFAULT_LIMITS, Outcome, Sandbox, run_program
from evaluation.sandbox.inside.terms import NAMES as LAYERS
from evaluation.sandbox.inside.terms import Limits

__all__ = ["DEFAULT_LIMITS", "LAYERS", "Limits", "Outcome", "Sandbox", "run_program"]
