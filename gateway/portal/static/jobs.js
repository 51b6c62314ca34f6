/** All jobs. */

import { el } from "./jobgate-jobs.js";

export function jobsView(page) {
  const admin = page.session.admin;
  const table = el("jobgate-jobs", {
    hover: true,
    filters: true,
    columns: "job_id name host status tag created_at run_time",
    "job-url": "#/jobs/{job_id}",
  });
  table.client = page.gateway;
  table.addEventListener("jobgate-made", ({ detail }) => page.go(`#/jobs/${encodeURIComponent(detail.job.uuid)}`));
  const nodes = [el("p", {}, el("a.button.main", { href: "#/submit" }, "Submit a job")), table];
  if (admin) nodes.splice(1, 0, everybody(table));
  return { title: "Jobs", nodes };
}

function everybody(table) {
  const box = el("input", { type: "checkbox" });
  box.addEventListener("change", () => {
    table.setAttribute("columns", `job_id name host status ${box.checked ? "owner" : "tag"} created_at run_time`);
    if (box.checked) table.setAttribute("owner", "*");
    else table.removeAttribute("owner");
  });
  return el("p", {}, el("label", {}, box, " Everybody's jobs"));
}
