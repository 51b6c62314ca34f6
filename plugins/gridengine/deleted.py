"""Jobs that were deleted before they started. Grid Engine forgets those and writes no record of them (8.1.9), so this
gateway does: a small file each, for a month. Where gateways share a database, let them share `state_dir` too."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from gateway import JobReport, JobState

KEPT_SECONDS = 30 * 86400.0


class Deleted:
    """A folder with a file per job: owner and uuid; its time is when the job was deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, native_id: str, owner: str, uuid: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget_old()
        new = self.folder / f".{native_id}"
        new.write_text(f"{owner}\n{uuid}\n")
        new.rename(self.folder / native_id)  # so that nobody reads half of it

    def forget(self, native_id: str) -> None:
        (self.folder / native_id).unlink(missing_ok=True)

    def _forget_old(self) -> None:
        oldest = time.time() - KEPT_SECONDS
        for file in self.folder.iterdir():
            if file.stat().st_mtime < oldest:
                file.unlink(missing_ok=True)

    def among(self, native_ids: Iterable[str], account: str | None) -> dict[str, JobReport]:
        """Those of these jobs, and of the account's if one is given."""
        known = {native_id: self._read(native_id) for native_id in native_ids}
        return {native_id: found[1] for native_id, found in known.items() if found and account in (None, found[0])}

    def find(self, uuid: str, account: str) -> JobReport | None:
        names = [file.name for file in self.folder.iterdir()] if self.folder.is_dir() else []
        return next((report for report in self.among(names, account).values() if report.uuid == uuid), None)

    def _read(self, native_id: str) -> tuple[str, JobReport] | None:
        file = self.folder / native_id
        try:
            owner, uuid = file.read_text().split()
            end = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        words = "deleted before it started"
        report = JobReport(native_id, JobState.CANCELLED, "deleted", uuid=uuid, reason=words, end_time=end)
        return owner, report
