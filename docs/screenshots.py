"""Take the pictures of the FiftyOne App in docs/images from a real workspace.

    python docs/screenshots.py WORKSPACE [FOLDER]

Needs chromium, chromedriver and selenium (the ``dev`` extra). Serves the workspace as
``mild-bench curate review --app`` does, drives the App in a headless browser, and ends it.
"""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mild_bench.store import write_bytes

WINDOW = (1240, 900)
PATIENCE = 180.0
SCENE = 1  # which one of the grid to open
COLOURS = 256  # a palette keeps each picture under 400 KB


def main() -> None:
    """Take ``app.png`` (the scenes of a workspace) and ``app-scene.png`` (one of them)."""
    workspace = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "images"
    with _app(workspace) as address, _browser() as browser:
        browser.get(address)
        _wait_for_scenes(browser)
        _save(browser, folder / "app.png")
        _open_scene(browser, SCENE)
        _save(browser, folder / "app-scene.png")


@contextlib.contextmanager
def _app(workspace: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start = "from mild_bench.cli import main; main()"
    command = [sys.executable, "-c", start, "curate", "review", str(workspace), "--app"]
    with subprocess.Popen([*command, "--port", port], stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        try:
            for line in app.stdout:
                if line.startswith("App: "):
                    break
            else:
                raise SystemExit("the App did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            app.send_signal(signal.SIGINT)


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.add_argument("--headless=new")
    options.add_argument("--no-sandbox")
    options.add_argument("--disable-gpu")
    options.add_argument("--hide-scrollbars")
    options.add_argument("--window-size={},{}".format(*WINDOW))
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    browser.set_script_timeout(PATIENCE)
    try:
        yield browser
    finally:
        browser.quit()


def _wait_for_scenes(browser: Any) -> None:
    from selenium.webdriver.common.by import By

    _until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "canvas")) > 0)
    for button in browser.find_elements(By.XPATH, "//button[text()='Dismiss']"):
        browser.execute_script("arguments[0].click()", button)
    _settle(browser)


def _open_scene(browser: Any, number: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    tiles = browser.find_elements(By.CSS_SELECTOR, "canvas")
    tiles.sort(key=lambda tile: (tile.location["y"], tile.location["x"]))
    ActionChains(browser).move_to_element(tiles[number]).click().perform()
    named = "//*[@data-cy='modal']//*[text()='keypoints']"
    boxes = f"{named}/ancestor::*[.//input[@type='checkbox']][1]//input"
    _until(lambda: len(browser.find_elements(By.XPATH, boxes)) > 0)
    browser.execute_script("arguments[0].click()", browser.find_elements(By.XPATH, boxes)[0])
    _settle(browser)


def _settle(browser: Any) -> None:
    """Wait until two pictures of the window in a row are equal: all has loaded."""
    last = b""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(5)
        now = browser.get_screenshot_as_png()
        if now == last:
            return
        last = now


def _until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the App shows nothing")
        time.sleep(0.5)


def _save(browser: Any, path: Path) -> None:
    shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    buffer = io.BytesIO()
    shot.quantize(COLOURS, kmeans=2).save(buffer, format="PNG", optimize=True)
    write_bytes(path, buffer.getvalue())
    print(f"{path}: {path.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
