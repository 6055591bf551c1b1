"""Takes the pictures of the README from the output of `make demo`: the report, and the server's page.

    make demo && .venv/bin/python docs/pictures.py

Needs Chromium on the path. Writes `docs/assets/{report,page}-{light,dark}.png`.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import Browser, find_browser

ASSETS = ROOT / "docs" / "assets"
VIDEO = ROOT / "examples" / "archive" / "Gaming" / "pyxel" / "megaball-00.mkv"
PORT = 5123
SIZE = (1100, 820)
"""Width and height of each picture in pixels."""


def wait_until_ready(timeout_s: float = 120) -> None:
    """Wait until the server has loaded its model. Raises TimeoutError after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz"):
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError(f"the server is not ready after {timeout_s:.0f} s")


def save(browser: Browser, name: str) -> None:
    """Write what the browser shows as `docs/assets/NAME.png`."""
    (ASSETS / f"{name}.png").write_bytes(base64.b64decode(browser.call("Page.captureScreenshot")["data"]))


def main() -> None:
    """Take all pictures."""
    executable = find_browser()
    if executable is None:
        sys.exit("pictures.py: error: Chromium must be on the path")
    ASSETS.mkdir(exist_ok=True)
    serve = [
        sys.executable,
        "jobs/serve.py",
        "--ensemble",
        "demo/ensemble",
        "--port",
        str(PORT),
        "--accept-uncertified",
    ]
    server = subprocess.Popen(serve, cwd=ROOT)
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(executable, Path(folder))
        try:
            wait_until_ready()
            for scheme in ("light", "dark"):
                browser.size(*SIZE, is_phone=False, scheme=scheme)
                browser.open((ROOT / "demo" / "report" / "index.html").as_uri())
                save(browser, f"report-{scheme}")
                browser.open(f"http://127.0.0.1:{PORT}/")
                browser.wait_for("!document.getElementById('file').disabled")
                browser.choose_file("#file", VIDEO)
                browser.wait_for("document.querySelector('#verdict')?.offsetParent != null", timeout_s=120)
                time.sleep(1)  # the bars of the page are animated
                save(browser, f"page-{scheme}")
        finally:
            browser.close()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
