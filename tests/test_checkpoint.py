"""Name, family and weights of a model: mismatches are refused or noted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import EMBEDDED, find_checkpoint, other_weights
from evaluation.run.evaluate import evaluate_cell
from evaluation.run.lm_eval_plugin import read_arguments
from models.loading import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"


def settings(*overrides: str) -> Settings:
    (found,) = cells(list(overrides))
    return found


def test_every_model_says_its_family() -> None:
    known = {family.name for family in FAMILIES}
    paths = list((CONFIGS / "model").glob("*.yaml"))
    assert len(paths) >= 9
    for path in paths:
        assert OmegaConf.load(path).family in known, path


@pytest.mark.parametrize(
    ("model", "family", "nearest"),
    [
        ("nano-llada", "dream", "nano-dream"),
        ("llada-inst", "dream", "dream-inst"),
        ("dream-base", "llada", "llada-base"),
        ("llada-1.5", "dream", "dream-base"),
    ],
)
def test_a_checkpoint_of_another_family_is_refused(
    tiny_folders: dict[str, Path], tmp_path: Path, model: str, family: str, nearest: str
) -> None:
    given = settings(
        f"model={model}", f"model.path={tiny_folders[family]}", "dataset=nano-gsm", f"output_dir={tmp_path}"
    )
    with pytest.raises(UsageError, match=f"of the family {family}, but model={model} is of .* give model=") as caught:
        find_checkpoint(given.model)
    assert nearest in str(caught.value) or model == "llada-1.5"
    assert find_checkpoint(settings(f"model={nearest}", f"model.path={tiny_folders[family]}").model).family == family


def test_it_is_refused_before_anything_is_written(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    given = settings("model=nano-llada", "model.path=models/nano/dream", "dataset=nano-gsm", f"output_dir={tmp_path}")
    with pytest.raises(UsageError, match="give model=nano-dream"):
        evaluate_cell(given)
    assert list(tmp_path.iterdir()) == []
    plugin = read_arguments({"pretrained": str(tiny_folders["dream"])})
    with pytest.raises(UsageError, match="give model=dream-inst"):
        find_checkpoint(plugin.model)


def test_an_unknown_family_is_one_error() -> None:
    with pytest.raises(UsageError, match="unknown family 'lada': did you mean 'llada'"):
        settings("model.family=lada")


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_weights_are_those_of_their_names(name: str) -> None:
    identity = find_checkpoint(settings(f"model={name}").model).identity()
    assert identity["weights_sha256"] == EMBEDDED[name] == identity["expected_sha256"]
    assert (identity["name"], identity["family"]) == (name, name.removeprefix("nano-"))
    assert other_weights(identity) is None


def test_other_weights_under_an_embedded_name_are_noted(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    more = [
        "dataset=nano-gsm",
        "dataset.size=1",
        "dataset.n_shot=0",
        "generation.gen_length=8",
        "generation.block_length=8",
    ]
    more += [f"model.path={tiny_folders['llada']}", f"output_dir={tmp_path}"]
    summary = evaluate_cell(settings("model=nano-llada", *more))
    assert summary is not None
    provenance = json.loads((Path(summary.folder) / "results.json").read_text())["provenance"]
    assert provenance["model"]["expected_sha256"] == EMBEDDED["nano-llada"] != provenance["model"]["weights_sha256"]
    assert summary.note is not None
    assert summary.note.startswith("the weights are not those of nano-llada: their digest begins with ")
    summary = evaluate_cell(settings("model=llada-inst", "model.apply_chat_template=false", *more))
    assert summary is not None
    assert summary.note is None  # any weights of that layout


def test_another_rope_base_is_another_network_with_the_same_weights(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(tiny_folders["llada"], tmp_path / "changed"))
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "rope_theta": 2 * config["rope_theta"]}))
    ours, theirs = (
        find_checkpoint(settings("model=llada-inst", f"model.path={folder}").model).identity()
        for folder in (tiny_folders["llada"], changed)
    )
    assert ours["weights_sha256"] == theirs["weights_sha256"]
    assert ours["config_sha256"] != theirs["config_sha256"]
