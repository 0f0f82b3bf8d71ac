"""An HTML page taken apart, for the tests of the report."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page taken apart: tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def pictures(self) -> list[bytes]:
        sources = [str(attrs["src"]) for tag, attrs in self.tags if tag == "img"]
        return [base64.b64decode(s.removeprefix("data:image/jpeg;base64,")) for s in sources]

    def part(self, name: str) -> Page:
        """A section by its id, taken apart."""
        found = re.search(rf'<section id="{name}">.*?</section>', self.html, re.DOTALL)
        assert found is not None, name
        return Page(found[0])

    def rows(self) -> list[list[str]]:
        """Every table row as the text of its cells."""
        rows = re.findall(r"<tr.*?</tr>", self.html, re.DOTALL)
        cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in rows]
        return [[Page(cell).text.strip() for cell in row] for row in cells]
