"""HTTP to one gateway: who asks goes with every request, errors come back as exceptions, what may be is sent again."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpx

from gateway.client.errors import Unreachable, of_answer
from gateway.client.settings import Credential, Settings
from gateway.errors import HostDown, JobgateError, TooManyRequests

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
TIMEOUT = httpx.Timeout(90.0, connect=10.0)  # beyond what a gateway gives a host for an answer


class Connection:
    """To the gateway of `settings()`, which is asked for when it is first used. `patience`: seconds for which what is
    retryable is tried again. Safe to use from many threads."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        patience: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._find = settings
        self._transport = transport
        self._headers = headers
        self.patience = patience

    @cached_property
    def settings(self) -> Settings:
        return self._find()

    @cached_property
    def _credential(self) -> Callable[[], Mapping[str, str]]:
        return self._headers or Credential(self.settings).headers

    @cached_property
    def _http(self) -> httpx.Client:
        verify: Any = True
        if self.settings.ca:
            import ssl

            verify = ssl.create_default_context(cafile=self.settings.ca)
        return httpx.Client(base_url=self.settings.url, timeout=TIMEOUT, transport=self._transport, verify=verify)

    def close(self) -> None:
        if "_http" in self.__dict__:
            self._http.close()

    def call(self, method: str, path: str, *, once: bool = False, **request: Any) -> httpx.Response:
        """The answer. Raises JobgateError.

        `once`: the gateway is to do it once, however often it is asked. Such a request gets an idempotency key and may
        be sent again, as one that only reads; any other is only where it is known that nothing was done."""
        headers = {**request.pop("headers", {}), **({"Idempotency-Key": uuid.uuid4().hex} if once else {})}
        repeatable = once or method == "GET"
        end, pause = time.monotonic() + self.patience, FIRST_PAUSE
        while True:
            try:
                return self._answer(method, path, headers, **request)
            except JobgateError as problem:
                wait = max(pause, _retry_after(problem))
                if not _may_repeat(problem, repeatable) or time.monotonic() + wait > end:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def json(self, method: str, path: str, *, once: bool = False, **request: Any) -> Any:
        """As `call`; the value of the answer's JSON."""
        return self.call(method, path, once=once, **request).json()

    @contextmanager
    def stream(self, path: str, **request: Any) -> Iterator[httpx.Response]:
        """An answer that is read as it comes, for as long as that takes. Raises JobgateError."""
        timeout = httpx.Timeout(TIMEOUT.connect, read=None)
        with (
            _reached(self.settings.url),
            self._http.stream("GET", path, headers=self._credential(), timeout=timeout, **request) as answer,
        ):
            if answer.is_error:
                answer.read()
                raise of_answer(answer)
            yield answer

    def _answer(self, method: str, path: str, headers: Mapping[str, str], **request: Any) -> httpx.Response:
        with _reached(self.settings.url):
            answer = self._http.request(method, path, headers={**headers, **self._credential()}, **request)
        if answer.is_error or answer.has_redirect_location:
            raise of_answer(answer)
        return answer


@contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as problem:
        unsent = isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        words = "does not answer" if not unsent else "cannot be reached"
        hint = "is JOBGATE_URL right, and does the gateway run?"
        raise Unreachable(
            f"the gateway {url} {words} ({problem or type(problem).__name__}); {hint}", sent=not unsent
        ) from None


def _may_repeat(problem: JobgateError, repeatable: bool) -> bool:
    nothing_done = isinstance(problem, HostDown | TooManyRequests)
    if isinstance(problem, Unreachable):
        nothing_done = not problem.sent
    return problem.retryable and (repeatable or nothing_done)


def _retry_after(problem: JobgateError) -> float:
    value = problem.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0
