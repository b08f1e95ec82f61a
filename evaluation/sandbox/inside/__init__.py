"""What runs in the sandbox's own interpreter; it imports the standard library only.

- `server`: the warm interpreter that forks for each program;
- `supervisor`: one process per program: it starts the program and its judge, kills them in time and reports;
- `program`: the process that runs the program and answers calls;
- `judge`: the process that runs the tests;
- `channel`: the calls between these two; `serialize`, `exceptions`, `objects`: data, exceptions and proxies in them;
- `messages`, `limits`, `cleanup`: shared with the caller;
- `layers` (`namespaces`, `landlock`, `seccomp`, `rlimits`): the isolation of both processes;
- `visible_files`: the files they can read; `syscalls`: what the standard library lacks for all of this.
"""
