"""Differences between a recorded case and our replay of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from generation import GenerationOutput
from tests.conformance.case import Case
from tests.conformance.internals import Forward, internal_differences, recorded_choices, watch
from tests.conformance.probe import TOLERANCE, first_logits, logits_error
from tests.conformance.replay import Replay
from tests.conformance.rows import Rows, active, recorded_rows


@dataclass(frozen=True)
class Call:
    """One forward of one sequence: the generated part after it, and the rows that ran where they are known."""

    canvas: list[int]
    rows: Rows | None


def differences(case: Case, replay: Replay) -> list[str]:
    """Where the ``replay`` of ``case`` differs from the record; empty when it is exact."""
    found = []
    cache = replay.make_cache()
    watched: AbstractContextManager[list[Forward]] = watch(cache) if recorded_choices(case) else nullcontext([])
    with first_logits(case.model()) as logits, watched as forwards:
        out = replay.run(case, cache)
    if "logits_file" in case.expected and (error := logits_error(case, logits[0])) > TOLERANCE:
        found.append(f"first logits differ by {error:.2e}")
    final = [[token for token in row if token >= 0] for row in case.expected["final"]]  # -1: no such column
    if [row[:length] for row, length in zip(out.tokens.tolist(), out.lengths, strict=True)] != final:
        found.append("final tokens differ")
    for b in range(case.batch):
        theirs, ours = recorded_calls(case, b, replay), our_calls(out, b)
        found += [f"sequence {b}: {text}" for text in _compare(case, theirs, ours)]
    if out.nfe == case.expected["model_calls"] and not case.data["tie_dependent"]:
        found += internal_differences(case, forwards)
    return found


def recorded_calls(case: Case, b: int, replay: Replay) -> list[Call]:
    """Model calls of the official code in which sequence ``b`` took part, without those it could have left out."""
    calls, before = [], [case.data["mask_id"]] * case.gen_length
    for number, canvases in enumerate(case.canvases):
        if b not in active(case, number):
            continue
        canvas = canvases[b][: _length_after(case, number, b)]
        if canvas != before or (replay.has_idle_forwards and not _block_was_complete(case, number, before)):
            calls.append(Call(canvas, recorded_rows(case, number, b)))
        before = canvas
    return calls


def _length_after(case: Case, number: int, b: int) -> int | None:
    """Columns of sequence ``b`` that exist after a call, where they are recorded; a batch is filled up."""
    forwards = case.expected["forwards"]
    if "gen_lengths" not in forwards[number]:
        return None
    if number + 1 < len(forwards):
        length: int = forwards[number + 1]["gen_lengths"][b]
        return length
    return sum(token >= 0 for token in case.expected["final"][b])


def our_calls(out: GenerationOutput, b: int) -> list[Call]:
    """Forwards of our replay in which sequence ``b`` took part."""
    calls = []
    for entry in out.trace or []:
        if b in entry.active:
            at = entry.active.index(b)
            length = None if entry.lengths is None else entry.lengths[b]
            calls.append(Call(entry.canvas[b, :length].tolist(), [layer[at] for layer in entry.layer_rows]))
    if calls:  # positions behind an end of sequence may be filled after the last forward
        calls[-1] = Call(out.tokens[b, : out.lengths[b]].tolist(), calls[-1].rows)
    return calls


def _block_was_complete(case: Case, number: int, before: list[int]) -> bool:
    """Whether the call found nothing to commit in its block, as recorded."""
    block = case.expected["forwards"][number].get("block", -1)
    width = case.block
    return block >= 0 and case.data["mask_id"] not in before[block * width : (block + 1) * width]


def _compare(case: Case, theirs: list[Call], ours: list[Call]) -> list[str]:
    found = []
    if len(ours) != len(theirs):
        found.append(f"{len(ours)} forwards, {len(theirs)} recorded")
    pairs = list(enumerate(zip(ours, theirs, strict=False)))
    wrong = next((at for at, (mine, other) in pairs if mine.canvas != other.canvas), None)
    if wrong is not None:
        found.append(f"canvas after forward {wrong} differs")
    if case.data["tie_dependent"]:
        return found
    wrong = next((at for at, (mine, other) in pairs if not _same_rows(mine.rows, other.rows)), None)
    if wrong is not None:
        found.append(f"rows of forward {wrong} differ")
    return found


def _same_rows(ours: Rows | None, theirs: Rows | None) -> bool:
    if ours is None or theirs is None:
        return True
    if len(theirs) == len(ours):
        return ours == theirs
    return theirs[0] in ours and all(rows in (theirs[0], []) for rows in ours)  # a layer may find nothing to do
