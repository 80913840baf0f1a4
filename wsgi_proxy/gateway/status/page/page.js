// Keeps a page as new as the server is: fetches it again, and changes in place what is different, so that focus,
// scrolling and what is unfolded stay as they are. Without this script a reload does the same.
"use strict";

const PERIOD = 2000; // milliseconds between the end of one look and the next
const PATIENCE = 8000;

const says = document.getElementById("pulse");
const pause = document.getElementById("pause");
let paused = false;
let timer = 0;
let lookedAt = new Date();

function say(kind, text) {
  says.className = kind;
  if (says.textContent !== text) says.textContent = text; // or a screen reader would say it again
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.id ? node.id : null;
}

// Make an element like another one of the same name.
function become(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = keyOf(next);
    while (place && keyOf(place) && !wanted.has(keyOf(place))) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
    let match = null;
    if (key) match = known.get(key) ?? null;
    else if (place && !keyOf(place) && place.nodeType === next.nodeType && place.nodeName === next.nodeName) match = place;
    if (!match) {
      old.insertBefore(document.importNode(next, true), place);
    } else {
      if (match === place) place = place.nextSibling;
      else old.insertBefore(match, place);
      if (match.nodeType === Node.ELEMENT_NODE) become(match, next);
      else if (match.data !== next.data) match.data = next.data;
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

function refresh(page) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(part.id);
    if (fresh) become(part, fresh);
  }
}

// Return the page as it is now, or null if the server gives none.
async function fetched() {
  try {
    const answer = await fetch(location.href.split("#")[0], { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    return answer.ok ? await answer.text() : null;
  } catch {
    return null;
  }
}

async function look() {
  const text = await fetched();
  if (text === null) {
    say("lost", `The server does not answer; this is from ${lookedAt.toLocaleTimeString()}`);
    return true;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  refresh(page);
  lookedAt = new Date();
  if (!paused && !document.hidden) say("live", "Live");
  return page.body.hasAttribute("data-live");
}

async function round() {
  timer = 0;
  const began = performance.now();
  const goesOn = await look();
  const took = performance.now() - began;
  if (!goesOn) {
    say("", "Ended");
    pause.hidden = true;
  } else if (!paused && !document.hidden) {
    timer = setTimeout(round, Math.max(PERIOD, 5 * took)); // a page that is much work is asked for less often
  }
}

function begin() {
  if (!timer && !paused && !document.hidden) timer = setTimeout(round, 0);
}

function stop(text) {
  clearTimeout(timer);
  timer = 0;
  say("", text);
}

if (document.body.hasAttribute("data-live")) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (paused) stop("Paused");
    else begin();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop(paused ? "Paused" : "Paused while this tab is hidden");
    else begin();
  });
  say("live", "Live");
  timer = document.hidden ? 0 : setTimeout(round, PERIOD);
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const name = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // where the browser gives no clipboard
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = name), 2000);
  });
}
