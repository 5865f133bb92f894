"""Sphinx configuration: Markdown by MyST, no extension that reads the code."""

from importlib.metadata import version as installed

project = "qsdk"
author = "the qsdk authors"
project_copyright = "the qsdk authors"
version = release = installed("qsdk")

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
included = ["algorithms/squant-accuracy.md", "algorithms/aqn-figures.md"]
exclude_patterns = ["_build", "examples", *included]

html_theme = "furo"
html_title = f"qsdk {release}"
html_copy_source = False
