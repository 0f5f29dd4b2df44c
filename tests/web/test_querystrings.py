"""Query strings that are written: the reader understands them."""

from __future__ import annotations

from hypothesis import given, strategies as st

from soda_service.geometry.shapes import Circle
from soda_service.web.params import Params
from soda_service.web.querystrings import cutout_query, links_queries, links_query


@given(st.text(min_size=1), st.none() | st.just(Circle(10.5, -2.25, 0.01)), st.none() | st.text())
def test_urls_that_are_made_are_understood(
    identifier: str, circle: Circle | None, detail: str | None
) -> None:
    """What documents link to is what the parser reads."""
    identifier = identifier.encode("utf-8", "replace").decode()
    detail = None if detail is None else detail.encode("utf-8", "replace").decode()
    query = cutout_query(identifier, circle=circle, detail=detail)
    assert query.isascii()
    if identifier.isspace():
        return
    request = Params(query.encode()).cutout().request
    assert request.identifier == identifier
    assert request.shape == circle
    assert request.detail == (None if detail is None or not detail or detail.isspace() else detail)
    assert Params(links_query(identifier).encode()).links().identifiers == (identifier,)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_many_urls_are_those_of_each(identifiers: list[str]) -> None:
    """Line feeds inside an identifier, too."""
    assert links_queries(identifiers) == [links_query(one) for one in identifiers]
