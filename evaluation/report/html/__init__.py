"""``leaderboard.html``: one self-contained page from the leaderboard's frame.

It has a table, accuracy-speed fronts, curves over parameters and a section per cache. Its content security policy
forbids any network access.
"""

from evaluation.report.html.render import render_page

__all__ = ["render_page"]
