/** The gateway's own page: who is signed in, and which of its views is shown. A view gives {title, nodes, end}. */

import { DIALOG_SHEET, Gateway, el, STATE_SHEET } from "./jobgate-jobs.js";
import { hostsView } from "./hosts.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { signInView } from "./sign-in.js";
import { submitView } from "./submit.js";

const gateway = new Gateway("");
const main = document.getElementById("main");
const page = { gateway, session: undefined, go: (hash) => (location.hash = hash) };
const VIEWS = [
  [/^#?\/?$/, jobsView],
  [/^#\/jobs\/([^/]+)$/, jobView],
  [/^#\/submit$/, submitView],
  [/^#\/hosts$/, hostsView],
];
document.adoptedStyleSheets = [DIALOG_SHEET, STATE_SHEET];
let view;

function show(next) {
  view?.end?.();
  view = next;
  const heading = el("h1", { tabindex: -1 }, next.title);
  main.replaceChildren(heading, ...next.nodes);
  document.title = `${next.title} – Jobgate`;
  if (next.focus) next.focus.focus();
  else heading.focus();
}

function route() {
  if (!page.session) return signIn("");
  const [path] = location.hash.split("?");
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === (path.startsWith("#/jobs/") ? "#/" : path || "#/")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const [pattern, make] of VIEWS) {
    const found = path.match(pattern);
    if (found) return show(make(page, ...found.slice(1).map(decodeURIComponent)));
  }
  show({ title: "There is nothing here", nodes: [el("p", {}, el("a", { href: "#/" }, "Your jobs"))] });
}

function showSession() {
  const { session } = page;
  document.getElementById("nav").hidden = document.getElementById("who").hidden = !session;
  const name = document.getElementById("name");
  name.textContent = session ? session.subject.split("CN=").pop() : "";
  name.title = session?.subject ?? "";
}

function signIn(words) {
  page.session = undefined;
  showSession();
  show(signInView(page, words, (session) => ((page.session = session), showSession(), route())));
}

async function signOut() {
  await gateway.call("DELETE", "/api/session", { accept: [401] });
  signIn("You are signed out.");
}

async function begin() {
  const response = await gateway.call("GET", "/api/session", { accept: [401, 403] });
  page.session = response.ok ? await response.json() : undefined;
  gateway.addEventListener("signed-out", () => page.session && signIn("Your session has ended; sign in again."));
  document.getElementById("sign-out").addEventListener("click", signOut);
  document.querySelector(".skip").addEventListener("click", (event) => (event.preventDefault(), main.focus()));
  window.addEventListener("hashchange", route);
  showSession();
  route();
}

begin().catch((problem) => main.replaceChildren(el("p.error", { role: "alert" }, problem.message)));
