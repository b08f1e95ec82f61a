"""A valid row of each task with a scorer."""

from __future__ import annotations

from typing import Any

GOOD: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"},
    "nano-gsm": {"question": "1 + 1?", "answer": "1 + 1 = 2. #### 2"},
    "math-500": {"problem": "1 + 1?", "answer": "2"},
    "humaneval": {
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    },
    "mbpp": {"text": "The same number.", "test_setup_code": "", "test_list": ["assert f(1) == 1"] * 3},
    "nano-code": {"prompt": "def f(x):\n", "body": "    return x\n", "entry_point": "f", "tests": "assert f(1) == 1\n"},
}
for name in ("math-500", "humaneval", "mbpp"):
    GOOD[f"{name}_instruct"] = GOOD[name]
