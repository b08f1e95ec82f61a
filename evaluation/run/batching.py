"""Batches of questions put to the model: each timed, kept on disk, and halved where memory is too short for it."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from evaluation.run.distributed import Ranks
from evaluation.run.efficiency import Batch, Stopwatch
from evaluation.run.journal import Journal, Question
from evaluation.run.memory import MemoryShortageError, is_out_of_memory, release
from generation import Counts
from models import Transformer

T = TypeVar("T")
Answers = tuple[list[dict[str, Any]], Counts]
"""Of each question what became of it, as plain data, and the work of all of them."""


@dataclass(frozen=True)
class Job(Generic[T]):
    """How questions of a kind are answered.

    Attributes:
        kind: its name in the journal.
        identify: what makes a question the same in another session.
        answer: answers a few questions at once.
        warm_up: does something short that runs what ``answer`` runs; not timed.
    """

    kind: str
    identify: Callable[[T], Question]
    answer: Callable[[Transformer, list[T]], Answers]
    warm_up: Callable[[Transformer, list[T]], object]


@dataclass
class Answered:
    """What became of all questions, over all processes and sessions; complete in the first process only.

    Attributes:
        answers: per question.
        batch_of: per question, the number of its batch.
        batches: what was timed.
        shortages: each time memory was too short, in a warm-up, too: the size that failed, and the one tried ``then``.
        sessions: the different circumstances under which batches were answered.
    """

    answers: list[dict[str, Any]] = field(default_factory=list)
    batch_of: list[int] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    shortages: list[dict[str, int]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)


class Answering:
    """The batches of this process.

    Batches are the same whatever the number of processes, of which each answers every n-th, and in every session.
    One that does not fit into memory is halved until it does, and so are those after it.

    Args:
        batch_size: questions of a batch.
        ranks: the processes that share the work.
        journal: where batches are kept, and those of earlier sessions are found; None: nowhere.
        quiet: show no progress.
    """

    def __init__(self, batch_size: int, ranks: Ranks, journal: Journal | None = None, quiet: bool = False) -> None:
        self._batch_size, self._ranks, self._journal, self._quiet = batch_size, ranks, journal, quiet
        self._most = batch_size

    def all(self, job: Job[T], questions: list[T], model: Callable[[], Transformer]) -> Answered | None:
        """Answer all questions.

        Args:
            job: how.
            questions: all of them, in the same order in every process.
            model: loads it.

        Returns:
            What became of them; None in all processes but the first.
        """
        if self._journal:
            self._journal.total += len(questions)
        starts = range(0, len(questions), self._batch_size)
        batches = [questions[start : start + self._batch_size] for start in starts]
        collected = self._ranks.collect(lambda: self._share(job, self._ranks.share(batches), model))
        if collected is None:
            return None
        shares = [iter(share) for share in collected]
        found = Answered()
        for number in range(len(batches)):
            _put(next(shares[number % len(shares)]), found)
        return found

    def _share(self, job: Job[T], batches: list[list[T]], load: Callable[[], Transformer]) -> list[dict[str, Any]]:
        """This process's batches, as journal entries."""
        model, journal = load(), self._journal
        asked = [[job.identify(question) for question in batch] for batch in batches]
        done = [_known(journal, job.kind, batch) if journal else None for batch in asked]
        shortages = [one for entry in done if entry for one in entry["shortages"]]
        self._most = min([self._most, *(one["then"] for one in shortages)])
        before = sum(len(entry["answers"]) for entry in done if entry)
        with _Progress(sum(map(len, batches)), before, journal, self._quiet or not self._ranks.first) as progress:
            left = [number for number, entry in enumerate(done) if entry is None]
            short = self._pieces(job, model, batches[left[0]], job.warm_up) if left else []
            for number in left:
                entry = self._answer(job, model, batches[number])
                entry["shortages"] = short + entry["shortages"]
                short = []  # what the warm-up ran into is told of the first batch
                done[number] = journal.add(job.kind, asked[number], entry) if journal else entry
                progress.add(entry)
        return [entry for entry in done if entry]

    def _answer(self, job: Job[T], model: Transformer, batch: list[T]) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        timed: list[dict[str, Any]] = []

        def answer(model: Transformer, piece: list[T]) -> None:
            with _PeakMemory(model.device) as memory, Stopwatch(model.device) as watch:
                found, counts = job.answer(model, piece)
            answers.extend(found)
            batch = Batch(len(piece), watch.seconds, counts, memory.bytes)
            timed.append(asdict(batch))

        shortages = self._pieces(job, model, batch, answer)
        return {"answers": answers, "pieces": timed, "shortages": shortages}

    def _pieces(
        self, job: Job[T], model: Transformer, batch: list[T], work: Callable[[Transformer, list[T]], object]
    ) -> list[dict[str, int]]:
        """Do ``work`` on a batch, in as many pieces as memory asks for; returns when it was too short.

        Raises:
            MemoryShortageError: a single question needs more than there is.
        """
        shortages: list[dict[str, int]] = []
        left = deque([batch])
        while left:
            piece = left.popleft()
            if len(piece) > self._most:
                left.extendleft([piece[self._most :], piece[: self._most]])
                continue
            problem = _attempt(work, model, piece)
            if problem is None:
                continue
            release()
            if len(piece) == 1:
                raise MemoryShortageError(f"out of memory with a single prompt: {problem}")
            self._most = len(piece) // 2
            shortages.append({"size": len(piece), "then": self._most})
            left.appendleft(piece)
        return shortages


