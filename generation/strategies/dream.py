"""Dream's own sampler: its schedule over the whole canvas."""

from __future__ import annotations

from dataclasses import replace

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.strategies.ranked import RankedStrategy


class Dream(RankedStrategy):
    """Each forward commits the share of the masks left that Dream's schedule gives, anywhere in the answer.

    What `diffusion_generate` does (Dream 7B, arXiv 2508.15487): ``steps`` forwards, by default ``gen_length``, over one
    block; ``alg``, ``alg_temp``, ``eps``, ``temperature``, ``top_p`` and ``top_k`` are its options. ``block_length``
    has no effect. The same as ``vanilla`` with ``schedule=dream``, ``steps`` and ``block_length=null``.

    Deviates from the released code in that each sequence of a batch follows the number of its own masks, not the mean.
    """

    paper = "Dream 7B, arXiv 2508.15487"

    def __init__(self, options: GenerationOptions) -> None:
        does = "strategy 'dream' commits what its schedule says"
        require(
            options.schedule != "dream_canvas", f"{does}, and schedule=dream_canvas is another; give schedule=dream"
        )
        number = options.num_transfer_tokens
        require(number == 1, f"{does}, and num_transfer_tokens={number} is another rule; give steps")
        require(options.counted, f"{does}, and {options.rule} is another rule; leave it out")
        steps = options.gen_length if options.steps is None else options.steps
        super().__init__(replace(options, schedule="dream", steps=steps, block_length=None), blocks=False)
