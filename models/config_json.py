"""Read ``config.json``: typed values, and no ignored key that changes the network."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import nearest, require, require_type, short, shown

_MAX_BYTES = 16 << 20
"""Size of a JSON file; the index of a checkpoint with 100,000 tensors is smaller."""

_NETWORK = re.compile(
    r"rope|rotary|alibi|yarn|attn|attention|qk|query|key_value|head|norm|bias|activation|hidden|mlp|ffn|glu|window|"
    r"sliding|causal|decoder|block|sparse|expert|moe|router|quant|compress|load_in|fp8|soft_?cap|logit|multiplier|"
    r"scal(e|ing|ar|er)|residual|layer|emb|position|intermediate|inner|theta|tie_|tied|tying|"
    r"(^|_)(act|dim|ff|eps|epsilon|gated?|shift(ed)?|kv)(_|$)"
)
"""Words in the names of keys that change the network."""
_HARMLESS = re.compile(
    r".*drop.*|(.*_)?init.*|output_(attentions|hidden_states)|chunk_size_feed_forward|max_window_layers|"
    r"_?attn_implementation.*|(use_)?flash_att.*|alibi_bias_max|attention_layer_norm_with_affine|block_group_size"
)
"""Keys with such words that change nothing here: for training, for kernels, or details of options that must be off."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UsageError: the file is missing, too large, not a JSON object, or has a duplicate key.
    """
    require(os.path.isfile(path), f"{path.parent} has no {path.name}")  # pathlib raises without permission
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    require(len(content) <= _MAX_BYTES, f"{path} is larger than {_MAX_BYTES >> 20} MiB")
    try:
        values = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except UsageError as error:
        raise UsageError(f"{path} {error}") from None
    except RecursionError:
        raise UsageError(f"{path} is not valid JSON: it is nested too deep") from None
    except ValueError as error:  # not UTF-8, not JSON, or an integer of thousands of digits
        raise UsageError(f"{path} is not valid JSON: {short(str(error))}") from error
    require(isinstance(values, dict), f"{path} must hold a JSON object, not {type(values).__name__}")
    return dict(values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    names = [name for name, _ in pairs]
    for name in values if len(values) < len(pairs) else ():
        require(names.count(name) == 1, f"has the key {short(name)} twice")
    return values


class ConfigReader:
    """Typed access to the values of ``config.json``; tracks the keys read, for `refuse_unread`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._read: set[str] = set()

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of ``key`` as ``kind``, or ``default`` if it is absent or null; an error without a default."""
        value = self.optional(key, kind)
        if value is not None or default is not None:
            return default if value is None else value
        if key in self._values:
            require_type(f"'{key}'", None, kind)
        near = nearest(key, list(self._values)[:200])
        raise UsageError(f"it has no '{key}'" + (f"; did you mean '{short(near)}'?" if near else ""))

    def optional(self, key: str, kind: type = int) -> Any:
        """The value of ``key`` as ``kind``, None if it is absent or null."""
        self._read.add(key)
        value = self._values.get(key)
        return None if value is None else typed(f"'{key}'", value, kind)

    def token(self, key: str, default: int | None = None) -> int:
        """The id of a token; transformers also allows a list, accepted here with one id."""
        value = self._values.get(key)
        if isinstance(value, list):
            self._read.add(key)
            require(
                len(value) == 1, f"'{key}' lists {shown(value)}; give one token, and a second end as 'eot_token_id'"
            )
            return int(typed(f"'{key}'", value[0], int))
        return int(self.get(key, int, default))

    def refuse(self, key: str, *accepted: Any, required: bool = False) -> None:
        """An error unless ``key`` has one of the ``accepted`` values, or is absent and not ``required``."""
        self._read.add(key)
        value = self._values.get(key)
        if (value is None and required) or (value is not None and value not in accepted):
            supported = " or ".join(repr(item) for item in accepted) or "null"
            was = f"'{key}' is {shown(value)}" if key in self._values else f"it has no '{key}'"
            raise UsageError(f"{was}; this layout is supported with {supported} only")

    def refuse_variants(self, head_dim: int) -> None:
        """An error if a key that families share asks for another network; ``head_dim`` follows from its sizes."""
        for key in ("hidden_act", "hidden_activation", "activation_function"):
            self.refuse(key, "silu", "swish")
        self.refuse("partial_rotary_factor", 1)
        self.refuse("rotary_pct", 1)
        self.refuse("head_dim", head_dim)
        self.refuse("use_sliding_window", False)
        if self._values.get("use_sliding_window") is not False:
            self.refuse("sliding_window", False)
        self._read.add("sliding_window")
        kinds = self.optional("layer_types", list) or []
        require(
            all(kind == "full_attention" for kind in kinds),
            f"'layer_types' is {shown(kinds)}; this layout is supported with 'full_attention' only",
        )

    def rope_base(self) -> float:
        """Base of the rotary embedding, from ``rope_theta`` or ``rope_parameters``, as transformers 5 writes it."""
        bases = {"rope_theta": self.optional("rope_theta", float)}
        for key in ("rope_parameters", "rope_scaling"):
            values = self.optional(key, dict) or {}
            parts = {key: values}
            if values and all(isinstance(part, dict) for part in values.values()):  # one for each type of layer
                parts = {f"{key}.{short(kind)}": part for kind, part in values.items()}
            for place, part in parts.items():
                bases[f"{place}.rope_theta"] = _default_rope(place, part)
        said = {place: base for place, base in bases.items() if base is not None}
        require(bool(said), "it has no base of the rotary embedding, neither 'rope_theta' nor in 'rope_parameters'")
        listed = ", ".join(f"{place} {base:g}" for place, base in said.items())
        require(len(set(said.values())) == 1, f"it has several bases of the rotary embedding: {listed}")
        return float(next(iter(said.values())))

    def refuse_unread(self) -> None:
        """An error if an unread key would, by its name, change the network."""
        for key, value in self._values.items():
            off = value is None or value is False or (isinstance(value, list | dict | str) and not value)
            if off or key in self._read or _HARMLESS.fullmatch(key) or not _NETWORK.search(key.lower()):
                continue
            raise UsageError(
                f"'{short(key)}' is {shown(value)}: by its name it changes the network, and this layout does not "
                "support it; remove it if it changes nothing"
            )


def typed(name: str, value: Any, kind: type) -> Any:
    """``value`` if it is of type ``kind``; an integer becomes a float where one is expected."""
    require_type(name, value, kind)
    if kind is float:
        value = float(value) if isinstance(value, float) or abs(value) < 1e300 else math.inf
        require(math.isfinite(value), f"{name} must be a finite number, not {value}")
    return value


def _default_rope(place: str, values: dict[str, Any]) -> float | None:
    """The base in ``values``, or None; an error unless they describe plain RoPE."""
    for key, value in values.items():
        if value is None or key in ("rope_theta", "original_max_position_embeddings"):
            continue
        if key in ("rope_type", "type"):
            good = value == "default"
        else:
            good = key in ("partial_rotary_factor", "factor", "attention_factor") and value == 1
        require(good, f"'{place}' has {short(key)} {shown(value)}; only plain rotary embedding is supported")
    base = values.get("rope_theta")
    return None if base is None else float(typed(f"'{place}.rope_theta'", base, float))
