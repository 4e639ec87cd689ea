"""The page shell: texts stay texts, nothing is fetched, equal content gives equal bytes."""

import json
import re

import pytest

from mmtrain.report.markup import anchors, paragraph, script_json
from mmtrain.report.page import render_page
from mmtrain.report.parts import Cell, Chart, Code, DataTable, Missing, Section
from mmtrain.report.scripts import inline, page_script, script_hash, vega_script

HOSTILE = "</script><script>alert(1)</script> <!-- \"quotes\" 'single' & \u2028 \u202e\u05e9\u05dc\u05d5\u05dd `<b>`"
DRAWING = {"mark": "point", "data": {"name": "rows"}}


def page(text: str = HOSTILE) -> str:
    chart = Chart(title=text, summary=text, columns={text: [1.0, 2.0], "name": [text, text]}, drawing=DRAWING)
    table = DataTable(title=text, header=["id", text], rows=[[text, 1.5], [Cell(text, 2.0), None]], note=text)
    parts = [text, chart, table, Code(text, text), Missing(text, text)]
    return render_page(title=text, provenance=text, sections=[Section(text, parts), Section(text, [])])


def without_scripts(html: str) -> str:
    """The page without its scripts and style sheet, whose content is our own."""
    for script in (vega_script(), page_script()):
        assert html.count(f"<script>{script}</script>") == 1
        html = html.replace(f"<script>{script}</script>", "")
    return re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_hostile_text_stays_text_in_every_part() -> None:
    html = without_scripts(page())
    assert "alert(1)" in html
    assert "<script>" not in html
    assert "<!--" not in html
    assert "<b>" not in html
    assert html.count("<script") == html.count("</script>") == 1  # the data of the chart


def test_data_of_a_chart_comes_back_as_it_was() -> None:
    found = re.search(r'<script type="application/json">(.*?)</script>', page(), re.DOTALL)
    assert found is not None
    assert "\u2028" not in found[1]
    assert json.loads(found[1]) == {"drawing": DRAWING, "columns": {HOSTILE: [1, 2], "name": [HOSTILE, HOSTILE]}}


def test_text_of_either_direction_is_kept_apart_from_what_surrounds_it() -> None:
    assert '<td class="long"><bdi>&lt;/script&gt;' in page()


def test_nothing_is_fetched_and_only_own_scripts_run() -> None:
    html = page("plain")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    allowed = re.search(r"script-src ([^;]*);", policy[1])
    assert allowed is not None
    assert allowed[1] == f"'sha256-{script_hash(vega_script())}' 'sha256-{script_hash(page_script())}'"
    bare = without_scripts(html)
    assert not re.search(r"https?:|//|@import|url\(", bare)
    assert re.findall(r'(?:src|href)="(?!#)([^"]*)"', bare) == ["data:,"]


def test_equal_content_gives_equal_bytes_and_the_size_is_that_of_the_libraries() -> None:
    assert page() == page()
    assert 850_000 < len(page().encode()) < 1_000_000


def test_a_page_without_charts_carries_no_library() -> None:
    html = render_page(title="t", provenance="", sections=[Section("s", [DataTable(title="t", header=["a"], rows=[[1]])])])
    assert len(html.encode()) < 40_000
    assert "vegaEmbed" not in html.replace(page_script(), "")


def test_numbers_in_data_have_six_digits_and_what_is_no_number_is_null() -> None:
    assert script_json([1 / 3, 2.0, 1e-12 / 3, float("nan"), float("inf"), 7, None]) == (
        "[0.333333,2,3.33333e-13,null,null,7,null]"
    )


def test_anchors_are_unique_and_plain() -> None:
    assert anchors(["Loss & more", "Loss, more", "\u05e9", "content"]) == [
        "loss-more",
        "loss-more-2",
        "section",
        "content-2",
    ]


def test_cells_show_numbers_in_their_format_and_sort_by_value() -> None:
    rows = [[12345, 0.123456, Cell("0.5 [0.4, 0.6]", 0.5)], [None, float("nan"), Cell("-", None)]]
    table = DataTable(title="t", header=["n", "p", "v"], rows=rows, formats={"p": ".2f"})
    html = render_page(title="t", provenance="", sections=[Section("s", [table])])
    for cell in (
        '<td class="number" data-value="12345">12,345</td>',
        '<td class="number" data-value="0.123456">0.12</td>',
        '<td class="number" data-value="0.5"><bdi>0.5 [0.4, 0.6]</bdi></td>',
        '<td class="number" data-value="">-</td>',
    ):
        assert cell in html


def test_a_name_turns_no_number_of_a_sentence() -> None:
    assert paragraph("a \u202ename\u2067 0.72 of \u05d0") == "a name 0.72 of \u05d0"


def test_backticks_set_code() -> None:
    assert paragraph("run `a < b` now") == "run <code>a &lt; b</code> now"


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="table 't': a row has 1 cells, the header 2"):
        DataTable(title="t", header=["a", "b"], rows=[[1]])
    with pytest.raises(ValueError, match="chart 'c': its columns differ in length: x 1, y 2"):
        Chart(title="c", summary="s", columns={"x": [1], "y": [1, 2]}, drawing=DRAWING)


@pytest.mark.parametrize("script", ["a = '</SCRIPT>'", "a <!--b"])
def test_a_script_that_ends_its_element_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match="cannot stand inside a page"):
        inline(script)
