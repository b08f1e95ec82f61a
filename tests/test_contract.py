"""Every registered cache, also of installed packages, keeps the contract; the contract finds broken caches."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cache_zoo import AttentionBlock, Cache, Canvas, KVCache, Step, UsageError, list_caches
from generation.testing import Check, checks

# Settings far from the defaults, so that small canvases see every branch of the built-in caches.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "prefix": [{"use_dual": True}],
    "dllm": [{"kp": 5, "kr": 3, "rou": 0.5}, {"kp": 3, "kr": 50, "rou": 0.0}],
    "d2cache": [
        {"rollout_p": 0.5, "current_k": 3, "sigma": 3.0, "inflate_w": 0},
        {"rollout_p": 0.0, "current_k": 1, "confidence": "first-step"},
    ],
    "vicinity": [{"prefix_look": 2, "after_look": 1, "warmup_steps": 1}],
    "dsb": [{"prefix_window": 2, "suffix_window": 1}],
    "freecache": [{"freeze_after_write": True}],
    "dkv": [{"cache_steps": 3}, {"variant": "prefill"}, {"variant": "pd", "cache_steps": 3, "shift_type": "un_right"}],
    "dkv_greedy": [{"cache_steps": 3, "window": 1}],
    "sparse": [{"keep_ratio": 0.3, "kernel_size": 1}, {"keep_ratio": 0.0}, {"keep_ratio": 0.7, "ties": "topk"}],
    "maskkv": [{"budget": 3}, {"budget": 2, "alpha": 0.0, "beta": 0.0}],
    "entropy": [{"threshold": 2.8, "recent_k": 2}, {"threshold": 1e9, "recent_k": 0}],
    "elastic": [{"gamma": 0.96, "track_num": 2}, {"gamma": 2.0, "block_caching": False}],
    "dyllm": [{"threshold": 0.9, "full_steps": 1, "period": 3}, {"threshold": 2.0, "full_steps": 2, "period": 1}],
    "sparsed": [
        {"skip": 0.0, "select": 0.3, "block_size": 4},
        {"skip": 0.3, "select": 0.0, "block_size": 5, "scale": "num_heads"},
    ],
}
CHECKS = [check for name in list_caches() for check in checks(name, *VARIANTS.get(name, []))]


@pytest.mark.sampled(45)
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: Check) -> None:
    check()


class Sloppy(KVCache):
    """The block only, after a first full step."""

    paper = "made up"
    exact_with: ClassVar[dict[str, Any] | None] = None

    def rows(self, step: Step) -> Tensor | None:
        return None if step.index == 0 else self.block(step)

    def block(self, step: Step) -> Tensor:
        return step.block.roll(-step.canvas.shift, dims=1)


class Forgetful(Sloppy):
    """Does not forget the last generation."""

    forwards = 0

    def rows(self, step: Step) -> Tensor | None:
        self.forwards += 1
        return None if self.forwards % 3 == 0 else self.block(step)


class Social(Sloppy):
    """Its rows depend on the batch."""

    def rows(self, step: Step) -> Tensor | None:
        return None if step.index % (1 + step.ids.shape[0]) == 0 else self.block(step)


class Careless(Sloppy):
    """Computes with memory that nothing was written to."""

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self.memory = torch.empty(8)

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        return super().attention(layer, x, attn, step) + 0 * self.memory.sum()


class Boastful(Sloppy):
    """Claims to recompute everything."""

    exact_with: ClassVar[dict[str, Any] | None] = {}


class Silent(Sloppy):
    """Does not count its memory."""

    def nbytes(self) -> int:
        return 0


class Hoarding(Sloppy):
    """Holds something in the middle of a forward that is not the first."""

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        self.held = torch.zeros(1000) if layer == 0 and step.index > 0 else None
        return super().attention(layer, x, attn, step)


class Nameless(Sloppy):
    """Has no source."""

    paper = ""


class Demanding(Sloppy):
    """Needs a parameter."""

    def __init__(self, width: int) -> None:
        self.width = width


def test_a_cache_that_keeps_it_passes() -> None:
    for check in checks(f"{__name__}:Sloppy"):
        if check.decoder in ("blocks", "sampling"):
            check()


@pytest.mark.parametrize(
    ("cache", "promise", "message"),
    [
        (Forgetful, "decodes_the_same_alone_and_again", "a second generation"),
        (Social, "decodes_the_same_alone_and_again", "of a batch differs from decoding it alone"),
        (Careless, "never_reads_fresh_memory", "memory that nothing was written to"),
        (Boastful, "recomputing_everything_equals_no_cache", "something else than no cache"),
        (Silent, "names_its_source_and_reports_its_memory", "reports no memory"),
        (Hoarding, "reports_the_most_it_holds", "it holds .* bytes at most and reports"),
        (Nameless, "names_its_source_and_reports_its_memory", "name the source of the method"),
    ],
)
def test_the_contract_finds_what_breaks_it(cache: type[Cache], promise: str, message: str) -> None:
    def run() -> None:
        for check in checks(f"{__name__}:{cache.__name__}"):
            if check.promise == promise:
                check()

    with pytest.raises(AssertionError, match=message):
        run()


def test_a_cache_must_work_with_its_defaults() -> None:
    with pytest.raises(UsageError, match="missing 1 required positional argument: 'width'"):
        checks(f"{__name__}:Demanding")[0]()
