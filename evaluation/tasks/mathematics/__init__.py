"""Answers of mathematics: from characters to one spelling, to the kind of answer, to a comparison.

- `text`: one spelling for typographic characters, Markdown, LaTeX and words;
- `brackets`: where a text can be split;
- `units`: what may stand behind a number;
- `kinds`: what an answer can be;
- `reading`: from the one spelling to a kind;
- `comparing`: whether two answers are the same;
- `expressions`: numbers and formulas, read with math-verify's parser.
"""
