"""Sources of recorded cases, and how each one's parameters map to our objects.

A mapping reads parameters only, so it holds for any values of them.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.case import Case
from tests.conformance.replay import NotReplayedError, Replay
from tests.conformance.sources import caching, canvas, choosing, loops, regions

SOURCES: dict[str, Callable[[Case], Replay]] = {
    "llada_official": loops.llada_official,
    "dream_official": loops.dream_official,
    "fastdllm_llada": loops.fastdllm_llada,
    "fastdllm_llada_newer": loops.fastdllm_llada,
    "fastdllm_dream": loops.fastdllm_dream,
    "dinfer": loops.dinfer,
    "dllm_cache": caching.dllm_cache,
    "d2cache_repo": caching.d2cache_repo,
    "d2cache_repo_fixed": caching.d2cache_repo,
    "dkv_cache": caching.dkv_cache,
    "sparse_dllm": caching.sparse_dllm,
    "freecache_llada": caching.freecache_llada,
    "freecache_dream": caching.freecache_dream,
    "elastic_cache": caching.elastic_cache,
    "dyllm": caching.dyllm,
    "sparsed_llada": caching.sparsed,
    "sparsed_dream": caching.sparsed,
    "streaming_llada": regions.streaming,
    "streaming_dream": regions.streaming,
    "dpad_llada": regions.dpad,
    "dpad_dream": regions.dpad,
    "dsb_llada": regions.dsb,
    "dsb_dream": regions.dsb,
    "adablock_llada": choosing.adablock,
    "adablock_dream": choosing.adablock,
    "cadllm": choosing.cadllm,
    "odb_alp": choosing.odb,
    "odb_accept_jump": choosing.odb,
    "daedal": canvas.daedal,
    "slow_fast": canvas.slow_fast,
    "wino_official": canvas.wino,
}


def replay_of(case: Case) -> Replay:
    """How ``case`` is replayed.

    Raises:
        NotReplayedError: the source, or what this case uses of it, is not offered here.
    """
    if case.source not in SOURCES:
        raise NotReplayedError(f"the source {case.source}")
    return SOURCES[case.source](case)
