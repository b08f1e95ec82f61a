"""Replay of recorded trajectories of the official implementations, token by token.

``python -m tests.conformance [folder ...]`` replays every case below the folders (default: the ones kept with the
tests, and ``../shared/conformance`` where it exists) and prints how many are exact.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass, field
from functools import cache as memoize
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cache_zoo import Cache, Step, make_cache
from generation import GenerationOutput, generate
from models import Transformer, load_model

KEPT = Path(__file__).parent / "conformance_cases"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "conformance"
_CACHES = {
    "generate": "none",
    "generate_with_prefix_cache": "prefix",
    "generate_with_dual_cache": "dual",
    "dllm_cache": "dllm",
}


@dataclass(frozen=True)
class Case:
    """One recorded case."""

    path: Path
    data: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Case:
        return cls(path, json.loads(path.read_text()))

    @property
    def id(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def expected(self) -> dict[str, Any]:
        return self.data["expected"]

    @property
    def prompts(self) -> list[list[int]]:
        """Prompts without padding."""
        rows = zip(self.data["prompt_ids"], self.data["prompt_lengths"], strict=True)
        return [row[len(row) - length :] for row, length in rows]

    def model(self) -> Transformer:
        return _model(self.path.parents[2] / "models" / self.data["model"])

    def cache(self) -> Cache:
        params, method = self.data["params"], self.data["method"]
        if "cache" in params:
            arguments = dict(params["cache_args"])
            if params["cache"] == "d2cache":
                arguments["confidence"] = "live" if self.path.stem.startswith("d2conf") else "first-step"
            return make_cache(params["cache"], **arguments)
        if method == "dllm_cache":
            names = {"kp": "prompt_interval_steps", "kr": "gen_interval_steps", "rou": "transfer_ratio"}
            return make_cache("dllm", **{ours: params[theirs] for ours, theirs in names.items()})
        return make_cache(_CACHES[method])

    def options(self) -> dict[str, Any]:
        params = self.data["params"]
        names = ("gen_length", "block_length", "num_transfer_tokens", "threshold", "factor", "sigma", "alg", "top_p")
        options = {name: params[name] for name in (*names, "stop_until_eos") if params.get(name) is not None}
        if params.get("threshold") is None and "num_transfer_tokens" not in params:
            options["steps"] = params["steps"]
        return options

    def trajectory(self) -> list[list[list[int]]]:
        """Per sequence, the distinct canvases after the model calls."""
        calls = self.expected["trajectory"]
        if self.data["batch_size"] == 1:
            calls = [[canvas] for canvas in calls]
        return [_distinct([call[b] for call in calls]) for b in range(self.data["batch_size"])]

    def official_forwards(self) -> int:
        """Forwards of the official code without those that changed nothing (it runs one more when a block is done)."""
        calls = self.expected["trajectory"]
        wasted = sum(before == after for before, after in pairwise(calls))
        return self.expected["nfe"] - wasted


def cases(*folders: Path) -> list[Case]:
    """All cases below the ``folders`` that exist, each once."""
    found: dict[Path, Case] = {}
    for folder in folders:
        for path in sorted(folder.glob("cases/*/*.json")):
            case = Case.read(path)
            found.setdefault(case.id, case)
    return list(found.values())


def differences(case: Case) -> list[str]:
    """Where our replay of ``case`` differs from the record; empty when it is exact."""
    out = run(case)
    found = []
    if out.tokens.tolist() != case.expected["final"]:
        found.append("final tokens differ")
    for b, expected in enumerate(case.trajectory()):
        ours = _distinct([entry.canvas[b].tolist() for entry in out.trace or []])
        if ours != expected:
            at = next((i for i, pair in enumerate(zip(ours, expected, strict=False)) if pair[0] != pair[1]), None)
            found.append(f"sequence {b}: step {at} differs ({len(ours)} steps, {len(expected)} recorded)")
    if out.nfe > case.official_forwards():
        found.append(f"{out.nfe} forwards, {case.official_forwards()} recorded")
    if not case.data["tie_dependent"]:
        found += _row_differences(case, out)
    return found


def run(case: Case) -> GenerationOutput:
    """Our replay of ``case``."""
    return generate(case.model(), case.prompts, case.cache(), trace=True, **case.options())


def logits_error(case: Case) -> float:
    """Largest difference of the first forward's logits at real positions."""
    recorded = load_file(case.path.with_name(case.expected["logits_file"]))["logits_forward_0"]
    model, length = case.model(), case.data["gen_length"]
    prompt = torch.tensor(case.data["prompt_ids"])
    ids = torch.cat([prompt, torch.full((len(prompt), length), case.data["mask_id"])], dim=1)
    valid = torch.ones_like(ids, dtype=torch.bool)
    if case.data["attention_mask"] is not None:
        valid[:, : prompt.shape[1]] = torch.tensor(case.data["attention_mask"]).bool()
    masked = ids == case.data["mask_id"]
    step = Step(model.canvas(valid, length, length), ids, masked, masked)
    ours = model.run(ids, step=step).logits
    return (ours - recorded.flatten(0, -2)[valid.flatten()]).abs().max().item()


