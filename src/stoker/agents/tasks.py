"""A step of a run as a task of the queue."""

from stoker.agents.runs import Run
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.queue import NewTask, Queue
from stoker.spec import AGENT_STEPS

ENDPOINT = "/steps"
MODEL = ModelName(AGENT_STEPS)
ATTEMPTS = 5  # of one step, whose worker dies under it


def step_task(run: Run) -> NewTask:
    """`head`: the checkpoint from which it starts."""
    return NewTask(
        model=MODEL,
        tenant=TenantName(run.tenant),
        key_id=KeyId(run.key_id),
        team=run.team,
        session=run.session,
        run=run.id,
        agent=run.agent,
        endpoint=ENDPOINT,
        body={"run": run.id, "step": run.step, "head": run.head},
        max_attempts=ATTEMPTS,
    )


async def submit_step(queue: Queue, run: Run) -> None:
    """The run's next step waits in the queue. The same again changes nothing. Raises QueueUnavailable, upon which the
    sweep does it later."""
    await queue.submit(step_task(run), task_id=TaskId(run.task_id))
