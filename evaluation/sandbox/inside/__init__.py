"""What runs in the sandbox's own interpreter, which has the standard library only.

- `server`: the warm interpreter that forks for each program;
- `keeper`: one process per program, which starts its two parts, kills them in time and says what became of them;
- `program`: the part that runs the program and answers calls;
- `judge`: the part that runs the tests;
- `values`, `frames`, `terms`: what goes between them, and between them and the evaluation;
- `confine` and the layers `namespaces`, `landlock`, `seccomp`, `limits`: what the two parts are cut off from.
"""
