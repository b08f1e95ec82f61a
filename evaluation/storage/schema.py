"""What the files of a run folder may hold: each field with its type and its bounds.

A run folder may come from anybody, so nothing that is read from one is used before it went through here, behind
`evaluation.storage.readers`, which bounds the file. What a run of every age and kind has is asked for; anything else is
None where it is not there. Numbers are finite and fit into a column of a table; a name is one line of printable text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cache_zoo import UsageError
from cache_zoo.errors import visible

_LONGEST_NAME = 500
_LONGEST_TEXT = 1_000_000
_LONGEST_SHOWN = 80
_LARGEST_COUNT = 2**53  # a double holds it exactly
_LARGEST_SEED = 2**63 - 1
LARGEST = 1e12
_MOST_WORK = 1e30
_LONGEST_TIME = 1e9  # seconds


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text in one line")
    return text


Name = Annotated[str, Field(max_length=_LONGEST_NAME), AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]
Count = Annotated[int, Field(ge=0, le=_LARGEST_COUNT)]
Seed = Annotated[int, Field(ge=-_LARGEST_SEED, le=_LARGEST_SEED)]
Amount = Annotated[float, Field(ge=0, le=_MOST_WORK)]
Seconds = Annotated[float, Field(ge=0, le=_LONGEST_TIME)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Object = dict[str, Any]
"""What a task or a cache makes of it: any JSON within the bounds of the file."""


class Record(BaseModel):
    """An object of a file. Keys that are not named here are left out."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, protected_namespaces=()
    )


class Status(Record):
    """``status.json``."""

    status: Literal["pending", "running", "partial", "done", "failed", "oom", "skipped"]
    date: Name | None = None
    answered: Count | None = None
    total: Count | None = None
    reason: Text | None = None
    error: Text | None = None


class Summary(Record):
    """The headline of a run that is done. ``note`` says why there is no score."""

    n: Count
    model: Name | None = None
    cache: Name | None = None
    generation: Name | None = None
    dataset: Name | None = None
    partial: bool = False
    items_total: Count | None = None
    repeats: Count | None = None
    metric: Name | None = None
    score: Number | None = None
    score_stderr: Number | None = None
    tokens_per_second: Amount | None = None
    nfe: Amount | None = None
    tokens_per_forward: Amount | None = None
    compute_ratio: Amount | None = None
    flops: Amount | None = None
    cache_bytes: Amount | None = None
    note: Text | None = None


class Latency(Record):
    """Seconds of a batch."""

    mean: Seconds | None = None
    median: Seconds | None = None
    p90: Seconds | None = None


class Shortage(Record):
    """A batch that did not fit into memory, and the size that was tried then."""

    size: Count
    then: Count


class Efficiency(Record):
    """What a run cost (`evaluation.run.efficiency.efficiency`)."""

    samples: Count | None = None
    processes: Count | None = None
    empty_answers: Count | None = None
    tokens_out: Count | None = None
    tokens_canvas: Count | None = None
    seconds: Seconds | None = None
    tokens_per_second: Amount | None = None
    latency_seconds: Latency = Latency()
    nfe: Amount | None = None
    tokens_per_forward: Amount | None = None
    compute_ratio: Amount | None = None
    forwards: Amount | None = None
    rows: Amount | None = None
    rows_full: Amount | None = None
    rows_per_token: Amount | None = None
    keys: Amount | None = None
    logits: Amount | None = None
    flops: Amount | None = None
    flops_per_token: Amount | None = None
    cache_bytes: Amount | None = None
    peak_memory_bytes: Amount | None = None
    memory_shortages: list[Shortage] = []


class Git(Record):
    """The commit that was run."""

    commit: Name | None = None
    dirty: bool | None = None
    changed: list[Text] = []
    several: bool = False


class Machine(Record):
    """What the clock ran on."""

    system: Name | None = None
    processor: Name | None = None
    torch_threads: Count | None = None
    gpu: Name | None = None
    several: bool = False


class Package(Record):
    """A distribution."""

    name: Name
    version: Name | None = None


class Code(Record):
    """Where a class lies: in this project, in the installed package that is named, or neither."""

    origin: Literal["cache-zoo", "package", "unknown"]
    name: Name | None = None
    version: Name | None = None
    commit: Name | None = None
    several: bool = False


class Weights(Record):
    """The checkpoint by what is in it."""

    name: Name | None = None
    family: Name | None = None
    weights_sha256: Name | None = None
    config_sha256: Name | None = None
    several: bool = False


class Origin(Record):
    """Where the figures of one session are from."""

    date: Name | None = None
    versions: dict[Name, Name | None] = {}
    git: Git | None = None
    machine: Machine = Machine()
    device: Name | None = None
    dtype: Name | None = None


