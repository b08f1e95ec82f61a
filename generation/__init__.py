"""The denoising loop: a canvas of [MASK] tokens decoded by a strategy, with a cache to save work."""

from generation.decoder import generate, stream
from generation.finite_logits import NotFiniteError
from generation.likelihood import Likelihood, LikelihoodOptions, log_likelihoods
from generation.options import GenerationOptions
from generation.output import Counts, GenerationOutput, Progress, TraceStep
from generation.strategies.strategy import Board, Edit, Plan, Region, Strategy, View

__all__ = [
    "Board",
    "Counts",
    "Edit",
    "GenerationOptions",
    "GenerationOutput",
    "Likelihood",
    "LikelihoodOptions",
    "NotFiniteError",
    "Plan",
    "Progress",
    "Region",
    "Strategy",
    "TraceStep",
    "View",
    "generate",
    "log_likelihoods",
    "stream",
]
