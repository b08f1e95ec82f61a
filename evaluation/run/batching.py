"""Run requests in batches: each is timed, written to the journal, and halved if it does not fit into memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from tqdm import tqdm

from evaluation.run.distributed import Processes
from evaluation.run.efficiency import Batch, Measurement
from evaluation.run.journal import Journal, RequestKey, count_answered
from evaluation.run.out_of_memory import halve_until_it_fits
from evaluation.storage.schema import MemoryShortage
from generation import Counts
from models import Transformer


class _HasKey(Protocol):
    @property
    def key(self) -> RequestKey:
        """What identifies the request in the journal."""


R = TypeVar("R", bound=_HasKey)
A = TypeVar("A")


@dataclass(frozen=True)
class Job(Generic[R, A]):
    """How requests of one kind are answered.

    Attributes:
        kind: its name in the journal.
        answer_type: dataclass of an answer, of plain data.
        answer: answers a batch; returns an answer per request, and the work of all.
        warm_up: runs the code paths of ``answer`` briefly; not timed.
    """

    kind: str
    answer_type: type[A]
    answer: Callable[[Transformer, list[R]], tuple[list[A], Counts]]
    warm_up: Callable[[Transformer, list[R]], object]


@dataclass
class BatchResult(Generic[A]):
    """The result of one batch, as the journal keeps it.

    Attributes:
        answers: per request.
        pieces: what was timed: the batch or, if it was halved, its pieces.
        shortages: each time memory was too short, also in the warm-up before it.
        session: the circumstances (see `Journal`).
    """

    answers: list[A] = field(default_factory=list)
    pieces: list[Batch] = field(default_factory=list)
    shortages: list[MemoryShortage] = field(default_factory=list)
    session: dict[str, Any] | None = None

    @classmethod
    def from_entry(cls, entry: dict[str, Any], answer_type: type[A]) -> BatchResult[A]:
        """From the entry of a journal."""
        return cls(
            [answer_type(**answer) for answer in entry["answers"]],
            [Batch(**{**piece, "counts": _counts(piece["counts"])}) for piece in entry["pieces"]],
            [MemoryShortage(**shortage) for shortage in entry["shortages"]],
            entry.get("session"),
        )


def _counts(values: dict[str, Any]) -> Counts:
    """Counts of a journal's entry; `KeyError` if one is missing, which its default would make 0."""
    return Counts(**{field.name: values[field.name] for field in fields(Counts)})


