"""What saved runs say: figures, statistics, tables, pages and checks."""
