"""The views and URLs of a portal in Django with its user's jobs on a page.

The users' proxies stay on this server; the page gets a token of ten minutes, and asks for another when that has ended.
"""

import base64
import os
from pathlib import Path

import httpx
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Template
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

GATEWAY = os.environ.get("JOBGATE_URL", "https://jobs.example.org")
PROXIES = Path(os.environ.get("PORTAL_PROXIES", "proxies"))  # <user>.pem, as the portal gets them from MyProxy

PAGE = """<!doctype html>
<title>My portal</title>
<h1>Jobs of {{ user }}</h1>
<script type="module" src="{{ gateway }}/static/jobgate-jobs.js"></script>
<jobgate-jobs token-url="/jobgate-token" columns="job_id name status run_time" hover></jobgate-jobs>
"""


@login_required
def jobs(request: HttpRequest) -> HttpResponse:
    words = {"user": request.user.get_username(), "gateway": GATEWAY}
    return HttpResponse(Template(PAGE).render(Context(words)))


@csrf_exempt  # another site may send this request, but it cannot read the answer
@require_POST
@never_cache
@login_required
def jobgate_token(request: HttpRequest) -> JsonResponse:
    proxy = base64.b64encode((PROXIES / f"{request.user.get_username()}.pem").read_bytes()).decode()
    answer = httpx.post(f"{GATEWAY}/api/tokens", headers={"PROXY": proxy}, json={"lifetime": 600})
    return JsonResponse(answer.json(), status=answer.status_code)


urlpatterns = [path("", jobs), path("jobgate-token", jobgate_token)]
