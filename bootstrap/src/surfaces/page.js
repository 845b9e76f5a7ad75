// Keeps the page true: asks for it again and puts in place what changed. When no answer comes, it says so and since when,
// because an old page that looks new is worse than none.
"use strict";
const EVERY = 2000, PATIENCE = 6000, LOST_AFTER = 5000;
const fresh = document.getElementById("fresh"), lost = document.getElementById("lost");
let answered = Date.now();

function adopt(now) {
  document.title = now.title;
  const icon = (page) => page.querySelector("link[rel=icon]");
  if (icon(document).href !== icon(now).href) icon(document).href = icon(now).href;
  for (const part of now.querySelectorAll("[data-part]")) {
    const here = document.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!here) continue;
    for (const open of here.querySelectorAll("details[open]")) {
      const same = part.querySelector(`#${open.id}`);
      if (same) same.open = true;
    }
    if (here.outerHTML === part.outerHTML) continue;
    // What somebody is copying or reading out stays under the cursor until they are done.
    const chosen = document.getSelection();
    if (chosen && !chosen.isCollapsed && here.contains(chosen.anchorNode)) continue;
    here.replaceWith(document.adoptNode(part));
  }
  dress();
}

function dress() {
  for (const time of document.querySelectorAll("time:not([title])"))
    time.title = new Date(time.dateTime).toLocaleString() + ", your time";
  for (const button of document.querySelectorAll("button[hidden]")) button.hidden = !navigator.clipboard;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  await navigator.clipboard.writeText(button.previousElementSibling.textContent);
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});

async function ask() {
  try {
    const answer = await fetch(location.pathname, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    adopt(new DOMParser().parseFromString(await answer.text(), "text/html"));
    answered = Date.now();
  } catch { /* `tell` says it. */ }
  setTimeout(ask, EVERY);
}

function tell() {
  const seconds = Math.round((Date.now() - answered) / 1000), old = Date.now() - answered > LOST_AFTER;
  document.body.classList.toggle("old", old);
  lost.hidden = !old;
  const at = new Date(answered).toISOString().slice(11, 19);
  if (old) {
    lost.textContent = `No answer from this agent for ${seconds} s. What is below was true at ${at} UTC. Ask another node.`;
    document.title = "? " + document.title.replace(/^\? /, "");
  }
  fresh.textContent = old ? "not live" : "live";
}

dress();
setTimeout(ask, EVERY);
setInterval(tell, 500);
