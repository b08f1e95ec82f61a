"""The checkpoint of a run: its folder, its family, and whether its weights are those that its name stands for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cache_zoo.errors import nearest, require
from evaluation.config.settings import ModelSettings
from evaluation.run.requests import digest
from models import ModelConfig, resolve_checkpoint
from models.loading import CONFIGS, of_choice, read_config, weights_sha256

EMBEDDED = {
    "nano-llada": "57abf04b8bd676271840b2371152372bbc1f1deb59bea09c4931a66de3f63077",
    "nano-dream": "e52b22ca2daaf4de7b68fd26bdc12f3f9f7864b372425e540be4198dc0a9f2b6",
}
"""Digests of the embedded weights, by name in ``configs/model``."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint under the name that the run gives it; its weights need not be loaded."""

    name: str
    folder: Path
    family: str
    config: ModelConfig

    def identity(self) -> dict[str, Any]:
        """Name, family, and digests of weights and network config. Reads all of the weights.

        ``expected_sha256`` is the digest that the name stands for, None if unknown.
        """
        return {
            "name": self.name,
            "family": self.family,
            "weights_sha256": weights_sha256(self.folder),
            "expected_sha256": EMBEDDED.get(self.name),
            "config_sha256": digest(json.dumps(asdict(self.config), sort_keys=True)),
        }


def find_checkpoint(model: ModelSettings) -> Checkpoint:
    """Find the checkpoint of a run, downloading it if it is a hub id.

    Raises:
        UsageError: it is not available or unreadable, or of another family than the run says, whose conventions (end
            tokens, chat template, BOS) would be wrong.
    """
    folder = resolve_checkpoint(model.path)
    family, config = read_config(folder)
    require(
        model.family in (None, family.name),
        f"{folder} holds a checkpoint of the family {family.name}, but model={model.name} is of {model.family}; give "
        f"model={_like(model.name, family.name)} with this model.path",
    )
    return Checkpoint(model.name, folder, family.name, config)


def other_weights(identity: dict[str, Any]) -> str | None:
    """A note if the weights are not those that the name stands for, else None."""
    expected = identity.get("expected_sha256")
    if expected is None or identity["weights_sha256"] == expected:
        return None
    return f"the weights are not those of {identity['name']}: their digest begins with {identity['weights_sha256'][:8]}"


def _like(name: str, family: str) -> str:
    """The choice of ``configs/model`` of that family whose name is most like ``name``."""
    models = {path.stem: of_choice(path.stem, "family") for path in sorted(CONFIGS.glob("*.yaml"))}
    choices = [choice for choice, layout in models.items() if layout == family]
    ending = name.rpartition("-")[2]
    return nearest(name, [choice for choice in choices if choice.endswith(ending)] or choices) or choices[0]
