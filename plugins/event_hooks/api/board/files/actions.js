// Retries and stops events. The confirmation shows the result of a dry run before anything is changed.
"use strict";

const MAX_ITEMS = 20;
const EFFECTS = {
  failed_jobs: "The failed and stopped jobs run again. A job that was not submitted is submitted.",
  process: "A new job of the process is submitted. The jobs of the earlier one are not changed.",
  event: "A new event with the same payload is submitted.",
  stop: "Jobs that have not started are stopped. Running jobs keep running.",
};
const DONE = { retry: "retried", stop: "stopped" };

const dialog = document.getElementById("confirmation");
const part = (name) => document.getElementById(`confirmation-${name}`);
const confirmButton = document.getElementById("confirm");
const selected = new Set();
let request = null;

// Applies the selection to the page: a refresh may have moved an event to another section.
function showSelection() {
  const boxes = [...document.querySelectorAll("[data-select]")];
  for (const box of boxes) box.checked = selected.has(box.value);
  const shown = new Set(boxes.map((box) => box.value));
  for (const id of selected) if (!shown.has(id)) selected.delete(id);
  document.getElementById("selection").hidden = selected.size === 0;
  document.getElementById("selection-count").textContent = `${selected.size} selected`;
}

async function send({ action, body }, isDryRun) {
  const response = await fetch(`${document.body.dataset.root}/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ ...body, dry_run: isDryRun }),
  });
  const result = await response.json();
  if (!response.ok) throw new Error(result.detail);
  return result;
}

function describeItem(item) {
  const process = item.process ? ` ${item.process}` : "";
  const text = `event ${item.event} (${item.genome ?? item.type})${process}: ${item.state}`;
  return item.reason ? `${text}; ${item.reason}` : text;
}

function showItems(items) {
  const shown = items.slice(0, MAX_ITEMS).map(describeItem);
  if (items.length > MAX_ITEMS) shown.push(`… and ${items.length - MAX_ITEMS} more`);
  part("items").replaceChildren(...shown.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function showMessage(text) {
  part("message").textContent = text;
}

async function openConfirmation(button) {
  const { action, event, process, mode } = button.dataset;
  const ids = event ? [Number(event)] : [...selected].map(Number);
  const body = { ids, ...(process && { process }), ...(action === "retry" && { mode: mode ?? "failed_jobs" }) };
  request = { action, body };
  part("title").textContent = button.textContent;
  part("effect").textContent = EFFECTS[action === "stop" ? "stop" : body.mode];
  showItems([]);
  showMessage("Loading…");
  confirmButton.hidden = true;
  dialog.showModal();
  try {
    const result = await send(request, true);
    const applied = result.items.filter((item) => item.is_applied);
    showItems(applied.length ? applied : result.items);
    const others = result.items.length - applied.length;
    showMessage(!applied.length ? `Nothing can be ${DONE[action]}.` : others ? `${others} others stay as they are.` : "");
    confirmButton.textContent = button.textContent;
    confirmButton.hidden = !applied.length;
    if (applied.length) confirmButton.focus();
  } catch (error) {
    showMessage(error.message);
  }
}

async function confirmRequest() {
  confirmButton.disabled = true;
  try {
    const result = await send(request, false);
    const applied = result.items.filter((item) => item.is_applied);
    const created = applied.map((item) => item.new_event).filter(Boolean);
    const text = `${applied.length} ${DONE[request.action]}${created.length ? ` as event ${created.join(", ")}` : ""}.`;
    showItems(result.items.filter((item) => !item.is_applied));
    showMessage([text, ...result.problems].join(" "));
    confirmButton.hidden = true;
    clearSelection();
    await refresh();
  } catch (error) {
    showMessage(error.message);
  } finally {
    confirmButton.disabled = false;
  }
}

function clearSelection() {
  selected.clear();
  showSelection();
}

document.addEventListener("click", (click) => {
  const button = click.target.closest("button[data-action]");
  if (button) openConfirmation(button);
});
document.addEventListener("change", (change) => {
  if (!change.target.matches("[data-select]")) return;
  selected[change.target.checked ? "add" : "delete"](change.target.value);
  showSelection();
});
new MutationObserver(showSelection).observe(document.getElementById("content"), { childList: true, subtree: true });
confirmButton.addEventListener("click", confirmRequest);
document.getElementById("clear-selection").addEventListener("click", clearSelection);
showSelection();
