"""Names that mean something in every language that frostline writes, and what tells that they stayed text."""

from __future__ import annotations

from html.parser import HTMLParser

PIECES = (
    '<img src=x onerror="window.pwned=1">',
    "</script ><script>window.pwned=1</script><!--",
    "&lt;b&gt; 'a' \"b\"",
    "| --- |",
    "$\\frac{$ \\(x",
    "``` `code` {raw}`html`",
    "[link](javascript:window.pwned=1) **bold** _it_ ~~no~~",
    "../../x %s {0} {{x}}",
)
NAME = " ".join(PIECES)
"""On one line, as it is shown."""
BROKEN = f"# Big \x1b[31m\u202e\n\n- {NAME}\n=====\n:::{{note}}\r\n"
"""On several lines, with control characters."""


class Read(HTMLParser):
    """Text of a piece of HTML, and everything in it that could run or lead away."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.active, self.tags = "", [], set()
        self._style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._style = tag == "style"
        for name, value in attrs:
            if name.startswith("on") or (name in {"src", "href"} and not (value or "").startswith("data:image/png")):
                self.active.append((tag, name, value))
        if tag in {"script", "iframe", "object", "a", "form", "b", "h1"}:
            self.active.append((tag, "", ""))

    def handle_endtag(self, tag):
        self._style = False

    def handle_comment(self, data):
        self.active.append(("comment", "", data))

    def handle_data(self, data):
        self.text += "" if self._style else f" {data}"

    def shows(self, text: str) -> bool:
        return " ".join(text.split()) in " ".join(self.text.split())
