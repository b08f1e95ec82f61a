"""Run untrusted Python programs, isolated from the machine and from their own verdict.

The package imports the standard library only. docs/sandbox.md describes the layers, the attacks tried and what is left
open.
"""

from evaluation.sandbox.client import DEFAULT_LIMITS, Sandbox, SandboxError, Verdict
from evaluation.sandbox.inside.limits import LAYERS, Limits

__all__ = ["DEFAULT_LIMITS", "LAYERS", "Limits", "Sandbox", "SandboxError", "Verdict"]
