from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.status.rendered import AGE_HEADER, SHARE, Rendered


class Page:
    """A page that takes its time, and a clock."""

    def __init__(self, took_s: float) -> None:
        self.now_s = 10.0
        self.took_s = took_s
        self.drawn = 0
        self.rendered = Rendered(self.draw, clock=lambda: self.now_s)

    def draw(self) -> bytes:
        self.now_s += self.took_s
        self.drawn += 1
        return b"%d" % self.drawn


def test_who_asks_soon_after_gets_the_same_page_and_its_age() -> None:
    page = Page(took_s=0.002)
    assert page.rendered.now() == (b"1", {AGE_HEADER: "0"})
    page.now_s += 0.090
    assert page.rendered.now() == (b"1", {AGE_HEADER: "92"})
    page.now_s += 0.011
    assert page.rendered.now() == (b"2", {AGE_HEADER: "0"})


@given(st.floats(0.0001, 0.1), st.lists(st.floats(0.0, 0.01), min_size=20, max_size=500))
def test_however_many_ask_drawing_takes_no_more_than_its_share(took_s: float, gaps_s: list[float]) -> None:
    page = Page(took_s)
    began_s = page.now_s
    for gap_s in gaps_s:
        page.rendered.now()
        page.now_s += gap_s
    spent_s, passed_s = page.drawn * took_s, page.now_s - began_s
    assert spent_s <= SHARE * passed_s + took_s + 1e-9
