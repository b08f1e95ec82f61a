"""The files of a run folder as typed records: the one declaration of what they hold, for a run and its readers.

Run folders are untrusted: `evaluation.storage.readers` bounds the files, and these records bound each field. Fields
that some runs lack are None. Numbers are finite and fit into a column; a name is one line of printable text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WrapValidator

from evaluation.config.identity import BASELINE

MAX_NUMBER = 1e12
_MAX_NAME_CHARACTERS = 500
_MAX_TEXT_CHARACTERS = 1_000_000
_MAX_COUNT = 2**53  # exact as a double
_MAX_SEED = 2**63 - 1
_MAX_WORK = 1e30
_MAX_SECONDS = 1e9


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text in one line")
    return text


def _unchanged(number: float, validate: Callable[[float], object]) -> float:
    """Whole numbers are not made floats, so that a record is written as it was read."""
    validate(number)
    return number


Name = Annotated[str, Field(max_length=_MAX_NAME_CHARACTERS), AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=_MAX_TEXT_CHARACTERS)]
Count = Annotated[int, Field(ge=0, le=_MAX_COUNT)]
Seed = Annotated[int, Field(ge=-_MAX_SEED, le=_MAX_SEED)]
Amount = Annotated[float, Field(ge=0, le=_MAX_WORK), WrapValidator(_unchanged)]
Seconds = Annotated[float, Field(ge=0, le=_MAX_SECONDS)]
Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Object = dict[str, Any]
"""Content that a task or a cache defines: any JSON within the bounds of the file."""


class Record(BaseModel):
    """An object of a file; unknown keys are ignored."""

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


class Latency(Record):
    """Seconds per batch."""

    mean: Seconds | None = None
    median: Seconds | None = None
    p90: Seconds | None = None


class MemoryShortage(Record):
    """A batch ``size`` that ran out of memory, and the size tried next."""

    size: Count
    then: Count


class BatchWork(Record):
    """Counted work of a batch (`generation.Counts`), and what it took of memory and of the processor."""

    sequences: Count | None = None
    forwards: Amount | None = None
    rows: Amount | None = None
    rows_full: Amount | None = None
    query_rows: Amount | None = None
    kv_rows: Amount | None = None
    keys: Amount | None = None
    logits: Amount | None = None
    flops: Amount | None = None
    cache_bytes: Amount | None = None
    compute_ratio: Amount | None = None
    peak_memory_bytes: Amount | None = None
    processor_seconds: Seconds | None = None


class Efficiency(Record):
    """Cost of a run, computed by `evaluation.run.efficiency`; None where a figure was not measured.

    Loading and warm-up are in no figure. Figures of tokens and texts are None where given answers were scored.

    Attributes:
        samples: answers; a task may ask for several per question.
        tokens_canvas, tokens_out: all positions, and the tokens before the end of each answer.
        tokens_per_second: of one process.
        processor_seconds: of all threads, during ``seconds``.
        memory_shortages: the batches that were halved; failed attempts are in no other figure.
    """

    samples: Count | None = None
    processes: Count | None = None
    empty_answers: Count | None = None
    tokens_canvas: Count | None = None
    tokens_out: Count | None = None
    seconds: Seconds | None = None
    processor_seconds: Seconds | None = None
    tokens_per_second: Amount | None = None
    latency_seconds: Latency = Latency()
    nfe: Amount | None = None
    tokens_per_forward: Amount | None = None
    compute_ratio: Amount | None = None
    forwards: Amount | None = None
    rows: Amount | None = None
    rows_full: Amount | None = None
    query_rows: Amount | None = None
    kv_rows: Amount | None = None
    keys: Amount | None = None
    logits: Amount | None = None
    flops: Amount | None = None
    rows_per_token: Amount | None = None
    flops_per_token: Amount | None = None
    cache_bytes: Amount | None = None
    peak_memory_bytes: Amount | None = None
    memory_shortages: list[MemoryShortage] = []


class Summary(Record):
    """The headline of a finished run, in the order it is printed.

    Attributes:
        n, items_total: questions answered, and in the dataset.
        repeats: answers asked for per question.
        partial: whether only a part of the dataset was asked.
        metric, score, score_stderr: the headline metric; None where nothing is scored.
        empty_answers ... cache_bytes: those of `Efficiency`.
        note: what a reader of the score must know, if anything.
    """

    status: Literal["done"] = "done"
    model: Name | None = None
    cache: Name | None = None
    suffix: Name = BASELINE["suffix"]
    store: Name = BASELINE["store"]
    generation: Name | None = None
    dataset: Name | None = None
    n: Count
    repeats: Count | None = None
    partial: bool = False
    items_total: Count | None = None
    metric: Name | None = None
    score: Number | None = None
    score_stderr: Number | None = None
    empty_answers: Count | None = None
    tokens_per_second: Amount | None = None
    nfe: Amount | None = None
    tokens_per_forward: Amount | None = None
    compute_ratio: Amount | None = None
    flops: Amount | None = None
    cache_bytes: Amount | None = None
    folder: Text | None = None
    note: Text | None = None

    def as_dict(self) -> dict[str, Any]:
        """As printed: without an empty note."""
        return {key: value for key, value in self.model_dump().items() if key != "note" or value}


HEADLINE = tuple(key for key in Summary.model_fields if key in Efficiency.model_fields)
"""The figures of a run that its summary repeats."""


class Git(Record):
    """The commit of the code."""

    commit: Name | None = None
    dirty: bool | None = None
    changed: list[Text] = []
    several: bool = False


class Machine(Record):
    """The machine that was timed."""

    system: Name | None = None
    processor: Name | None = None
    torch_threads: Count | None = None
    gpu: Name | None = None
    several: bool = False


class Package(Record):
    """An installed distribution."""

    name: Name
    version: Name | None = None


class Code(Record):
    """Origin of a class: this project, the named installed package, or neither."""

    origin: Literal["cache-zoo", "package", "unknown"]
    name: Name | None = None
    version: Name | None = None
    commit: Name | None = None
    several: bool = False


class CheckpointIdentity(Record):
    """Identity of the checkpoint."""

    name: Name | None = None
    family: Name | None = None
    weights_sha256: Name | None = None
    config_sha256: Name | None = None
    several: bool = False


class Session(Record):
    """Origin of the figures of one session."""

    date: Name | None = None
    versions: dict[Name, Name | None] = {}
    git: Git | None = None
    machine: Machine = Machine()
    device: Name | None = None
    dtype: Name | None = None


class Provenance(Session):
    """Origin of the figures of a run."""

    cache_package: Package | Name | None = None
    cache_code: Code | None = None
    suffix_code: Code | None = None
    strategy_code: Code | None = None
    model: CheckpointIdentity | None = None
    checkpoint: Name | None = None
    dataset_sha256: dict[Name, Name] = {}
    chat_template_sha256: Name | None = None
    end_ids: list[Count] = []
    sessions: list[Session] = []


class QuestionCounts(Record):
    """Questions of a task: how many it has, and how many were asked."""

    original: Count | None = None
    effective: Count | None = None


class Results(Record):
    """``results.json``; ``results`` has lm-eval's figures by task and metric, ``configs`` its task configurations."""

    summary: Summary
    efficiency: Efficiency
    provenance: Provenance
    config: Object = {}
    results: dict[Name, Object] = {}
    configs: dict[Name, Any] = {}
    n_shot: dict[Name, Count] = Field(default={}, alias="n-shot")
    n_samples: dict[Name, QuestionCounts] = Field(default={}, alias="n-samples")


