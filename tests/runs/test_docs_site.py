"""The site as `make docs` builds it: without a warning, with nothing from a network, and searched from a disk."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[2]
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Documentation built" in done.stderr  # with --quiet warnings are neither shown nor counted
    assert "$(RUN) mkdocs build --strict\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    return folder


def test_no_page_loads_anything_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|link)[^>]+(?:src|href)="([^"]+)"', text)
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == [], page
    assert "fonts.googleapis" not in "".join(file.read_text() for file in site.rglob("*.css"))


def test_generated_pages_hold_signatures_keys_and_help(site: Path) -> None:
    def words(name: str) -> str:
        return re.sub(r"<[^>]+>", "", (site / "reference" / name).read_text(encoding="utf-8"))

    assert "StoreWriter(" in words("python.html")
    assert "add(" in words("python.html")
    assert "temperature" in words("config/curriculum.html")
    assert "--detect-anomaly" in words("commands/mmtrain.html")
    assert "configs/demo.yaml" in words("configs.html")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_it_is_searched_from_a_disk(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.click("input.md-search__input")
        ready = "document.querySelector('.md-search-result__meta').textContent.includes('Type to start searching')"
        page.wait_for_function(ready, timeout=60_000)  # read at the first click; what is asked before is lost
        page.keyboard.type("placeholders", delay=20)
        page.wait_for_selector(".md-search-result__item", state="attached", timeout=60_000)
        found = page.eval_on_selector_all(".md-search-result__link", "links => links.map(link => link.href)")
        browser.close()
    assert any("missing-modalities.html" in link for link in found), found
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
