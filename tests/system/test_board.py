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
from tests.support.system import WAIT_SECONDS, System
from tools.airflow_services import CHECKOUT
from tools.runs import DAG_PATH

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
SIZES = {"desktop": (1400, 900), "tablet": (768, 1024), "phone": (360, 780)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window; closed after this module, because its event loop breaks async tests."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=1000 * WAIT_SECONDS)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def login(browser: Browser, system: System) -> Any:
    """The state of a browser after a login on Airflow's page."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{system.airflow.url}/event-hooks/board?genome=before_login")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(system.airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/event-hooks/board?genome=before_login")
    return context.storage_state()


@pytest.fixture
def page(browser: Browser, login: Any) -> Iterator[Page]:
    """A page of a logged-in user; a test fails for each error in the page's console."""
    context = browser.new_context(storage_state=login, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def board_url(system: System, query: str = "") -> str:
    """Return the URL of the board."""
    return f"{system.airflow.url}/event-hooks/board{query}"


def post_event(system: System, genome: str, event_type: str = "new_assembly", **practice: Any) -> int:
    """Post an event, and return its id."""
    event = {"type": event_type, "genome": genome, "practice": practice}
    answer = system.api("POST", "/jobs", json=event)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


@pytest.fixture(scope="module")
def idle(system: System) -> tuple[int, str]:
    """An event with a job that is not picked up: its id and genome."""
    genome = f"genome_{uuid4().hex[:12]}"
    return post_event(system, genome, "idle"), genome


def list_done_lengths(page: Page) -> list[float]:
    """Return the lengths of the finished parts of the visible bars."""
    segments = page.locator("#latest .bar .done").all()
    return [float((segment.get_attribute("width") or "0").rstrip("%")) for segment in segments]


def test_an_event_appears_and_its_bar_moves_without_a_reload(system: System, page: Page, genome: str) -> None:
    page.goto(board_url(system, f"?genome={genome}"))
    expect(page.get_by_text("No events match the filter.")).to_be_visible()
    row = page.locator(f"#event-{post_event(system, genome, 'new_genebuild', seconds=5)}")
    expect(row).to_be_visible()
    lengths = set()
    deadline = time.monotonic() + WAIT_SECONDS
    while row.locator(".badge").inner_text() != "complete" and time.monotonic() < deadline:
        lengths.update(list_done_lengths(page))
        page.wait_for_timeout(200)
    assert {length for length in lengths if 0 < length < 100}
    expect(row.locator(".badge")).to_have_text("complete")
    assert list_done_lengths(page) == [100]


def test_a_failure_is_shown_first_with_its_message(system: System, page: Page, genome: str) -> None:
    page.goto(board_url(system))
    event_id = post_event(system, genome, fail="child", only="event_dump_dna", message="the disk is full")
    failed = page.locator(f"#attention #event-{event_id}")
    expect(failed.locator(".error")).to_contain_text("the disk is full")
    failed.get_by_role("link", name=genome).click()
    page.wait_for_url(f"**/board/events/{event_id}")
    expect(page.locator("[data-process=dump_dna] pre.error")).to_contain_text("PracticePart.pm")
    expect(page.locator("[data-process=dump_dna] .steps .failed.reached")).to_be_visible()
    reported = page.locator("[data-process=dump_dna] .steps .reported.reached")
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
    path = f"{DAG_PATH}/dagRuns/{run_id}/taskInstances"
    expected = f"{system.airflow.url}/event-hooks/board?run={run_id}"

    def is_linked(task: str) -> bool:
        links = system.runs.request("GET", f"{path}/dump_idle.{task}/links").json()
        return bool(links.get("extra_links") == {"Event board": expected, "guiHIVE": GUIHIVE})

    system.runs.wait_until(
        lambda: is_linked("submit") and is_linked("wait"), WAIT_SECONDS, lambda: "no links"
    )
    assert system.runs.load_task_states(run_id)["dump_idle.wait"] == "deferred"
    page.goto(expected)
    expect(page.locator(f"#event-{event_id}")).to_be_visible()


def test_the_documentation_of_the_api_can_be_read(system: System, page: Page) -> None:
    document = system.api("GET", "/openapi.json").json()
    page.goto(f"{system.airflow.url}/event-hooks/apidocs")
    expect(page.locator(".opblock")).to_have_count(sum(map(len, document["paths"].values())))


def test_a_failed_process_is_retried_after_a_confirmation(system: System, page: Page, genome: str) -> None:
    event_id = post_event(system, genome, "new_genebuild", fail_until_reset="child")
    page.goto(board_url(system, f"/events/{event_id}"))
    card = page.locator("[data-process=dump_peptide]")
    expect(card.locator(".card-header.failed")).to_be_visible()
    card.get_by_role("button", name="Retry failed jobs").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"event {event_id} ({genome}) dump_peptide: failed")
    dialog.get_by_role("button", name="Retry failed jobs").click()
    expect(dialog).to_contain_text("1 retried.")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#summary .badge")).to_have_text("complete")
    expect(card.get_by_role("button", name="Run again as a new job")).to_be_visible()
    expect(card.get_by_role("button", name="Retry failed jobs")).to_have_count(0)


def test_closing_the_confirmation_changes_nothing(system: System, page: Page, idle: tuple[int, str]) -> None:
    event_id, _ = idle
    page.goto(board_url(system, f"/events/{event_id}"))
    page.locator("#event-actions").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"event {event_id}")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    processes = system.api("GET", f"/events/{event_id}").json()["processes"]
    assert not any(process["stop_requested_at"] for process in processes)


