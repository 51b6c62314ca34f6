"""What can be done with the tasks of an array, one by one."""

from gateway.errors import Conflict, NotFound
from gateway.model import Job, Principal, Task
from gateway.service import JobService
from gateway.store import TaskFilter


class TaskService:
    """Tasks of the arrays that `jobs` has. Who may not see a job gets the same answers here as there."""

    def __init__(self, jobs: JobService) -> None:
        self.jobs = jobs
        self.repository = jobs.repository

    def page(self, principal: Principal, ident: str, wanted: TaskFilter) -> tuple[Job, list[Task], int]:
        """An array, its tasks in order, and how many there are of such a state. Raises Conflict where it is none."""
        job = self._array(principal, ident)
        total = sum(count for state, count in job.task_counts.items() if not wanted.states or state in wanted.states)
        return job, self.repository.tasks(job.number, wanted), total

    def get(self, principal: Principal, ident: str, task_id: str) -> tuple[Job, Task]:
        """An array and one of its tasks. Raises NotFound."""
        job = self._array(principal, ident)
        number = int(task_id) if task_id.isascii() and task_id.isdigit() and len(task_id) < 11 else 0
        found = self.repository.tasks(job.number, TaskFilter(after=number - 1, limit=1))
        if not found or found[0].task_id != number:
            raise NotFound(f"Task {task_id} of job {ident} not found", code="task_not_found")
        return job, found[0]

    def abort(self, principal: Principal, ident: str, task_id: str) -> None:
        """End one task; the others go on. Raises Conflict where it has ended."""
        with self.jobs.audit.entry("abort", principal, f"{ident}, task {task_id}") as entry:
            entry.job, task = self.get(principal, ident, task_id)
            if task.state.final:
                raise Conflict(f"the task is {task.state} already; there is nothing to abort")
            job, backend = entry.job, self.jobs.hosts.of(entry.job).backend
            if report := backend.abort_tasks(self.jobs.native_id(job), [task.task_id], job.account):
                self.jobs.learn(job, report)

    def resubmit(self, principal: Principal, ident: str, task_id: str) -> Job:
        """Run one task again, as an array of one."""
        _, task = self.get(principal, ident, task_id)
        new = self.jobs.control(principal, ident, "resubmit", tasks=str(task.task_id))
        assert new
        return new

    def _array(self, principal: Principal, ident: str) -> Job:
        job = self.jobs.get(principal, ident)
        if job.array is None:
            raise Conflict("the job is no array and has no tasks; ask for the job itself", code="no_array")
        return job
