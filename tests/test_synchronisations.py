"""How often a step waits for its device: counted on a CPU, where a wait costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from generation import stream
from models import Transformer

ROOT = Path(__file__).resolve().parents[1]
OURS = [ROOT / name for name in ("cache_zoo", "generation", "models")]
ON_HOST = [ROOT / "generation" / name for name in ("strategies", "decoder.py", "batch.py")]
"""They plan with tensors that are on the CPU; the decoder gets these by one ``cpu()`` per step."""
READING = ("aten.nonzero.default", "aten._local_scalar_dense", "aten.is_nonzero", "aten.masked_select", "aten.equal")
"""Operations whose result the host has to read."""


class Waits(TorchDispatchMode):
    """Counts operations that read from the device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        for name in ("cpu", "tolist"):  # no operations on a CPU
            monkeypatch.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensor: torch.Tensor, *arguments: Any) -> Any:
            self.count += method.__name__ == "cpu" or not _on_host(sys._getframe(1))
            return method(tensor, *arguments)

        return counted

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
        by_mask = any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in indices)
        reads = str(operation).startswith(READING) or ("index" in str(operation) and by_mask)
        self.count += reads and not _on_host(sys._getframe(1))
        return operation(*args, **(kwargs or {}))


def _on_host(frame: FrameType) -> bool:
    """Whether the nearest caller among our files works with tensors on the CPU."""
    file = Path(frame.f_code.co_filename)
    while not any(folder in file.parents for folder in OURS):
        assert frame.f_back is not None
        frame = frame.f_back
        file = Path(frame.f_code.co_filename)
    return any(place == file or place in file.parents for place in ON_HOST)


# One token per forward, three prompts end together; where a sequence leaves the batch, its canvas is made anew.
@pytest.mark.parametrize(("threshold", "prompts"), [(None, 3), (0.3, 1)])
@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("cache", ["none", "prefix", "dual", "vicinity", "freecache"])
def test_a_step_waits_once(
    cache: str,
    family: str,
    threshold: float | None,
    prompts: int,
    tiny_models: dict[str, Transformer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [list(range(5, 12)), list(range(5, 17)), [9]][:prompts]
    options = {"gen_length": 16, "block_length": 8, "threshold": threshold}
    steps = []
    with Waits(monkeypatch) as waits:
        before = 0
        for _ in stream(tiny_models[family], texts, cache, **options):
            steps.append(waits.count - before)
            before = waits.count
    assert len(steps) > 2
    assert set(steps[1:]) == {1}
