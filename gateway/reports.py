"""A running job may tell the gateway that it is worth looking at. It shows a token that was in its environment."""

import hashlib
import hmac
from collections.abc import Callable

from gateway.model import Job


class Reports:
    """Tokens that stand for one job until it is final. Nothing of them is stored: they follow from the job's uuid and a
    secret that all gateways of a database share."""

    def __init__(self, base_url: str, secret: Callable[[], str]) -> None:
        self.base_url = base_url
        self.secret = secret

    def environment(self, uuid: str) -> dict[str, str]:
        """What the job finds in its environment."""
        return {
            "JOBGATE_REPORT_URL": f"{self.base_url}/api/jobs/{uuid}/report",
            "JOBGATE_REPORT_TOKEN": self.token(uuid),
        }

    def token(self, uuid: str) -> str:
        return "jgr_" + hmac.new(self.secret().encode(), uuid.encode(), hashlib.sha256).hexdigest()

    def vouches(self, token: str, job: Job) -> bool:
        """Whether the token is this job's, and the job has not ended."""
        return hmac.compare_digest(token.encode(), self.token(job.uuid).encode()) and not job.state.final
