"""What the tests of reports share."""

from html.parser import HTMLParser

import pytest


class Links(HTMLParser):
    """Collects every address that a browser would load, and the tags left open.

    Args:
        page: HTML.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "hr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def read_links():
    """Return what reads a page as a browser would."""
    return Links
