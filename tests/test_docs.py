"""The documents are true: examples, tables, links, keys and commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from omegaconf import OmegaConf

from cache_zoo import describe_all
from evaluation.__main__ import COMMANDS
from evaluation.config.identity import NOT_COUNTED
from evaluation.storage.schema import Efficiency, Provenance, Sample, Status, Summary
from generation import generate
from models import Transformer
from tools.tables import README, ROOT, nano_gsm_table, with_table

CONFIGS = ROOT / "configs"


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


def test_the_readme_table_is_that_of_the_reference_runs() -> None:
    text = README.read_text()
    assert with_table(text, "nano-gsm") == text, "python -m tools.tables"
    assert nano_gsm_table() in text


def test_the_readme_links_to_every_document() -> None:
    text = README.read_text()
    assert all(f"](docs/{path.name})" in text for path in (ROOT / "docs").glob("*.md"))


def test_the_example_strategy_works(
    monkeypatch: pytest.MonkeyPatch, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    module = ModuleType("my_module")
    exec(python_example("docs/strategies.md"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_module", module)
    for model in tiny_models.values():
        options = {"gen_length": 8, "block_length": 4, "num_transfer_tokens": 2, "trace": True}
        trace = generate(model, prompts, "dual", strategy="my_module:LeftToRight", **options).trace or []
        assert [step.committed[0].nonzero().flatten().tolist() for step in trace] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_example_cache_works(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    names: dict[str, Any] = {}
    exec(python_example("CONTRIBUTING.md"), names)
    cls = names["PeriodicCache"]
    for model in tiny_models.values():
        options = {"gen_length": 16, "block_length": 4}
        expected = generate(model, prompts, **options)
        assert torch.equal(generate(model, prompts, cls(**cls.exact_with), **options).tokens, expected.tokens)
        assert generate(model, prompts, cls(), **options).counts.compute_ratio < 0.6


def test_the_worked_example_is_what_stands_in_the_files() -> None:
    diff = (ROOT / "CONTRIBUTING.md").read_text().partition("```diff\n")[2].partition("```")[0]
    parts = re.findall(r"^--- .*\n\+\+\+ b/(.*)\n((?:\+.*\n)+)", diff, re.MULTILINE)
    assert len(parts) == 5
    for name, added in parts:
        text = "".join(line[1:] + "\n" for line in added.splitlines())
        file = (ROOT / name).read_text()
        assert text == file if "/methods/" in name else text in file, name


def test_the_readme_says_of_every_cache_what_its_class_says() -> None:
    readme = README.read_text()
    for info in describe_all():
        if info.package is not None:
            continue
        (row,) = re.findall(rf"^\| `{info.name}` \|.*$", readme, re.MULTILINE)
        assert set(re.findall(r"https?://[^)\s]+", row)) == set(info.urls)
        assert re.findall(r"`(\w+)`", row.rpartition(" | ")[2]) == [one.name for one in info.parameters]


def test_every_cache_explains_its_parameters() -> None:
    for info in describe_all():
        if info.package is not None:
            continue
        assert info.summary
        assert all(one.text for one in info.parameters), f"a parameter of {info.name} is not explained"


def anchors(document: Path) -> set[str]:
    """Targets of links: the headings as GitHub spells them."""
    headings = re.findall(r"(?m)^#+ (.*)$", document.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
            path = document.parent / target if target else document
            assert path.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(path), f"{document.name} links to {target}#{anchor}"


def quoted(document: str) -> set[str]:
    """Texts between backticks."""
    return set(re.findall(r"`([^`\n]+)`", (ROOT / document).read_text()))


def test_every_key_of_the_results_is_explained() -> None:
    keys = {*Efficiency.model_fields, *Summary.model_fields, *Provenance.model_fields, *Sample.model_fields}
    assert keys - quoted("docs/results.md") == set()


def test_every_key_of_the_configuration_is_explained() -> None:
    keys = set(OmegaConf.load(CONFIGS / "eval.yaml")) - {"defaults", "hydra", "likelihood"}
    files = {
        "model": ["model_base.yaml"],
        "dataset": [f"dataset/{path.name}" for path in (CONFIGS / "dataset").iterdir()],
    }
    for group, names in files.items():
        loaded = [OmegaConf.load(CONFIGS / name) for name in names]
        keys |= {f"{group}.{key}" for config in loaded for key in map(str, config) if key != "name"}
    assert keys - quoted("docs/running.md") == set()
    rules = (ROOT / "docs" / "results.md").read_text().partition("## The same run")[2].partition("\n- A key")[0]
    assert set(re.findall(r"`(\w+)`", rules)) == set(NOT_COUNTED)


def test_every_status_is_explained() -> None:
    statuses = get_args(Status.model_fields["status"].annotation)
    assert len(statuses) > 5
    for status in statuses:
        assert f"\n| `{status}` | " in (ROOT / "docs" / "sweeps.md").read_text()


def test_the_programs_that_the_documents_name_are_there() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Makefile"]
    named = {name for document in documents for name in re.findall(r"python -m ([\w.]+)", document.read_text())}
    assert len(named) > 5
    for name in named - {"pip", "pytest", "venv"}:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
    commands = {
        name for document in documents for name in re.findall(r"(?m)(?:`|^ +)cache-zoo ([a-z-]+)", document.read_text())
    }
    assert commands - {"--help"} <= set(COMMANDS)
    assert len(commands) > 8
