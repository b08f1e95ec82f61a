"""Random malicious changes to run folders, from a seed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import yaml

CONFIG, RESULTS, SAMPLES, STATUS = "config.yaml", "results.json", "samples.jsonl", "status.json"
FILES = (CONFIG, RESULTS, SAMPLES, STATUS)
TEXTS = (
    "",
    " ",
    "\0",
    "a\x1b[2J\x1b[31mred",
    "\x9b31m\r\n\t\b",
    "half \ud800 of a pair",
    "\u202egnp.exe\u2028",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "| a | [b](javascript:alert(3)) ![c](http://example.org/x.png) `",
    "../../../etc/passwd",
    "/dev/zero",
    "${oc.env:HOME}",
    "{{ 7 * 7 }}",
    "evil:Own",
    "evil.Own",
    "none",
    "done",
    "1e5",
    "NaN",
    "x" * 100_000,
    "😀" * 2_000,
    "2026-02-30T99:99:99",
    "9999-12-31T23:59:59+23:59",
    "\\boxed{" + "1" * 2_000 + "}",
    "#### " + "9" * 5_000,
    "((" * 3_000,
)
NUMBERS = (0, -1, 1, 2, 10**9, 2**31, 2**53 + 1, 2**63, 10**29, 10**400, 10**4000, 0.5, -0.0, 1e-320, 1e308, -1e308)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"": None},
    [None] * 1_000,
    {"_target_": "evil.Own"},
    {"name": "evil:Own"},
    float("nan"),
    float("inf"),
    -float("inf"),
    {str(number): number for number in range(500)},
)
Change = Callable[[Random, Path, Path], None]


def value(random: Random) -> Any:
    """A value that is almost always invalid."""
    kind = random.choice((TEXTS, NUMBERS, OTHERS))
    found = deepcopy(random.choice(kind))
    if random.random() < 0.05:
        for _ in range(random.choice((3, 40, 100))):
            found = [found]
    return found


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if len(path) > 20:
        return found
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:5]) if isinstance(tree, list) else ()
    for key, one in items:
        found += _places(one, (*path, key))
    return found


def _mutate(random: Random, tree: dict[str, Any]) -> None:
    """Change one place of a tree of plain data."""
    places = _places(tree)
    if not places:
        return
    path = random.choice(places)
    at: Any = tree
    for key in path[:-1]:
        at = at[key]
    what = random.random()
    if what < 0.15:
        del at[path[-1]]
    elif what < 0.25 and isinstance(at, dict):
        at[random.choice(TEXTS)] = at.pop(path[-1])
    elif what < 0.3 and isinstance(at, dict):
        at[random.choice((*TEXTS, "_target_", "include_path"))] = value(random)
    elif what < 0.4 and isinstance(at[path[-1]], int | float):
        at[path[-1]] = -at[path[-1]] if random.random() < 0.5 else at[path[-1]] * 1_000_003
    else:
        at[path[-1]] = value(random)


def _json(content: Any) -> bytes:
    return json.dumps(content, default=str).encode("utf-8")


def fields(random: Random, run: Path, outside: Path) -> None:
    """Change one to three values of a file."""
    name = random.choice((CONFIG, RESULTS, RESULTS, SAMPLES, SAMPLES, STATUS))
    path = run / name
    if name == CONFIG:
        content = yaml.safe_load(path.read_text())
        for _ in range(random.randint(1, 3)):
            _mutate(random, content)
        path.write_text(yaml.safe_dump(content))
        if random.random() < 0.5:  # the same in the results
            found = json.loads((run / RESULTS).read_text())
            found["config"] = content
            (run / RESULTS).write_bytes(_json(found))
    elif name == SAMPLES:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        chosen = [random.choice(lines)] if random.random() < 0.7 else lines
        number = random.randint(1, 3)
        seed = random.random()
        for line in chosen:  # the same in all of them
            again = Random(seed)
            for _ in range(number):
                _mutate(again, line)
        path.write_bytes(b"".join(_json(line) + b"\n" for line in lines))
    else:
        content = json.loads(path.read_text())
        for _ in range(random.randint(1, 3)):
            _mutate(random, content)
        path.write_bytes(_json(content))


def contents(random: Random, run: Path, outside: Path) -> None:
    """Replace the whole content of a file."""
    path = run / random.choice(FILES)
    content = path.read_bytes()
    cut = random.randrange(len(content))
    path.write_bytes(
        random.choice(
            (
                b"",
                content[:cut],
                content[:cut] + b"\0" * 512,
                b"\0" * 4096,
                random.randbytes(2_000),
                content + content,
                b"[" * 100_000,
                b'{"a":' * 100_000,
                b"[" * 100 + b"]" * 100,
                b"\xff\xfe" + content,
                b"\xef\xbb\xbf" + content,
                b"[]",
                b"null",
                b"{}",
                b"x" * 3_000_000,
                b'{"a": "' + b"x" * 2_500_000 + b'"}',
                b"\n" * 150_000,
                b"{}\n" * 150_000,
                b'{"a": ' + b"7" * 4_000 + b"}",
                b"a: &a [x]\nb: [*a, *a]\n",
                b"a: !!python/object/apply:os.system [touch marker]\n",
                b"model: ${oc.env:HOME}\n",
                content.replace(b":", b":\x1b[2J ", 1),
            )
        )
    )


def kinds(random: Random, run: Path, outside: Path) -> None:
    """Replace a file by something other than a plain file, or remove it."""
    path = run / random.choice(FILES)
    target = outside / "target"
    shutil.move(path, target)
    what = random.randrange(7)
    if what == 0:
        path.mkdir()
    elif what == 1:
        path.symlink_to(target)
    elif what == 2:
        path.symlink_to(path.name)
    elif what == 3:
        path.symlink_to("/dev/zero")
    elif what == 4:
        os.mkfifo(path)
    elif what == 5:
        path.symlink_to(outside)


def packed(random: Random, run: Path, outside: Path) -> None:
    """Compress the samples, intact or damaged."""
    content = (run / SAMPLES).read_bytes()
    if random.random() < 0.9:
        (run / SAMPLES).unlink()
    whole = gzip.compress(content, mtime=0)
    choices = (
        whole,
        whole[:-10],
        whole[: len(whole) // 2],
        whole + whole,
        gzip.compress(b"\0" * (20 << 20), mtime=0),
        gzip.compress(b"\n" * (20 << 20), mtime=0),
        gzip.compress(b"", mtime=0) * 5_000,
        content,
        b"\x1f\x8b",
        b"",
    )
    (run / f"{SAMPLES}.gz").write_bytes(random.choice(choices))


def names(random: Random, run: Path, outside: Path) -> None:
    """Rename the folder."""
    name = random.choice(
        (
            "a",
            "=cmd",
            "<img src=x>",
            "a\x1b[2Jb",
            "x" * 200,
            "a b",
            "__",
            "é" * 50,
            "a__b__c__d",
            "-x",
            "a\nb",
            "|a|`b`",
        )
    )
    shutil.move(run, run.with_name(name))


def others(random: Random, run: Path, outside: Path) -> None:
    """Add files and folders that do not belong there."""
    what = random.randrange(6)
    if what == 0:
        (run / random.choice(("a\x1b[2J", "=cmd", "<b>", "evil.py", "x" * 200))).write_text("hello")
    elif what == 1:
        (run / "answered").mkdir()
    elif what == 2:
        (run / "rescored.json").write_bytes(random.choice((b"{", b"[]", b'{"results": {"a": 1}}', b'{"results": {}}')))
    elif what == 3:
        (run / "rescored.json").symlink_to(outside / "sentinel")
    elif what == 4:
        (run / "loop").symlink_to(run)
    else:
        shutil.copytree(run, run.with_name(f"{run.name}-again"), symlinks=True)


def links(random: Random, run: Path, outside: Path) -> None:
    """Replace the folder by a link."""
    shutil.move(run, outside / "moved")
    run.symlink_to(outside / "moved")


CHANGES: tuple[Change, ...] = (fields, contents, kinds, packed, names, others, links)
WEIGHTS = (60, 12, 8, 6, 5, 6, 3)


def mutate(random: Random, run: Path, outside: Path) -> str:
    """Change a run folder.

    Args:
        random: draws what is changed.
        run: the folder.
        outside: a folder for what is moved away.

    Returns:
        What was done, in a word.
    """
    (change,) = random.choices(CHANGES, WEIGHTS)
    change(random, run, outside)
    return change.__name__
