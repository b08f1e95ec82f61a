"""What the documents promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from cache_zoo import describe_all
from generation import generate
from models import Transformer

ROOT = Path(__file__).resolve().parents[1]


def python_example(document: str) -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_readme_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    example = python_example("README.md")
    exec(example, {})
    said = re.search(r"#  ?(\d.* #### \d+)", example)
    assert said is not None
    assert capsys.readouterr().out.splitlines()[0].strip() == said.group(1)


def test_the_example_cache_works(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    names: dict[str, type] = {}
    exec(python_example("CONTRIBUTING.md"), names)
    cls = names["PeriodicCache"]
    for model in tiny_models.values():
        options = {"gen_length": 16, "block_length": 4}
        expected = generate(model, prompts, **options)
        assert torch.equal(generate(model, prompts, cls(**cls.exact_with), **options).tokens, expected.tokens)
        assert generate(model, prompts, cls(), **options).counts.compute_ratio < 0.6


def test_the_readme_says_of_every_cache_what_its_class_says() -> None:
    readme = (ROOT / "README.md").read_text()
    for info in describe_all():
        if info.package is not None:
            continue
        (row,) = re.findall(rf"^\| `{info.name}` \|.*$", readme, re.MULTILINE)
        assert set(re.findall(r"https?://[^)\s]+", row)) == set(info.urls)
        assert re.findall(r"`(\w+)`", row.rpartition(" | ")[2]) == [one.name for one in info.parameters]


def test_every_cache_has_a_config_with_its_defaults_and_explains_its_parameters() -> None:
    for info in describe_all():
        if info.package is not None:
            continue
        config = OmegaConf.load(ROOT / "configs" / "cache" / f"{info.name}.yaml")
        assert config == {"name": info.name, **{one.name: one.default for one in info.parameters}}
        assert info.summary
        assert all(one.text for one in info.parameters), f"a parameter of {info.name} is not explained"


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
