"""Delivers notifications: a signed POST when a job is final, to no address that is the gateway's own affair.

An address is checked after the name is resolved, and the connection goes to the very address that was checked: a name
that answers differently the second time leads nowhere else.
"""

import hashlib
import hmac
import ipaddress
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from gateway.errors import Unprocessable
from gateway.store.outbox import Delivery, Outbox

TIMEOUT = httpx.Timeout(10.0)
LEASE_SECONDS = 120.0  # more than one delivery with its redirects can take
AT_ONCE = 8
FIRST_WAIT, LONGEST_WAIT = 5.0, 3600.0
DAY = 86_400.0
REDIRECTS = 3
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses behind a NAT64 (RFC 6052)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """The URL leads to where notifications must not go."""


class Notifier:
    """Sends what is in the outbox. `allow` are networks that are otherwise refused."""

    def __init__(self, outbox: Outbox, secret: Callable[[], str], allow: Sequence[Network]) -> None:
        self.outbox = outbox
        self.secret = secret
        self.allow = allow
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def deliver(self) -> int:
        """Try everything that is due, several at a time. Gives how many were tried."""
        holder = f"{self.holder}:{threading.get_ident()}"
        due = self.outbox.take(holder, time.time(), LEASE_SECONDS, AT_ONCE)
        if due:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="notify") as pool:
                list(pool.map(self._try, due))
        return len(due)

    def _try(self, delivery: Delivery) -> None:
        try:
            code = self._post(delivery)
        except Refused as problem:
            self.outbox.done(delivery, f"notification to {delivery.url} not sent: {problem}")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as problem:
            self._later(delivery, f"{type(problem).__name__}: {problem}")
        else:
            if 200 <= code < 300:
                self.outbox.done(delivery, f"notification delivered to {delivery.url}: it answered {code}")
            else:
                self._later(delivery, f"it answered {code}")

    def _later(self, delivery: Delivery, words: str) -> None:
        wait = min(FIRST_WAIT * 2**delivery.tries, LONGEST_WAIT)
        at = time.time()
        told = f"notification to {delivery.url} failed: {words}"
        if at + wait > delivery.created + DAY:
            self.outbox.done(delivery, f"{told}; given up after a day")
        else:
            self.outbox.again(delivery, at + wait, f"{told}; tried again in {wait:.0f} s")

    def _post(self, delivery: Delivery) -> int:
        """The answer's status. A redirect that keeps the method is followed, to an address that is allowed too."""
        body = delivery.body.encode()
        signature = hmac.new(self.secret().encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "jobgate",
            "X-Jobgate-Signature": f"sha256={signature}",
            "X-Jobgate-Delivery": delivery.id,
        }
        url = httpx.URL(delivery.url)
        # trust_env=False: a proxy from the environment would connect where it likes.
        with httpx.Client(timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client:
            for _ in range(REDIRECTS + 1):
                request = self._request(client, url, headers, body)
                answer = client.send(request, stream=True)  # its body is nothing to us, and may be endless
                answer.close()
                if answer.status_code not in (307, 308):
                    break
                url = url.join(answer.headers.get("Location", ""))
        return answer.status_code

    def _request(self, client: httpx.Client, url: httpx.URL, headers: dict[str, str], body: bytes) -> httpx.Request:
        if url.scheme not in ("http", "https"):
            raise Refused(f"{url.scheme or 'nothing'} is neither http nor https")
        address = self._address(url.host, url.port or (443 if url.scheme == "https" else 80))
        name = url.netloc.decode("ascii").rpartition("@")[2]
        return client.build_request(
            "POST",
            url.copy_with(host=str(address)),
            headers={**headers, "Host": name},
            content=body,
            extensions={"sni_hostname": url.raw_host.decode("ascii")},  # the certificate is checked for the name
        )

    def _address(self, host: str, port: int) -> Address:
        found = [ipaddress.ip_address(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for address in found:
            if forbidden(address, self.allow):
                raise Refused(f"{host} is {address}, where this gateway does not send notifications")
        return found[0]


def forbidden(address: Address, allow: Sequence[Network]) -> bool:
    """Whether an address is loopback, private, link-local or otherwise not of the world, and not allowed by name."""
    plain = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    if any(plain in network or address in network for network in allow):
        return False
    return not plain.is_global or plain.is_multicast or address in TRANSLATED


def check_url(url: str, allow: Sequence[Network]) -> None:
    """Refuse at once what can be seen without resolving a name. Raises Unprocessable."""
    address = literal_address(httpx.URL(url).host)
    if address and forbidden(address, allow):
        words = f"leads to {address}, where this gateway does not send notifications"
        raise Unprocessable(f"notify {words}", errors={"notify": [words]})


def literal_address(host: str) -> Address | None:
    """The address that a URL's host is, in any spelling that the system's resolver takes, such as 127.1 or 0x7f000001.
    None for a name."""
    try:
        info = socket.getaddrinfo(host.strip("[]"), None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return ipaddress.ip_address(str(info[0][4][0]).partition("%")[0])
