/** Signing in: the proxy file is read here, sent once, and forgotten; what stays is a cookie that no script can read. */

import { el } from "./jobgate-jobs.js";

const LARGEST = 30 * 1024; // bytes; the gateway takes 40 KiB of base64

export function signInView({ gateway }, words, done) {
  const file = el("input", { type: "file", id: "proxy", required: true, "aria-describedby": "about-proxy" });
  const problem = el("p.error", { role: "alert" }, "");
  const button = el("button.main", { type: "submit" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    problem.textContent = "";
    button.disabled = true;
    try {
      done(await signIn(gateway, file.files[0]));
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      file.value = "";
      button.disabled = false;
    }
  }

  const about = el(
    "p.small.quiet",
    { id: "about-proxy" },
    "The file that grid-proxy-init or voms-proxy-init made, such as /tmp/x509up_u1000. Your browser sends it once, over this " +
      "connection; neither your browser nor the gateway keeps the key.",
  );
  const form = el("form", { onsubmit: submit }, el("label", { for: "proxy" }, "Your proxy file"), file, about, button, problem);
  const card = el("div.card.sign-in", {}, el("p", { role: "status" }, words || "Sign in to see and submit jobs."), form);
  return { title: "Sign in", nodes: [card], focus: file };
}

async function signIn(gateway, file) {
  if (file.size > LARGEST) throw new Error("This file is too large for a proxy.");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const header = btoa(String.fromCharCode(...bytes));
  const response = await gateway.call("POST", "/api/session", { headers: { PROXY: header }, accept: [401] });
  const answer = await response.json();
  if (response.status === 401) throw new Error(answer.error_message);
  return answer;
}
