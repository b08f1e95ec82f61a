"""Many runs: what is left to do, who does it, and what became of each."""
