"""A step of a run as a task of the queue, and the bells of a run."""

import asyncio

from stoker.agents.runs import Run
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.queue import Claim, NewTask, Queue
from stoker.spec import AGENT_STEPS

ENDPOINT = "/steps"
MODEL = ModelName(AGENT_STEPS)
# Workers that may die under a step: most such steps only fell with the one at fault. The last one runs it alone.
ATTEMPTS = 20
ERRORS = 5  # of one step, after which its run fails


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


async def go_on(queue: Queue, run: Run | None) -> None:
    """What `store.wake` gave: a run that goes on (None: it does not). Raises QueueUnavailable, as `submit_step`."""
    if run is not None:
        await submit_step(queue, run)
        await queue.ring(run.id)


def errors_of(claim: Claim) -> int:
    """How often the step ended with an error before: its worker lived."""
    return sum(not attempt.is_lost for attempt in claim.task.attempts)


def standing(run_id: str) -> str:
    """What is rung when the run has ended or waits for somebody: its own id is rung at all that it has to tell."""
    return f"{run_id}:stands"


async def ring_standing(queue: Queue, run_id: str) -> None:
    """It has ended, or waits for somebody."""
    await asyncio.gather(queue.ring(run_id), queue.ring(standing(run_id)))
