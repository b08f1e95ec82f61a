"""What runs in the sandbox's own interpreter, which has the standard library only.

- `server`: the warm interpreter that forks for each program;
- `keeper`: one process per program, which starts its two parts, kills them in time and says what became of them;
- `program`: the part that runs the program and answers calls;
- `judge`: the part that runs the tests;
- `channel`: how the two parts ask each other; `values`, `errors`, `objects`: data, exceptions and objects that pass
  between them;
- `frames`, `terms`, `folders`: what this side and the evaluation share;
- `confine` and the layers `namespaces`, `landlock`, `seccomp`, `limits`: what the two parts are cut off from;
- `library`: what files they see.
"""