def test_selected_events_are_stopped_together_in_the_frame_of_airflow(
    system: System, page: Page, genome: str
) -> None:
    ids = [post_event(system, genome, "idle") for _ in range(3)]
    page.goto(system.airflow.url)
    page.get_by_role("link", name="Events").click()
    frame = page.frame_locator("iframe[title='Events']")
    for event_id in ids[:2]:
        frame.get_by_label(f"Select event {event_id}", exact=True).check()
    page.wait_for_timeout(6000)  # longer than the time between two refreshes, which keep the selection
    expect(frame.locator("#selection-count")).to_have_text("2 selected")
    frame.locator("#selection").get_by_role("button", name="Stop").click()
    dialog = frame.get_by_role("dialog")
    expect(dialog.locator("li")).to_have_count(2)
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog).to_contain_text("2 stopped.")
    dialog.get_by_role("button", name="Close").click()
    state = lambda event_id: system.api("GET", f"/events/{event_id}").json()["state"]  # noqa: E731
    system.wait(lambda: [state(event_id) for event_id in ids] == ["failed", "failed", "waiting"])


def test_a_request_to_retry_from_another_site_is_rejected(
    system: System, browser: Browser, login: Any, idle: tuple[int, str]
) -> None:
    """The browser sends the cookie of the login with it."""
    context = browser.new_context(storage_state=login)
    response = context.request.post(
        f"{system.airflow.url}/event-hooks/stop",
        data={"ids": [idle[0]]},
        headers={"Origin": "https://example.org", "Sec-Fetch-Site": "cross-site"},
    )
    assert response.status == 403
    context.close()


def test_a_viewer_sees_no_actions(system: System, browser: Browser, idle: tuple[int, str]) -> None:
    context = browser.new_context(
        extra_http_headers={"Authorization": f"Bearer {system.airflow.log_in('viewer')}"}
    )
    page = context.new_page()
    page.goto(board_url(system, f"/events/{idle[0]}"))
    expect(page.locator("#summary .badge")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    context.close()


def test_the_keyboard_moves_between_events(system: System, page: Page, genome: str) -> None:
    ids = [post_event(system, genome, "idle") for _ in range(2)][::-1]
    page.goto(board_url(system, f"?genome={genome}"))
    expect(page.locator(f"#event-{ids[1]}")).to_be_visible()
    focused = "document.activeElement.getAttribute('href')"
    hrefs = []
    for key in ("j", "j", "j", "k"):
        page.keyboard.press(key)
        hrefs.append(page.evaluate(focused).rpartition("/")[2])
    assert hrefs == [str(event_id) for event_id in (ids[0], ids[1], ids[1], ids[0])]
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "genome"


def test_all_controls_are_reachable_by_keyboard(system: System, page: Page, idle: tuple[int, str]) -> None:
    event_id, genome = idle
    page.goto(board_url(system, f"?genome={genome}"))
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached[-1]
        if reached[-1] == genome:
            break
    assert {"Skip to content", "Pause", "genome", "Show", genome} <= set(reached)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/board/events/{event_id}")


def test_the_page_shows_that_it_is_not_refreshed(system: System, browser: Browser, login: Any) -> None:
    context = browser.new_context(storage_state=login)
    page = context.new_page()
    page.goto(board_url(system))
    context.set_offline(True)
    expect(page.locator("#refresh-status.stale")).to_contain_text("Not refreshed")
    context.set_offline(False)
    expect(page.locator("#refresh-status:not(.stale)")).to_contain_text("UTC")
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_the_window_and_have_enough_contrast(
    system: System, browser: Browser, login: Any, idle: tuple[int, str], size: str, theme: Any
) -> None:
    event_id, _ = idle
    long_id = post_event(system, f"{uuid4().hex}{'g' * 168}", "new_genebuild", message="m" * 200)
    width, height = SIZES[size]
    context = browser.new_context(
        storage_state=login, viewport={"width": width, "height": height}, color_scheme=theme
    )
    page = context.new_page()
    SCREENSHOTS.mkdir(exist_ok=True)
    addresses = {
        "board": board_url(system),
        "event": board_url(system, f"/events/{event_id}"),
        "long_event": board_url(system, f"/events/{long_id}"),
    }
    for name, address in addresses.items():
        page.goto(address)
        page.screenshot(path=SCREENSHOTS / f"{name}_{size}_{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for selector in ("main p", "main a", ".badge", ".muted", "h2"):
            assert lowest_contrast(page, selector) >= 4.5, (name, selector)
    context.close()


def test_the_theme_of_airflow_overrides_the_theme_of_the_system(
    system: System, browser: Browser, login: Any
) -> None:
    context = browser.new_context(storage_state=login, color_scheme="light")
    page = context.new_page()
    page.goto(board_url(system))
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate(background) != light
    context.close()


def lowest_contrast(page: Page, selector: str) -> float:
    """Return the lowest contrast of matching texts with their background, by the formula of WCAG 2.1."""
    return float(page.evaluate(_CONTRAST, selector))


_CONTRAST = """selector => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (numbers(color).length < 4 || numbers(color)[3] > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const contrasts = [...document.querySelectorAll(selector)].map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(background(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
  return Math.min(21, ...contrasts);
}"""
