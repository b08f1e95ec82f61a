"""Rows that a recorded model call fed to the network."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case

Rows = list[list[int]]
"""Positions per layer, or one list that holds for all layers."""


def recorded_rows(case: Case, call: int, sequence: int) -> Rows | None:
    """Rows of ``sequence`` in model call number ``call``, without padding; None where they are not recorded."""
    padding = case.start - case.data["prompt_lengths"][sequence]
    record = case.expected["forwards"][call]
    rows: Rows | None
    if case.source == "dllm_cache":
        guided = bool(case.params.get("cfg_scale"))  # its two contexts are calls of their own
        rows = None if guided else _response_rows(case, call, sequence)
    else:
        rows = _fed_rows(case, record, active(case, call).index(sequence))
    return None if rows is None else [[p for p in layer if p >= padding] for layer in rows]


def active(case: Case, call: int) -> list[int]:
    """Sequences that took part in model call number ``call``."""
    return case.expected["forwards"][call].get("active_seqs", list(range(case.batch)))


def _fed_rows(case: Case, record: dict[str, Any], at: int) -> Rows | None:
    everything = list(range(case.length))
    if "refresh_index_per_layer" in record:
        return [layer[at] if layer else [] for layer in record["refresh_index_per_layer"]]
    if "query_positions" in record:
        fed = record["query_positions"]
        if fed == "all":
            return [everything]
        rows = sorted(set(fed[at] if isinstance(fed[0], list) else fed))
        refresh = record.get("refresh_from_layer")  # Elastic-Cache runs all rows from this layer on
        if refresh is None:
            return [rows]
        layers = case.model().config.num_layers
        return [everything if layer >= refresh else rows for layer in range(layers)]
    if "visible_suffix" in record:
        first, end = record["q_start"], case.start + (record["block"] + 1) * case.block
        rows = list(range(first, end))
        return [rows + record["visible_suffix"] if record["n_query"] > len(rows) else rows]
    if "drafted" in record:  # three copies of the block stand beside it
        return [list(range(record["q_start"], record["q_start"] + record["n_query"] // 4))]
    if "q_end" in record:
        return [list(range(record["q_start"], record["q_end"]))]
    if "q_start" in record:
        return [list(range(record["q_start"], record["q_start"] + record["n_query"]))]
    if "gen_lengths" in record:
        return [everything[: case.start] + list(range(case.start, case.start + record["gen_lengths"][at]))]
    if case.source == "slow_fast":  # the canvas is cut; which rows dLLM-Cache runs is not recorded
        return None if case.params.get("dllm_cache") else [everything[: record["n_query"]]]
    return [everything] if record.get("n_query") == case.length else None


def _response_rows(case: Case, call: int, sequence: int) -> Rows:
    """dLLM-Cache records only the rows that its adaptive update picks; what the schedule refreshes follows from it."""
    picked = {(at, layer): rows[sequence] for at, layer, rows in case.expected.get("refresh_index", [])}
    prompt, response = list(range(case.start)), list(range(case.start, case.length))
    prompt_due = call % case.params["prompt_interval_steps"] == 0
    response_due = call % case.params["gen_interval_steps"] == 0
    rows = [prompt + response]
    for layer in range(1, case.model().config.num_layers):
        chosen = response if response_due else [case.start + p for p in picked.get((call, layer), [])]
        rows.append((prompt if prompt_due else []) + chosen)
    return rows
