// Keeps the page fresh and in Airflow's theme; without it, the page works as it was sent.
"use strict";

const SECONDS = 5;
const inAirflow = window.parent !== window;

function showTheme() {
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* no storage: the system's theme will do */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

// Makes one tree of elements like another, and touches only what differs: focus and scroll places stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh.cloneNode(true));
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  if (old.nodeType !== Node.ELEMENT_NODE || old.hasAttribute("data-keep")) return;
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const mine = child.id ? known.get(child.id) : null;
    if (mine && mine !== place) old.insertBefore(mine, place);
    else if (!mine && (!place || child.id || (place.id && known.has(place.id)))) {
      old.insertBefore(child.cloneNode(true), place);
      continue;
    }
    const same = mine ?? place;
    place = same.nextSibling;
    morph(same, child);
  }
  while (place) { const gone = place; place = place.nextSibling; gone.remove(); }
}

async function refresh() {
  const told = document.getElementById("freshness");
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(20000) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const content = fresh.querySelector("main#content");
    if (answer.redirected || !content) throw new Error("you are no longer logged in: load the page again");
    if (!answer.ok) throw new Error(content.textContent.trim());
    morph(document.getElementById("content"), content);
    told.textContent = fresh.getElementById("freshness").textContent;
    told.classList.remove("stale");
  } catch (error) {
    told.textContent = `Not refreshed: ${error.message}`;
    told.classList.add("stale");
  }
}

function keepFresh() {
  const pause = document.getElementById("pause");
  let isPaused = false;
  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", isPaused);
    pause.textContent = isPaused ? "Go on" : "Pause";
    if (!isPaused) refresh();
  });
  const again = async () => {
    if (!isPaused && !document.hidden) await refresh();
    setTimeout(again, SECONDS * 1000);
  };
  setTimeout(again, SECONDS * 1000);
}

// Airflow shows this page in a frame that may not leave itself: let the page around it go there.
function leaveFrame(click) {
  const link = click.target.closest("a[data-airflow]");
  if (!link || click.ctrlKey || click.metaKey || click.shiftKey) return;
  click.preventDefault();
  const outside = window.parent.document.createElement("a");
  outside.href = link.href;
  window.parent.document.body.append(outside);
  outside.click();
  outside.remove();
}

showTheme();
addEventListener("storage", showTheme);
document.addEventListener("DOMContentLoaded", () => {
  keepFresh();
  if (inAirflow) document.addEventListener("click", leaveFrame);
});
