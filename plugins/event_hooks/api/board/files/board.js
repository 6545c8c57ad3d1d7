// Refreshes the page and applies Airflow's theme. Without JavaScript, the page works but is not refreshed.
"use strict";

const REFRESH_SECONDS = 5;
const REQUEST_TIMEOUT_SECONDS = 20;
const inAirflow = window.parent !== window;

function applyTheme() {
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* without storage, the system's theme applies */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

// Changes the DOM tree `current` into a copy of `updated`, and touches only the differences: focus and scroll
// positions are kept. Children with an id are matched by it, all others by their position.
function morph(current, updated) {
  if (current.nodeType !== updated.nodeType || current.nodeName !== updated.nodeName) return current.replaceWith(updated.cloneNode(true));
  if (current.nodeType === Node.TEXT_NODE) { if (current.data !== updated.data) current.data = updated.data; return; }
  if (current.nodeType !== Node.ELEMENT_NODE || current.hasAttribute("data-no-refresh")) return;
  for (const { name, value } of updated.attributes) if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  for (const { name } of [...current.attributes]) if (!updated.hasAttribute(name)) current.removeAttribute(name);
  morphChildren(current, updated);
}

function morphChildren(current, updated) {
  const childrenById = new Map([...current.children].filter((child) => child.id).map((child) => [child.id, child]));
  let next = current.firstChild;
  for (const child of [...updated.childNodes]) {
    const match = child.id ? childrenById.get(child.id) : null;
    if (match && match !== next) current.insertBefore(match, next);
    else if (!match && (!next || child.id || (next.id && childrenById.has(next.id)))) {
      current.insertBefore(child.cloneNode(true), next);
      continue;
    }
    const target = match ?? next;
    next = target.nextSibling;
    morph(target, child);
  }
  while (next) { const removed = next; next = next.nextSibling; removed.remove(); }
}

async function refresh() {
  const status = document.getElementById("refresh-status");
  try {
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000);
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, signal });
    const updated = new DOMParser().parseFromString(await response.text(), "text/html");
    const content = updated.querySelector("main#content");
    if (response.redirected || !content) throw new Error("your login has expired; reload the page");
    if (!response.ok) throw new Error(content.textContent.trim());
    morph(document.getElementById("content"), content);
    status.textContent = updated.getElementById("refresh-status").textContent;
    status.classList.remove("stale");
  } catch (error) {
    status.textContent = `Not refreshed: ${error.message}`;
    status.classList.add("stale");
  }
}

function refreshPeriodically() {
  const pause = document.getElementById("pause");
  let isPaused = false;
  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", isPaused);
    pause.textContent = isPaused ? "Resume" : "Pause";
    if (!isPaused) refresh();
  });
  const refreshAndSchedule = async () => {
    if (!isPaused && !document.hidden) await refresh();
    setTimeout(refreshAndSchedule, REFRESH_SECONDS * 1000);
  };
  setTimeout(refreshAndSchedule, REFRESH_SECONDS * 1000);
}

// Airflow shows this page in a sandboxed frame without permission to navigate the window, so the parent page
// opens links to Airflow.
function openInParent(click) {
  const link = click.target.closest("a[data-airflow]");
  if (!link || click.ctrlKey || click.metaKey || click.shiftKey) return;
  click.preventDefault();
  const parentLink = window.parent.document.createElement("a");
  parentLink.href = link.href;
  window.parent.document.body.append(parentLink);
  parentLink.click();
  parentLink.remove();
}

// "/" moves to the search field, "j" and "k" to the next and the previous event.
function handleKey(press) {
  if (press.ctrlKey || press.metaKey || press.altKey || press.target.closest("input, select, textarea, dialog")) return;
  const step = { j: 1, k: -1 }[press.key];
  if (press.key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) return;
    press.preventDefault();
    search.focus();
    search.select();
  } else if (step) {
    const links = [...document.querySelectorAll("article.event h3 a")];
    const index = links.indexOf(document.activeElement);
    links[index < 0 ? 0 : Math.min(Math.max(index + step, 0), links.length - 1)]?.focus();
  }
}

applyTheme();
document.documentElement.classList.add("has-script");
addEventListener("storage", applyTheme);
document.addEventListener("DOMContentLoaded", () => {
  refreshPeriodically();
  document.addEventListener("keydown", handleKey);
  if (inAirflow) document.addEventListener("click", openInParent);
});