def _attempt(work: Callable[[Transformer, list[T]], object], model: Transformer, piece: list[T]) -> str | None:
    """Why memory was too short for ``work``; None where it was not. The error itself holds on to what was allocated."""
    try:
        work(model, piece)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def _known(journal: Journal, kind: str, questions: list[Question]) -> dict[str, Any] | None:
    """What the journal has of a batch; None, with a warning, where another version of the code kept other things."""
    entry = journal.find(kind, questions)
    try:
        if entry is not None:
            _put(entry, Answered())
    except (TypeError, KeyError, AttributeError):
        warnings.warn(
            "a batch that another version of the code answered is answered again", RuntimeWarning, stacklevel=2
        )
        return None
    return entry


def _put(entry: dict[str, Any], found: Answered) -> None:
    """Add one batch to what was found before; batches that were halved count as several."""
    found.answers += entry["answers"]
    for piece in entry["pieces"]:
        found.batch_of += [len(found.batches)] * piece["size"]
        found.batches.append(Batch(**{**piece, "counts": Counts(**piece["counts"])}))
    found.shortages += entry["shortages"]
    if (session := entry.get("session")) is not None and session not in found.sessions:
        found.sessions.append(session)


class _Progress:
    """A bar of the questions of this process, with tokens per second of this session; the journal is told, too."""

    def __init__(self, total: int, before: int, journal: Journal | None, quiet: bool) -> None:
        self._journal, self._tokens, self._seconds = journal, 0, 0.0
        self._bar = tqdm(total=total, initial=before, unit="question", disable=quiet)
        if journal:
            journal.answered += before

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, entry: dict[str, Any]) -> None:
        """A batch is done."""
        self._tokens += sum(answer.get("tokens", 0) for answer in entry["answers"])
        self._seconds += sum(piece["seconds"] for piece in entry["pieces"])
        if self._journal:
            self._journal.answered += len(entry["answers"])
            self._journal.tokens, self._journal.seconds = self._tokens, self._seconds
        if self._tokens and self._seconds:
            self._bar.set_postfix_str(f"{self._tokens / self._seconds:.1f} tokens/s", refresh=False)
        self._bar.update(len(entry["answers"]))


class _PeakMemory:
    """Most bytes allocated between entering and leaving; None where that is not measured."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes: int | None = None

    def __enter__(self) -> _PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