def _row_differences(case: Case, out: GenerationOutput) -> list[str]:
    """Differences of the rows run, per sequence, where the record has them."""
    found = []
    for b in range(case.data["batch_size"]):
        padding = case.data["prompt_length"] - case.data["prompt_lengths"][b]
        recorded = list(_recorded_rows(case, b, padding))
        if len(recorded) == 0:
            continue
        ours = [
            [rows[entry.active.index(b)] for rows in (entry.layer_rows if _per_layer(case) else [entry.rows])]
            for entry in out.trace or []
            if b in entry.active
        ]
        pairs = list(zip(ours, recorded, strict=False))
        if len(ours) > len(recorded):
            found.append(f"sequence {b}: {len(ours)} forwards, {len(recorded)} recorded")
        for at, (mine, theirs) in enumerate(pairs):
            if theirs is not None and mine != theirs:
                found.append(f"sequence {b}: rows of forward {at} differ")
                break
    return found


def _per_layer(case: Case) -> bool:
    return "refresh_index" in case.expected or any("refresh_index_per_layer" in f for f in case.expected["forwards"])


def _recorded_rows(case: Case, b: int, padding: int):  # type: ignore[no-untyped-def]
    """Per forward of sequence ``b``: recorded rows per layer, without padding; None where they are not recorded."""
    length = case.data["prompt_length"] + case.data["gen_length"]
    everything = list(range(padding, length))
    calls = case.expected["trajectory"]
    if "refresh_index" in case.expected:
        yield from _response_rows(case, b, padding, everything)
        return
    for number, forward in enumerate(case.expected["forwards"]):
        if number and calls[number] == calls[number - 1]:
            continue  # a forward without effect
        if b not in forward.get("active_seqs", range(case.data["batch_size"])):
            continue
        if "refresh_index_per_layer" in forward:
            at = forward["active_seqs"].index(b)
            layers = forward["refresh_index_per_layer"]
            yield [[p for p in (layer[at] if layer else []) if p >= padding] for layer in layers]
        elif "query_positions" in forward:
            rows = forward["query_positions"]
            at = forward["active_seqs"].index(b)
            yield [everything if rows == "all" else [p for p in rows[at] if p >= padding]]
        elif "q_start" in forward:
            yield [list(range(max(padding, forward["q_start"]), forward["q_end"]))]
        else:
            yield None


def _response_rows(case: Case, b: int, padding: int, everything: list[int]):  # type: ignore[no-untyped-def]
    """dLLM-Cache records only the rows that its adaptive update picks; what the schedule refreshes follows from it."""
    params, start = case.data["params"], case.data["prompt_length"]
    picked = {(call, layer): positions[b] for call, layer, positions in case.expected["refresh_index"]}
    prompt, response = everything[: start - padding], everything[start - padding :]
    layers = case.model().config.num_layers
    for call in range(case.expected["model_calls"]):
        prompt_due = call % params["prompt_interval_steps"] == 0
        response_due = call % params["gen_interval_steps"] == 0
        rows = [everything]
        for layer in range(1, layers):
            chosen = response if response_due else [start + p for p in picked.get((call, layer), [])]
            rows.append((prompt if prompt_due else []) + chosen)
        yield rows


def _distinct(canvases: list[list[int]]) -> list[list[int]]:
    return [c for i, c in enumerate(canvases) if i == 0 or c != canvases[i - 1]]


@memoize
def _model(folder: Path) -> Transformer:
    return load_model(folder)


def main(arguments: list[str]) -> int:
    """Replay and report; the status is 0 if every case is exact."""
    folders = [Path(argument) for argument in arguments] or [KEPT, SHARED]
    found, exact, compared = cases(*folders), 0, 0
    for case in found:
        problems = differences(case)
        if "logits_file" in case.expected and (error := logits_error(case)) > 1e-4:
            problems.append(f"first logits differ by {error:.2e}")
        exact += not problems
        compared += any(rows is not None for rows in _recorded_rows(case, 0, 0))
        if problems:
            print(f"{case.id}: " + "; ".join(problems))
    print(f"{exact} of {len(found)} conformance cases token-exact; rows run compared in {compared}")
    return 0 if found and exact == len(found) else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", ".*needs blocks")  # some cases have one block, as recorded
    sys.exit(main(sys.argv[1:]))
