"""
Make the pictures of the documentation from the local stack: event board, event, trigger form, graph of a run.

Each picture is made in a light and in a dark version. Events are submitted before: some succeed, one fails,
and one is still running when the pictures are made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from event_hooks.client import EventClient
from tools.airflow_services import CHECKOUT, AirflowServices
from tools.stack import Stack

FOLDER = CHECKOUT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-component-update", "--disable-sync")
SIZE = {"width": 1200, "height": 760}
WAIT_SECONDS = 120

Theme = Literal["light", "dark"]

EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "new_assembly", "genome": "mus_musculus", "practice": {"seconds": 0.2, "parts": 4}},
    {"type": "new_genebuild", "genome": "danio_rerio", "practice": {"seconds": 0.2}},
    {
        "type": "new_assembly",
        "genome": "gallus_gallus",
        "practice": {"fail": "child", "only": "event_dump_dna", "message": "No space left on /nfs/dumps"},
    },
)
RUNNING_EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "practice": {"seconds": 8, "parts": 12}}


def make_screenshots(airflow: AirflowServices) -> Iterator[Path]:
    """Submit events, and yield each picture as soon as it is written."""
    with EventClient(f"{airflow.url}/event-hooks", airflow.log_in()) as client:
        finished = [client.submit(event)["id"] for event in EVENTS]
        for _ in client.follow(finished, interval=0.5, timeout=WAIT_SECONDS):
            pass
        running = client.submit(RUNNING_EVENT)
        failed = client.event(finished[-1])
    time.sleep(12)  # until some of its jobs are done
    FOLDER.mkdir(exist_ok=True)
    pages = {
        "board": "/event-hooks/board",
        "event": f"/event-hooks/board/events/{failed['id']}",
        "graph": f"/dags/process_event/runs/{running['run_id']}",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for theme in ("light", "dark"):
            with _open_page(browser, airflow, theme) as page:
                for name, path in pages.items():
                    page.goto(airflow.url + path)
                    yield _take(page, name, theme)
                _open_trigger_form(page, airflow)
                yield _take(page, "trigger-form", theme)
        browser.close()


@contextmanager
def _open_page(browser: Browser, airflow: AirflowServices, theme: Theme) -> Iterator[Page]:
    """Open a page of a logged-in user with a theme of Airflow."""
    context = browser.new_context(viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
    settings = {"theme": theme, "dag_view-process_event": '"graph"'}
    for name, value in settings.items():
        context.add_init_script(f"localStorage.setItem({name!r}, {value!r})")
    page = context.new_page()
    page.goto(airflow.url)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    yield page
    context.close()


def _open_trigger_form(page: Page, airflow: AirflowServices) -> None:
    page.goto(f"{airflow.url}/dags/process_event")
    page.get_by_role("button", name="Trigger").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def _take(page: Page, name: str, theme: Theme) -> Path:
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)  # until the animations of Airflow's pages have ended
    file = FOLDER / f"{name}-{theme}.png"
    page.screenshot(path=file)
    return file


def main() -> int:
    """Make the pictures; return 1 if the local stack is not running."""
    airflow = Stack(CHECKOUT / ".stack").airflow()
    if not airflow.is_prepared():
        print("Airflow does not run here: make up", file=sys.stderr)
        return 1
    for file in make_screenshots(airflow):
        print(file.relative_to(CHECKOUT), f"{file.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
