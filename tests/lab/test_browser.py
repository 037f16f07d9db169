"""The private Chromium really renders a page, from wherever its folder is."""

import subprocess
from pathlib import Path

import pytest

from lab.browser import fetched_chromium


@pytest.mark.timeout(300)  # may have to fetch
def test_page_is_rendered(tmp_path: Path) -> None:
    program = fetched_chromium()
    page = tmp_path / "page.html"
    page.write_text(
        "<meta charset=utf-8><p id=a></p><script>a.textContent = '振铃 ' + document.fonts.status</script>"
    )
    done = subprocess.run(
        [program, "--dump-dom", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "振铃 loaded" in done.stdout, done.stderr
