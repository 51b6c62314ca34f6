"""How many requests of a process may wait at a time: each holds a thread, and some must be left for the others."""

import threading

from gateway.errors import TooManyRequests


class Places:
    """At most `most` requests wait at a time. Safe to use from many threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.lock = threading.Lock()

    def take(self) -> "Place":
        """A place to wait in. Raises TooManyRequests where all are taken."""
        with self.lock:
            if self.taken >= self.most:
                words = "too many requests are waiting on this gateway already; try again in a few seconds"
                raise TooManyRequests(words, headers={"Retry-After": "5"})
            self.taken += 1
        return Place(self)


class Place:
    """Given back when the block ends, or by `give_back`; twice does no harm."""

    def __init__(self, places: Places) -> None:
        self.places: Places | None = places

    def give_back(self) -> None:
        places, self.places = self.places, None
        if places:
            with places.lock:
                places.taken -= 1

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.give_back()
