"""The parts of an HTML report: one file, nothing in it comes from anywhere else.

Pictures are SVG made by matplotlib, the extra ``report``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>\n" for row in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if heads else ''}\n{body}</table>"


def items(lines: Iterable[str]) -> str:
    """A list of texts; "None." without any."""
    found = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f"<ul>\n{found}</ul>" if found else "<p>None.</p>"


def svg(figure: Figure) -> str:
    """The picture as an element of the page, the same for the same numbers."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qsdk"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def page(title: str, body: str) -> str:
    """The document; ``title`` is text, ``body`` HTML."""
    return Template(_PAGE).substitute(title=escape(title), body=body)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qsdk: $title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62em; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.6em; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-size: 0.9em; }
th { text-align: left; background: #f0f2f5; }
td, th { padding: 0.2em 0.8em 0.2em 0; border-bottom: 1px solid #e5e5e5; vertical-align: top;
         overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { padding-left: 0.4em; }
pre { background: #f0f2f5; padding: 0.8em; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
"""