class BatchRunner:
    """Answers requests in batches that are the same in every session and for any number of processes.

    Once a batch does not fit into memory, it and all later ones of the job run in smaller pieces.

    Args:
        batch_size: requests of a batch.
        processes: those that share the work.
        journal: keeps the results, and has those of earlier sessions; None: nothing is kept.

    Attributes:
        batches: what was timed, of all jobs and sessions; the pieces of a halved batch count as batches. Complete in
            the main process only, as are the attributes below.
        shortages: each time memory was too short.
        sessions: the different circumstances under which batches were answered.
    """

    def __init__(self, batch_size: int, processes: Processes, journal: Journal | None = None) -> None:
        self._batch_size, self._processes, self._journal = batch_size, processes, journal
        self._max_size = batch_size
        self._total = self._answered = self._tokens = 0
        self._seconds = 0.0
        self.batches: list[Batch] = []
        self.shortages: list[MemoryShortage] = []
        self.sessions: list[dict[str, Any]] = []

    def run(
        self, job: Job[R, A], requests: list[R], load: Callable[[], Transformer], quiet: bool = False
    ) -> list[tuple[A, int]] | None:
        """Answer all requests.

        Args:
            job: how.
            requests: in the same order in every process.
            load: loads the model, and opens the journal.
            quiet: show no progress bar.

        Returns:
            Per request the answer and the number of its batch, in the main process; None in the others.
        """
        self._total += len(requests)
        self._max_size = self._batch_size
        starts = range(0, len(requests), self._batch_size)
        batches = [requests[start : start + self._batch_size] for start in starts]
        shares = self._processes.collect(lambda: self.run_share(job, self._processes.share(batches), load, quiet))
        if shares is None:
            return None
        answers: list[tuple[A, int]] = []
        for number in range(len(batches)):
            result = shares[number % len(shares)][number // len(shares)]
            sizes = [piece.size for piece in result.pieces]
            numbers = [len(self.batches) + index for index, size in enumerate(sizes) for _ in range(size)]
            answers += zip(result.answers, numbers, strict=True)
            self.batches += result.pieces
            self.shortages += result.shortages
            if result.session is not None and result.session not in self.sessions:
                self.sessions.append(result.session)
        return answers

    def run_share(
        self, job: Job[R, A], batches: list[list[R]], load: Callable[[], Transformer], quiet: bool = False
    ) -> list[BatchResult[A]]:
        """Answer the batches of this process; those in the journal are taken from it."""
        model = load()
        results = [self.saved_result(job, batch) for batch in batches]
        earlier = [result for result in results if result]
        self._remember_size([shortage for result in earlier for shortage in result.shortages])
        missing = [number for number, result in enumerate(results) if result is None]
        answered = sum(len(result.answers) for result in earlier)
        self._answered += answered
        quiet = quiet or not self._processes.is_main_process
        with tqdm(total=sum(map(len, batches)), initial=answered, unit="question", disable=quiet) as bar:
            shortages = self._in_pieces(partial(job.warm_up, model), batches[missing[0]]) if missing else []
            for number in missing:
                result = results[number] = self._answer(job, model, batches[number], shortages)
                shortages = []  # those of the warm-up are kept with the first batch
                self._answered += len(result.answers)
                self._tokens += sum(getattr(answer, "tokens", 0) for answer in result.answers)
                self._seconds += sum(piece.seconds for piece in result.pieces)
                if self._tokens and self._seconds:
                    bar.set_postfix_str(f"{self._tokens / self._seconds:.1f} tokens/s", refresh=False)
                bar.update(len(result.answers))
        return [result for result in results if result]

    def progress(self) -> dict[str, Any]:
        """Progress for ``status.json``: questions of the run, and tokens per second of this process and session."""
        several = self._journal if self._processes.world_size > 1 else None
        answered = count_answered(several.folder) if several else self._answered
        speed = self._tokens / self._seconds if self._tokens and self._seconds else None
        return {"answered": answered, "total": self._total, "tokens_per_second": speed}

    def saved_result(self, job: Job[R, A], batch: list[R]) -> BatchResult[A] | None:
        """The result that the journal has of a batch.

        Warns:
            RuntimeWarning: another version of the code wrote it, in another form; the batch is answered again.
        """
        entry = self._journal.find(job.kind, [request.key for request in batch]) if self._journal else None
        try:
            return None if entry is None else BatchResult.from_entry(entry, job.answer_type)
        except (TypeError, KeyError, AttributeError, ValueError):
            message = "a batch that another version of the code answered is answered again"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return None

    def _answer(
        self, job: Job[R, A], model: Transformer, batch: list[R], shortages: list[MemoryShortage]
    ) -> BatchResult[A]:
        result = BatchResult[A]()

        def answer(piece: list[R]) -> None:
            with Measurement(model.device) as measured:
                answers, counts = job.answer(model, piece)
            result.answers += answers
            result.pieces.append(
                Batch(len(piece), measured.seconds, counts, measured.peak_memory, measured.processor_seconds)
            )

        result.shortages = [*shortages, *self._in_pieces(answer, batch)]
        if self._journal:
            result.session = self._journal.session
            self._journal.add(job.kind, [request.key for request in batch], vars(result))
        return result

    def _in_pieces(self, work: Callable[[list[R]], object], batch: list[R]) -> list[MemoryShortage]:
        """Do ``work`` on a batch in pieces that fit into memory, and remember their size for later batches."""
        shortages = halve_until_it_fits(work, batch, self._max_size)
        self._remember_size(shortages)
        return shortages

    def _remember_size(self, shortages: list[MemoryShortage]) -> None:
        self._max_size = min([self._max_size, *(shortage.then for shortage in shortages)])
