"""`cache-zoo generate`: its answer, its display in a terminal, its errors."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from generation import Counts, GenerationOptions, Progress
from generation.demo import TimedGeneration, main
from generation.strategies.strategy import Region
from generation.terminal import MARKS, Picture, printable
from models.tiny import SPECIAL_TOKENS, byte_tokenizer
from tests import processes

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "Tom has 3 bags with 4 coins each. Tom buys 21 more. How many coins does Tom have now?"
ANSWER = "3 * 4 = 12. 12 + 21 = 33. #### 33"
MASK, EOS = (byte_tokenizer().get_added_vocab()[token] for token in SPECIAL_TOKENS[:2])

Captured = tuple[int, str, str]
Call = Callable[..., Captured]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The program in this process, with its output captured, so in no terminal."""

    def run(*arguments: str, stdin: bytes = b"") -> Captured:
        monkeypatch.setattr(sys, "argv", ["generation", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def in_terminal(*arguments: str, interrupt_at: str | None = None) -> tuple[int, str]:
    """Exit status and everything written of a run in a pseudo-terminal of 80 columns and 24 lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = processes.environment(TERM="xterm-256color")
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    process = processes.Process(["-m", "evaluation", "generate", *arguments], env=environment, terminal=theirs)
    os.close(theirs)
    written, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so once the other end is closed
            break
        if not part:
            break
        written += part
        if interrupt_at is not None and interrupt_at.encode() in written:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(ours)
    return process.wait(60), written.decode()


def test_a_pipe_gets_the_answer_and_nothing_else(call: Call) -> None:
    code, out, err = call(QUESTION, "cache=d2cache", "cache.current_k=16", "generation.gen_length=64")
    assert (code, out.strip()) == (0, ANSWER)
    found = re.fullmatch(
        r"d2cache current_k=16: 64 tokens in (\S+) s, (\S+) tokens/s \((\d+) of them the answer\); "
        r"NFE 64, compute ratio (0\.\d{3})\n",
        err,
    )
    assert found is not None, err
    seconds, speed, answer, ratio = map(float, found.groups())
    assert speed == pytest.approx(64 / seconds, rel=0.1)
    assert 10 < answer < 40
    assert 0 < ratio < 0.6


def test_the_prompt_may_come_from_standard_input_as_it_is(call: Call) -> None:
    prompt = f"Question: {QUESTION}\nAnswer:\n".encode()
    code, out, _ = call(
        "-", "chat=false", "generation.threshold=0.9", "generation.gen_length=64", "model=nano-dream", stdin=prompt
    )
    assert (code, out.strip()) == (0, ANSWER)


def test_a_comparison_says_how_often_it_was_timed(call: Call) -> None:
    code, out, err = call(
        QUESTION, "cache=dual", "compare=none", "generation.gen_length=32", "generation.block_length=8"
    )
    assert code == 0
    assert out.count("\n") == 1
    dual, none, both = err.splitlines()
    assert dual.startswith("dual: 32 tokens in ")
    assert none.startswith("none: 32 tokens in ")
    assert none.endswith("compute ratio 1.000")
    found = re.fullmatch(
        r"(\S+) times as fast as none \(one timing of each, .*\); (\d+) of 32 tokens are the same", both
    )
    assert found is not None, both
    seconds = [float(re.findall(r"in (\S+) s", line)[0]) for line in (dual, none)]
    assert float(found[1]) == pytest.approx(seconds[1] / seconds[0], rel=0.2)


def test_suffix_store_and_strategy_are_chosen_like_the_cache(call: Call) -> None:
    method = ["cache=dual", "suffix=window", "suffix.window=4", "store=int8"]
    strategy = ["generation.strategy=window", "generation.window=4", "generation.block_length=8"]
    code, out, err = call(QUESTION, *method, *strategy, "generation.gen_length=16", "compare=none")
    assert (code, out.count("\n")) == (0, 1)
    ours, theirs, _ = err.splitlines()
    assert ours.startswith("dual suffix=window window=4 store=int8: 16 tokens in ")
    assert 0 < float(ours.rpartition(" ")[2]) < 1
    assert theirs.startswith("none: 16 tokens in ")
    assert theirs.endswith("compute ratio 1.000")


def test_the_status_says_where_a_generation_is() -> None:
    options = GenerationOptions(gen_length=16, block_length=4)
    vanilla = TimedGeneration("x", iter(()), options, MASK)
    sliding = TimedGeneration("x", iter(()), replace(options, strategy="sliding"), MASK)
    tokens = torch.full((1, 16), MASK)
    for generation, region, said in (
        (vanilla, Region(1, 4, 8), "step 5/16 · block 2/4 · 0/16 tokens"),
        (sliding, Region(7, 3, 9), "step 5 · columns 4-9 · 0/16 tokens"),
    ):
        counts = Counts(forwards=5, rows=1, rows_full=2)
        generation.progress = Progress(tokens, tokens == 0, {0: region}, counts)
        generation.seconds = 1.0
        assert generation.status() == f"0.0 tokens/s · compute ratio 0.500 · {said}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([" \n"], "the prompt is empty"),
        (["\udcff"], "the prompt is not text in UTF-8"),
        (["hi", "cache=d3cache"], "unknown cache 'd3cache': did you mean 'd2cache'?"),
        (["hi", "cache=dllm", "kp=50"], "unknown option 'kp'"),
        (["hi", "cache=dllm", "cache.=50"], "unknown option 'cache.': did you mean 'cache'?"),
        (["hi", "cache=dllm", "cache.rou=1e999"], "cache.rou can't be '1e999'"),
        (["hi", "cache=dllm", "cache.kp=0"], "'kp' must be at least 1"),
        (
            ["hi", "cache=dllm", "cache.rou=much"],
            "cache 'dllm' can't be made: parameter 'rou' must be a number, not 'much'",
        ),
        (["hi", "compare=nne"], "unknown cache 'nne': did you mean 'none'?"),
        (
            ["hi", "generation.treshold=0.9"],
            "unknown generation option 'treshold': did you mean 'threshold'?",
        ),
        (["hi", "threshold=0.9"], "did you mean 'generation.threshold'?"),
        (["hi", "--threshold", "0.9"], "options are written key=value: did you mean 'generation.threshold='?"),
        (["hi", "--no-chat"], "'--no-chat' is not an option, options are written key=value: did you mean 'chat='?"),
        (["hi", "there"], "'there' is one argument too many; text with blanks needs quotes"),
        (["hi", "generation.gen_length=abc"], "generation.gen_length must be a whole number, not 'abc'"),
        (["hi", "generation.top_k=1.5"], "generation.top_k must be a whole number or null, not '1.5'"),
        (["hi", "chat=yes"], "chat must be true or false or null, not 'yes'"),
        ([], "PROMPT is missing; usage: cache-zoo generate PROMPT [key=value ...]"),
        (["hi", "cache=d2"], "unknown cache 'd2': did you mean 'd2cache'?"),
        (["hi", "generation.gen_length=30"], "block_length 32 does not divide gen_length 30"),
        (["hi", "generation.strategy=vanila"], "did you mean 'vanilla'?"),
        (["hi", "generation.strategy=window", "generation.window=0"], "'window' must be at least 1"),
        (["hi", "generation.strategy=window", "generation.widnow=4"], "did you mean 'window'?"),
        (["hi", "suffix=windo"], "unknown suffix 'windo': did you mean 'window'?"),
        (["hi", "suffix=window", "suffix.widnow=3"], "unknown parameter 'widnow' of suffix 'window': did you mean"),
        (["hi", "cache=dual", "store=int9"], "unknown store 'int9': did you mean 'int8'?"),
        (["hi", "store=int8"], "NoCache stores none"),
        (["hi", "model=nano-lama"], "did you mean 'nano-llada'?"),
        (["hi", "generation.gen_length=8192"], "prompt 0 has "),
        (["hi", "model.dtype=float31"], "did you mean 'float32'?"),
    ],
)
def test_what_cannot_be_used_is_one_error(call: Call, arguments: list[str], message: str) -> None:
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hi", "generation.strategy=vanila"], "did you mean 'vanilla'?"),
        (["hi", "generation.gen_length=8192"], "prompt 0 has "),
    ],
)
def test_it_is_one_error_before_the_weights_are_loaded(
    call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("generation.demo.load_model", lambda *_: pytest.fail("loaded"))
    code, _, err = call(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_a_prompt_without_an_end_is_one_error() -> None:
    with open("/dev/zero", "rb") as endless:
        done = processes.run(["-m", "evaluation", "generate", "-"], stdin=endless)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the prompt on standard input exceeds 2,097,152 bytes" in done.stderr


def test_a_cache_that_can_save_nothing_warns_once(call: Call) -> None:
    code, _, err = call("hi", "cache=dual", "generation.gen_length=8", "generation.block_length=null")
    assert code == 0
    assert err.count("needs blocks") == 1
    assert err.startswith("warning: ")


def test_a_terminal_shows_the_text_unmasking() -> None:
    code, written = in_terminal(QUESTION, "cache=dual", "compare=none", "generation.gen_length=64")
    assert code == 0, written
    steps = [int(step) for step in re.findall(r"step (\d+)/64 · block [12]/2", written)]
    assert len(set(steps)) > 3
    assert "░" in written
    assert "·····" in written
    assert "\x1b[1;30;42m" in written, "new tokens are highlighted"
    assert re.search(r"\d tokens/s · compute ratio 0\.\d{3} · step", written), "a narrow window shows the begin"
    assert written.count("\x1b[?1049h") == written.count("\x1b[?1049l") == 1, "a second screen, which survives a resize"
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1, "the cursor comes back"
    end = written.rpartition("\x1b[?25h")[2]
    assert ANSWER in end
    assert "times as fast as none" in end
    assert "░" not in end


def test_a_terminal_may_be_asked_for_plain_text() -> None:
    code, written = in_terminal(QUESTION, "cache=dual", "generation.gen_length=64", "plain=true")
    assert code == 0, written
    assert "\x1b" not in written
    assert written.strip().startswith(ANSWER)


def test_an_interrupt_leaves_the_terminal_as_it_was() -> None:
    code, written = in_terminal(QUESTION, "generation.gen_length=2048", interrupt_at="step ")
    assert code == 130
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert "Traceback" not in written
    assert written.rstrip().endswith("interrupted")


def drawn(ids: list[int], new: list[int], block: int, height: int = 20, width: int = 12) -> list[str]:
    """The lines of a picture of a canvas with blocks of four."""
    picture = Picture("none", byte_tokenizer(), MASK, MARKS)
    committed = torch.zeros(1, len(ids), dtype=torch.bool)
    committed[0, new] = True
    region = Region(block, 4 * block, 4 * block + 4)
    picture.update(Progress(torch.tensor([ids]), committed, {0: region}, Counts()), "status")
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(picture.render(console, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_picture_tells_blocks_masks_and_ends_apart() -> None:
    a, b = (byte_tokenizer()(letter, add_special_tokens=False)["input_ids"][0] for letter in "ab")
    lines = drawn([a, b, MASK, MASK, MASK, b, EOS, EOS], [1], 0)
    assert lines == ["none ───────", "ab░░·b▪▪", "status"]
    assert drawn([a, b, a, a, MASK, b, EOS, EOS], [7], 1)[1] == "abaa░b▪▪"


def test_a_long_text_is_shown_around_the_current_block() -> None:
    letters = [byte_tokenizer()(letter, add_special_tokens=False)["input_ids"][0] for letter in "abcdefghijklmnopqrst"]
    ids = letters + [MASK] * 20
    lines = drawn(ids, [], 5, height=5, width=4)
    assert len(lines) == 5
    assert lines[1:-1] == ["qrst", "░░░░", "····"]
    assert drawn(ids, [], 0, height=5, width=4)[1:-1] == ["abcd", "efgh", "ijkl"]


def test_what_a_model_writes_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\n\tc") == "a�[2Jb��\n\tc"
    escape = byte_tokenizer()("\x1b[2J\nx", add_special_tokens=False)["input_ids"]
    assert drawn(escape, [], 0)[1:-1] == ["�[2J", "x"]
