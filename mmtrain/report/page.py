"""The page made of its parts: one HTML file that opens anywhere and asks no network for anything."""

from collections.abc import Sequence
from html import escape

from mmtrain.report.markup import anchors, paragraph, section_html
from mmtrain.report.parts import Chart, Section
from mmtrain.report.scripts import page_script, script_hash, style, vega_script

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1><bdi>{title}</bdi></h1>{provenance}</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<noscript><p class="missing">Charts, sorting and searching need JavaScript.</p></noscript>
<main id="content" tabindex="-1">
"""


def render_page(*, title: str, provenance: str, sections: Sequence[Section]) -> str:
    """The whole page; `provenance` is the line below its title. Equal content gives equal bytes; texts may hold anything.

    Only the page's own scripts run, known by their hashes, and nothing is fetched: the page's policy forbids the rest.
    Errors: ConfigError where a page with charts needs a library that is not installed.
    """
    names = anchors([section.title for section in sections])
    has_charts = any(isinstance(part, Chart) for section in sections for part in section.parts)
    scripts = [*([vega_script()] if has_charts else []), page_script()]
    head = _HEAD.format(
        policy=_policy(scripts),
        title=escape(title),
        style=style(),
        provenance=f'<p class="provenance">{paragraph(provenance)}</p>' if provenance else "",
        links="".join(
            f'<li><a href="#{name}">{escape(part.title)}</a></li>' for name, part in zip(names, sections, strict=True)
        ),
    )
    body = "".join(section_html(section, name) for section, name in zip(sections, names, strict=True))
    inline = "".join(f"<script>{script}</script>\n" for script in scripts)
    return f"{head}{body}</main>\n{inline}</body>\n</html>\n"


def _policy(scripts: Sequence[str]) -> str:
    allowed = " ".join(f"'sha256-{script_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
