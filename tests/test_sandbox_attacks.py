"""Generated programs that attack: none harms, outlives or deceives the evaluation; the documents say how each ends."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from evaluation.sandbox import Limits, Sandbox
from tests import attacks, attacks_on_machines, attacks_on_objects, attacks_on_verdicts
from tests.attacks import HONEST, TESTS, Attack
from tests.layers import all_layers, descendants

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")

ROOT = Path(__file__).resolve().parents[1]
ATTACKS = [*attacks.ATTACKS, *attacks_on_verdicts.ATTACKS, *attacks_on_objects.ATTACKS, *attacks_on_machines.ATTACKS]
LATE = 1.0
"""Seconds by which a program may outlive its time."""


@pytest.mark.sampled(8)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@all_layers
def test_an_attack_fails_harms_nothing_and_ends_in_time(sandbox: Sandbox, attack: Attack, tmp_path: Path) -> None:
    assert "not permitted" in str(sandbox.run("import os\nos.fork()")), "a bomb would be real"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    held = secret.open()  # a descriptor that could be inherited
    os.set_inheritable(held.fileno(), True)
    program = attack.program.replace("SECRET", str(secret)).replace("HOME", str(Path.home()))
    start = time.monotonic()
    outcome = sandbox.run(program, attack.tests, Limits(seconds=attack.seconds))
    took = time.monotonic() - start
    held.close()
    assert not outcome.passed
    assert str(outcome).startswith(attack.outcome), outcome
    assert took < attack.seconds + LATE
    assert secret.read_text() == "secret"
    assert list(tmp_path.iterdir()) == [secret]
    server = sandbox._server
    assert server is not None
    assert server.poll() is None
    assert len(descendants(server.pid)) == 1, "only the first process of the PID namespace is left"
    assert str(sandbox.run(HONEST, TESTS)) == "passed"


def test_the_table_of_attacks_is_what_happens() -> None:
    text = (ROOT / "docs" / "sandbox.md").read_text()
    rows = re.findall(r"^\| `([^|]+?)` \| ([^|]+?) \|$", text[text.index("## Attacks") :], re.MULTILINE)
    table = {name: outcome for outcome, names in rows for name in names.split("; ")}
    assert table == {attack.name: attack.outcome.rstrip(": ") for attack in ATTACKS}
