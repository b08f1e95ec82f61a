"""Compare final answers of mathematics: normalise the text, parse it to a kind of answer, compare.

- `normalize`: one spelling for typographic characters, Markdown, LaTeX and words;
- `parse`: from that spelling to one of the `answer_types`;
- `compare`: whether two answers are equal;
- `expressions`: numbers and formulas, with math-verify's parser;
- `units`: units behind a number; `brackets`: splitting a text outside of brackets.
"""
