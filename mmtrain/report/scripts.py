"""What runs and what styles a page: the Vega libraries in one piece, and the page's own script and style sheet."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from mmtrain.report import require_report

SNIPPET = "window.vegaEmbed = vegaEmbed;"


@cache
def vega_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, 0.9 MB, for all charts of a page.

    Errors: ConfigError where the extra `report` is not installed.
    """
    require_report("a page with charts")
    import vl_convert

    return inline(vl_convert.javascript_bundle(SNIPPET))


@cache
def page_script() -> str:
    """The page's own script."""
    return inline(_asset("page.js"))


@cache
def style() -> str:
    """The page's style sheet."""
    return _asset("page.css")


def inline(script: str) -> str:
    """A script that a page can hold. Errors: ValueError where it would end, or hide, the element that it stands in."""
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("a script that holds '</script' or '<!--' cannot stand inside a page")
    return script


def script_hash(script: str) -> str:
    """SHA-256 as a page's policy writes it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("mmtrain.report") / name).read_text(encoding="utf-8")