class ModelGroup(Record):
    """Group ``model`` of the configuration."""

    name: Name
    path: Name | None = None
    dtype: Name | None = None
    device: Name | None = None


class ClassGroup(Record):
    """Group ``cache`` or ``suffix``, without the parameters of the class."""

    name: Name | None = None
    target: Name | None = Field(default=None, alias="_target_")

    @property
    def label(self) -> str:
        """Its name, or the path of its class."""
        return self.target or self.name or "nothing"


class GenerationGroup(Record):
    """Group ``generation``: the options with a column of their own."""

    strategy: Name
    gen_length: Count | None = None
    block_length: Count | None = None
    num_transfer_tokens: Count | None = None
    steps: Count | None = None
    threshold: Number | None = None


class DatasetGroup(Record):
    """Group ``dataset``."""

    name: Name
    size: Count | None = None
    n_shot: Count | None = None


class SavedConfig(Record):
    """The keys of ``config.yaml`` that are shown."""

    model: ModelGroup
    cache: ClassGroup
    suffix: ClassGroup = ClassGroup(name=BASELINE["suffix"])
    store: Name = BASELINE["store"]
    generation: GenerationGroup
    dataset: DatasetGroup
    batch_size: Count | None = None
    seed: Seed | None = None


class SavedChoice(Record):
    """A given answer with its log-likelihood."""

    answer: Text
    answer_tokens: Count
    log_likelihood: Number
    greedy: bool
    seed: Seed


class Sample(Record):
    """A line of ``samples.jsonl``: a generated answer, or a question with scored ``choices``."""

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
    work: BatchWork | None = None
    choices: list[SavedChoice] | None = None
    prompt_sha256: Name | None = None
    doc_sha256: Name | None = None
    metrics: Object = {}
    target: Any = None
    doc: Object | None = None
    filtered: Any = None
