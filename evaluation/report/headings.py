"""What the runs of one group share, in words: the head of a table of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

_NUMBERS = {
    "length": "gen_length",
    "block": "block_length",
    "threshold": "threshold",
    "steps": "steps",
    "tokens per step": "num_transfer_tokens",
    "shots": "n_shot",
    "batch": "batch_size",
    "seed": "seed",
}


def heading(row: Mapping[str, Any] | pd.Series) -> list[str]:
    """Strategy, settings, machine and number of questions of a run, in this order, without what is off or not there.

    Args:
        row: of the leaderboard's frame.
    """
    words = [row["decoder"], row["decoder_settings"]]
    words += [f"{word} {row[key]:g}" for word, key in _NUMBERS.items() if not pd.isna(row[key])]
    words += [row[key] for key in ("dtype", "gpu", "machine")]
    words += [f"torch {row['torch']}" if _there(row["torch"]) else None]
    words += [None if pd.isna(row["n"]) else f"{row['n']:.0f} questions"]
    return [str(word) for word in words if _there(word)]


def _there(value: Any) -> bool:
    return not pd.isna(value) and value != ""