class Provenance(Origin):
    """Where the figures of a run are from."""

    cache_package: Package | Name | None = None
    cache_code: Code | None = None
    strategy_code: Code | None = None
    model: Weights | None = None
    checkpoint: Name | None = None
    dataset_sha256: dict[Name, Name] = {}
    chat_template_sha256: Name | None = None
    end_ids: list[Count] = []
    sessions: list[Origin] = []


class Asked(Record):
    """How many questions a task has, and how many of them were asked."""

    original: Count | None = None
    effective: Count | None = None


class Results(Record):
    """``results.json``, as far as it is read; ``results`` are lm-eval's figures by task and metric, ``configs`` what it
    says of the tasks."""

    summary: Summary
    efficiency: Efficiency
    provenance: Provenance
    config: Object = {}
    results: dict[Name, Object] = {}
    configs: dict[Name, Any] = {}
    n_shot: dict[Name, Count] = Field(default={}, alias="n-shot")
    n_samples: dict[Name, Asked] = Field(default={}, alias="n-samples")


class ModelConfig(Record):
    """Group ``model`` of a configuration."""

    name: Name
    path: Name | None = None
    dtype: Name | None = None
    device: Name | None = None


class CacheConfig(Record):
    """Group ``cache``; its parameters are whatever the class takes."""

    name: Name | None = None
    target: Name | None = Field(default=None, alias="_target_")


class GenerationConfig(Record):
    """Group ``generation``, as far as a table has columns for it."""

    strategy: Name
    gen_length: Count | None = None
    block_length: Count | None = None
    num_transfer_tokens: Count | None = None
    steps: Count | None = None
    threshold: Number | None = None


class DatasetConfig(Record):
    """Group ``dataset``."""

    name: Name
    size: Count | None = None
    n_shot: Count | None = None


class Config(Record):
    """``config.yaml``, as far as it is shown; `evaluation.config.identity` says what of it two runs must share."""

    model: ModelConfig
    cache: CacheConfig
    generation: GenerationConfig
    dataset: DatasetConfig
    batch_size: Count | None = None
    seed: Seed | None = None


class Work(Record):
    """Counted work of a batch."""

    sequences: Count | None = None
    forwards: Amount | None = None
    rows: Amount | None = None
    rows_full: Amount | None = None
    keys: Amount | None = None
    logits: Amount | None = None
    flops: Amount | None = None
    cache_bytes: Amount | None = None
    compute_ratio: Amount | None = None
    peak_memory_bytes: Amount | None = None


class Choice(Record):
    """A given answer and what the model makes of it (`evaluation.run.efficiency.Choice`)."""

    answer: Text
    answer_tokens: Count
    log_likelihood: Number
    greedy: bool
    seed: Seed


class Sample(Record):
    """A line of ``samples.jsonl``: a question that was answered, or one whose answers were given (``choices``)."""

    task: Name
    doc_id: Count
    repeat: Count = 0
    prompt_tokens: Count | None = None
    raw: Text | None = None
    text: Text | None = None
    ids: list[Annotated[int, Field(ge=0, lt=2**31)]] = []
    tokens_out: Count | None = None
    tokens_canvas: Count | None = None
    forwards: Count | None = None
    seconds: Seconds | None = None
    seed: Seed | None = None
    batch: Count | None = None
    work: Work | None = None
    choices: list[Choice] | None = None
    prompt_sha256: Name | None = None
    doc_sha256: Name | None = None
    metrics: Object = {}
    target: Any = None
    doc: Object | None = None
    filtered: Any = None


R = TypeVar("R", bound=Record)


def parse(kind: type[R], content: Any, where: str) -> R:
    """``content`` as a record.

    Args:
        kind: of the record.
        content: what JSON or YAML was read as.
        where: the file, and the line in it, for messages.

    Raises:
        UsageError: a field is missing, of another type or out of bounds; it names file, field and what was given.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(f"{where}{_told(first)}") from error


_KINDS = {
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
"""What was wanted, by pydantic's name of the mistake; of others its own words are shown."""


def _told(error: Mapping[str, Any]) -> str:
    field = visible(".".join(str(part) for part in error["loc"]))[:_LONGEST_NAME]
    if error["type"] == "missing":
        return f" has no '{field}'"
    wanted = f"must be {_KINDS[error['type']]}" if error["type"] in _KINDS else str(error["msg"])
    wanted = wanted.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{f': {field}' if field else ''} {wanted}, not {_shown(error['input'])}"


def _shown(value: Any) -> str:
    """``value`` in a few printable letters."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_LONGEST_SHOWN:
        return "a number of many digits"
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = visible(repr(value[:_LONGEST_SHOWN] if isinstance(value, str) else value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
