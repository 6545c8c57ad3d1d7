"""The event board in a real browser, inside a running Airflow."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.lookups import GUIHIVE
from tests.support.system import LIMIT, System
from tools.airflow_services import CHECKOUT
from tools.runs import DAG

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = CHECKOUT / ".stack" / "screenshots"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window; of this module alone, since its loop stands in the way of async tests."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=1000 * LIMIT)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def login(browser: Browser, system: System) -> Any:
    """What a browser keeps of a login, which is made on Airflow's page as anybody does."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{system.airflow.url}/event-hooks/board?genome=asked_for_before")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(system.airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/event-hooks/board?genome=asked_for_before")
    return context.storage_state()


@pytest.fixture
def page(browser: Browser, login: Any) -> Iterator[Page]:
    """A page of who is logged in; fails for whatever its console calls an error."""
    context = browser.new_context(storage_state=login, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def board(system: System, query: str = "") -> str:
    """Give the address of the board."""
    return f"{system.airflow.url}/event-hooks/board{query}"


def post(system: System, genome: str, event_type: str = "new_assembly", **practice: Any) -> int:
    """Send an event, and give its id."""
    event = {"type": event_type, "genome": genome, "practice": practice}
    answer = system.api("POST", "/jobs", json=event)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


@pytest.fixture(scope="module")
def idle(system: System) -> tuple[int, str]:
    """An event with a job that is not picked up: its id and genome."""
    genome = f"genome_{uuid4().hex[:12]}"
    return post(system, genome, "idle"), genome


def done(page: Page) -> list[float]:
    """Give the lengths of what is done in the bars that are shown."""
    pieces = page.locator("#latest .strip .done").all()
    return [float((piece.get_attribute("width") or "0").rstrip("%")) for piece in pieces]


def test_an_event_appears_and_its_bar_moves_without_a_reload(system: System, page: Page, genome: str) -> None:
    page.goto(board(system, f"?genome={genome}"))
    expect(page.get_by_text("No event is like that.")).to_be_visible()
    row = page.locator(f"#event-{post(system, genome, 'new_genebuild', seconds=5)}")
    expect(row).to_be_visible()
    seen = set()
    limit = time.monotonic() + LIMIT
    while row.locator(".badge").inner_text() != "complete" and time.monotonic() < limit:
        seen.update(done(page))
        page.wait_for_timeout(200)
    assert {length for length in seen if 0 < length < 100}
    expect(row.locator(".badge")).to_have_text("complete")
    assert done(page) == [100]


def test_a_failure_is_shown_first_with_its_message(system: System, page: Page, genome: str) -> None:
    page.goto(board(system))
    event_id = post(system, genome, fail="child", only="event_dump_dna", message="the disk is full")
    failed = page.locator(f"#attention #urgent-{event_id}")
    expect(failed.locator(".error")).to_contain_text("the disk is full")
    failed.get_by_role("link", name=genome).click()
    page.wait_for_url(f"**/board/events/{event_id}")
    expect(page.locator("[data-process=dump_dna] pre.error")).to_contain_text("PracticePart.pm")
    expect(page.locator("[data-process=dump_dna] .marks .failed.come")).to_be_visible()
    reported = page.locator("[data-process=dump_dna] .marks .reported.come")
    expect(reported).to_be_visible()


def test_the_board_is_a_page_of_airflow_and_links_to_the_run(
    system: System, page: Page, idle: tuple[int, str]
) -> None:
    event_id, _ = idle
    page.goto(system.airflow.url)
    page.get_by_role("link", name="Events").click()
    frame = page.frame_locator("iframe[title='Events']")
    expect(frame.locator(f"#event-{event_id}")).to_be_visible()
    run = frame.locator(f"#event-{event_id}").get_by_role("link", name="Run")
    run.click()
    page.wait_for_url(re.compile(r"/dags/process_event/runs/api__[^/]*$"))
    expect(page.get_by_text("process_event").first).to_be_visible()


def test_waiting_tasks_link_to_the_board(system: System, page: Page, idle: tuple[int, str]) -> None:
    event_id, _ = idle
    run_id = system.api("GET", f"/events/{event_id}").json()["run_id"]
    path = f"{DAG}/dagRuns/{run_id}/taskInstances"
    expected = f"{system.airflow.url}/event-hooks/board?run={run_id}"

    def is_linked(task: str) -> bool:
        found = system.runs.ask("GET", f"{path}/dump_idle.{task}/links").json()
        return bool(found.get("extra_links") == {"Event board": expected, "guiHIVE": GUIHIVE})

    system.runs.until(lambda: is_linked("submit") and is_linked("wait"), LIMIT, lambda: "no links")
    assert system.runs.task_states(run_id)["dump_idle.wait"] == "deferred"
    page.goto(expected)
    expect(page.locator(f"#event-{event_id}")).to_be_visible()


def test_the_documentation_of_the_api_can_be_read(system: System, page: Page) -> None:
    document = system.api("GET", "/openapi.json").json()
    page.goto(f"{system.airflow.url}/event-hooks/apidocs")
    expect(page.locator(".opblock")).to_have_count(sum(map(len, document["paths"].values())))


def test_everything_can_be_reached_by_keyboard(system: System, page: Page, idle: tuple[int, str]) -> None:
    event_id, genome = idle
    page.goto(board(system, f"?genome={genome}"))
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached[-1]
        if reached[-1] == genome:
            break
    assert {"To the content", "Pause", "genome", "Show", genome} <= set(reached)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/board/events/{event_id}")


def test_the_page_says_when_it_is_not_refreshed(system: System, browser: Browser, login: Any) -> None:
    context = browser.new_context(storage_state=login)
    page = context.new_page()
    page.goto(board(system))
    context.set_offline(True)
    expect(page.locator("#freshness.stale")).to_contain_text("Not refreshed")
    context.set_offline(False)
    expect(page.locator("#freshness:not(.stale)")).to_contain_text("UTC")
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_the_window_and_have_enough_contrast(
    system: System, browser: Browser, login: Any, idle: tuple[int, str], size: str, theme: Any
) -> None:
    event_id, _ = idle
    width, height = SIZES[size]
    context = browser.new_context(
        storage_state=login, viewport={"width": width, "height": height}, color_scheme=theme
    )
    page = context.new_page()
    SCREENSHOTS.mkdir(exist_ok=True)
    for name, address in (("board", board(system)), ("event", board(system, f"/events/{event_id}"))):
        page.goto(address)
        page.screenshot(path=SCREENSHOTS / f"{name}_{size}_{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for selector in ("main p", "main a", ".badge", ".quiet", "h2"):
            assert contrast(page, selector) >= 4.5, (name, selector)
    context.close()


def test_the_theme_of_airflow_overrides_the_systems(system: System, browser: Browser, login: Any) -> None:
    context = browser.new_context(storage_state=login, color_scheme="light")
    page = context.new_page()
    page.goto(board(system))
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate(paper) != light
    context.close()


def contrast(page: Page, selector: str) -> float:
    """Give the least contrast of text like this with what is behind it. Source of the formula: WCAG 2.1."""
    return float(page.evaluate(_CONTRAST, selector))


_CONTRAST = """selector => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (numbers(color).length < 4 || numbers(color)[3] > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [...document.querySelectorAll(selector)].map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
  return Math.min(21, ...found);
}"""
