"""Reports on saved runs: figures, statistics, tables, pages and checks."""
