"""What ``--help`` and ``--cfg`` print."""

from __future__ import annotations

from omegaconf import OmegaConf

from evaluation.config.command_line import choices, composed, groups

_HELP = """\
usage: eval.py [-m] [--cfg job|hydra|all] [key=value ...]

Evaluate one cell, model x method (cache, suffix, store) x generation x dataset, or a sweep of cells with -m.

  python eval.py model=llada-base cache=prefix dataset.path=FOLDER dataset.size=100
  python eval.py model.path=FOLDER cache=dllm cache.kp=50 cache.kr=7 generation.gen_length=256
  python eval.py -m cache=none,prefix,dual,dllm,d2cache suffix=all,window store=native,int8 model=llada-inst
  python eval.py generation=window generation.window=8 cache=elastic model=llada-inst
  python eval.py +recipe=dllm_cache cache=dllm model=llada-inst dataset.name=gsm8k
  python eval.py -m jobs=2 retry=failed,oom cache=none,dual model=nano-llada,nano-dream dataset=nano-gsm
  accelerate launch --num_processes 4 eval.py model=llada-inst cache=d2cache

Each run writes output_dir/<model>__<method>__<generation>__<dataset>__<hash>/ and prints one JSON object as its
last line. A finished run is not repeated, an interrupted one resumes. Exit status: 0 done, 1 failed, 2 unusable
input, 130 interrupted. `--cfg job` prints the configuration of a command line without running it.
`+recipe=NAME` sets what a paper's scripts set; all other keys win over it.

Choices (group=choice)

{choices}

Keys (key=value), with the values of this command line

{config}
docs/running.md explains every key, docs/sweeps.md sweeps."""


def help_text(overrides: list[str]) -> str:
    """The help, with the configuration of a command line."""
    config = OmegaConf.to_yaml(composed(overrides))
    return _HELP.format(choices="\n".join(f"{group}: {', '.join(choices(group))}" for group in groups()), config=config)


def config_text(overrides: list[str], which: str) -> str:
    """The configuration of a command line as YAML: ``job``, without hydra's own node, ``hydra`` or ``all``."""
    config = composed(overrides, with_hydra=which != "job")
    return OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra") if which == "hydra" else config).rstrip("\n")
