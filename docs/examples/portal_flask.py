"""A portal in Flask with its user's jobs on a page.

The users' proxies stay on this server; the page gets a token of ten minutes, and asks for another when that has ended.
"""

import base64
import os
from pathlib import Path

import httpx
from flask import Flask, abort, render_template_string, session

GATEWAY = os.environ.get("JOBGATE_URL", "https://jobs.example.org")
PROXIES = Path(os.environ.get("PORTAL_PROXIES", "proxies"))  # <user>.pem, as the portal gets them from MyProxy

PAGE = """<!doctype html>
<title>My portal</title>
<h1>Jobs of {{ user }}</h1>
<script type="module" src="{{ gateway }}/static/jobgate-jobs.js"></script>
<jobgate-jobs token-url="/jobgate-token" columns="job_id name status run_time" hover></jobgate-jobs>
"""

app = Flask(__name__)
app.secret_key = os.environ.get("PORTAL_SECRET", os.urandom(32))


def current_user() -> str:
    """Whoever has signed in to the portal, however it does that."""
    return session.get("user") or abort(403)


@app.get("/")
def jobs() -> str:
    return render_template_string(PAGE, user=current_user(), gateway=GATEWAY)


@app.post("/jobgate-token")
def jobgate_token() -> tuple[dict, int, dict]:
    proxy = base64.b64encode((PROXIES / f"{current_user()}.pem").read_bytes()).decode()
    answer = httpx.post(f"{GATEWAY}/api/tokens", headers={"PROXY": proxy}, json={"lifetime": 600})
    return answer.json(), answer.status_code, {"Cache-Control": "no-store"}
