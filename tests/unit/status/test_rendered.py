from __future__ import annotations

from ollamad.status.rendered import AGE_HEADER, FRESH_S, Rendered


def test_who_asks_within_a_tick_gets_the_same_page_and_its_age() -> None:
    now_s, drawn = [10.0], []

    def draw() -> bytes:
        drawn.append(now_s[0])
        return b"%d" % len(drawn)

    page = Rendered(draw, clock=lambda: now_s[0])
    assert page.now() == (b"1", {AGE_HEADER: "0"})
    now_s[0] += FRESH_S * 0.6
    assert page.now() == (b"1", {AGE_HEADER: "60"})
    now_s[0] += FRESH_S
    assert page.now() == (b"2", {AGE_HEADER: "0"})
    assert len(drawn) == 2
