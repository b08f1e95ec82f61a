"""``leaderboard.html``: one self-contained page from the leaderboard's frame.

Runs' figures become a table, accuracy-speed fronts, curves over parameters and a section per cache. The page asks the
network for nothing, and its own policy forbids it to.
"""

from evaluation.report.html.render import render_page

__all__ = ["render_page"]
