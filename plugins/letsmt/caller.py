"""Who calls, as LetsMT has it: a `uid`, which is one of the caller's accounts, and that account's storage."""

from typing import Any

import flask

from gateway import Door, Forbidden

from .answers import DENIED, INVALID, MISSING, NO_USER, Fault
from .storage import Storage

ADMIN = "admin"


class Caller:
    """Who makes the request that is just being answered."""

    def __init__(self, door: Door, host: Any, folder: str) -> None:
        self.door = door
        self.host = host
        self.folder = folder

    @property
    def arguments(self) -> dict[str, str]:
        """What the URL says beside the uid; of what is said twice the last. Raises Fault."""
        given = flask.request.args.to_dict(flat=False)
        arguments = {name: values[-1] for name, values in given.items() if name != "uid"}
        if any("\0" in name + value for name, value in arguments.items()):
            raise Fault(INVALID, "Invalid parameter: it has a NUL in it")
        return arguments

    @property
    def is_admin(self) -> bool:
        """Whether an administrator asks for everybody."""
        return flask.request.args.get("uid") == ADMIN and self.door.principal.admin

    @property
    def uid(self) -> str:
        """The account that the call is about. Raises Fault."""
        uid = flask.request.args.get("uid", "")
        if not uid:
            raise Fault(MISSING, "Missing user ID (uid)")
        try:
            return self.door.account(uid)
        except Forbidden as problem:
            if uid == ADMIN:
                raise Fault(DENIED, "Permission denied for admin: only an administrator may list all jobs") from None
            raise Fault(NO_USER, f"{uid} not a valid user: {problem.message}") from None

    @property
    def storage(self) -> Storage:
        """The uid's storage."""
        return Storage(self.host, self.uid, self.folder)

    @property
    def storages(self) -> list[Storage]:
        """The storages of all accounts of the caller, the uid's first."""
        first = self.storage
        return [first, *filter(None, map(self._if_there, self.door.principal.accounts))]

    def _if_there(self, account: str) -> Storage | None:
        try:
            return Storage(self.host, account, self.folder) if account != self.uid else None
        except Forbidden:  # the host does not have every account of the grid-mapfile
            return None
