"""What happens to jobs, told to whom it concerns: the log, those who listen, and the plugins' `job_changed`."""

import logging

from gateway.listening import News
from gateway.model import Job, JobState
from gateway.plugin_manager import Plugins

log = logging.getLogger(__name__)


class Announcer:
    """Called after a change of state was committed, by the process that committed it."""

    def __init__(self, plugins: Plugins, news: News) -> None:
        self.plugins = plugins
        self.news = news

    def __call__(self, job: Job, before: JobState | None) -> None:
        self.news.happened()
        log.info("job %s is %s", job.job_id, job.state, extra={"uuid": job.uuid, "before": before, "host": job.host})
        # Each plugin on its own: one that fails must not keep the others from hearing of it.
        for listener in self.plugins.hook.job_changed.get_hookimpls():
            try:
                arguments = {"job": job, "before": before}
                listener.function(*(arguments[name] for name in listener.argnames))
            except Exception:
                log.exception("plugin %s failed in job_changed", listener.plugin_name)
