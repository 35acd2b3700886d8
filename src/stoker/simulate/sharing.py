"""Requests through a queue and its replicas, from event to event: the arithmetic behind `serving.Plane`.

A replica is a server that its sequences share. Between two events (an arrival that it takes, a prompt computed, an
answer ended, the replica's own end) its rates are constant, so nothing is stepped: `position` counts the decode steps
of a replica, and a sequence whose first token came at position P ends at P + its tokens - 1. What is due next is kept
in trees of flat arrays. Each account is brought up to date at its own events only, so that the results do not depend
on how `advance` is cut into pieces.

Plain functions over flat sequences, in one file: `compiling` makes a compiled twin of the same source, whose cache
knows when this file has changed, and no other. Python's lists and numpy's arrays do equally, with the same results to
the bit. So: no containers but these, no NaN in comparisons, no integer wider than 63 bits.
"""

from typing import NamedTuple, TypeVar

Floats = list[float]
Ints = list[int]
Number = TypeVar("Number", int, float)

INF = float("inf")
NAN = float("nan")
SERVED, TOO_LONG, TIMED_OUT, NO_REPLICA, LOST = range(1, 6)
"""As in `result`. Written here, too, because a constant of another file would stay as it was in code that is kept."""
BLOCK = 16
"""Tokens of a block of the prefix cache: a part of one is no hit."""
CRUMBS = 1e-6
"""Tokens: what is left of a prompt by rounding, and needs no step."""
FULL = 1 << 60
"""The load of a replica that takes nothing."""
GONE, READY, DRAINING = range(3)

# Queues, by index: in each, a request knows the one after it. A request is in one of them at most.
MAIN, RETRIED, RETURNING, ENGINES = range(4)
"""As they came; those that were cut off, before the others; cut off and not back yet; the engines' own, by slot."""

# What `numbers` and `counters` hold.
NOW, TIMEOUT_S, LEASE_S = range(3)
ARRIVED, WAITING, RUNNING, ENGINE_WAITING, AWAY, DONE, REJECTED, TOKENS, LIVE, LONGEST, IS_QUEUE, RETRIES = range(12)

# Whose turn it is at one moment, first to last: what frees a place comes before what asks for one.
REPLICA, RETURN, ARRIVAL, TIMEOUT = range(4)


class Flow(NamedTuple):
    """All state of one model. By request, by slot, by queue; trees and heaps as described where they are used."""

    numbers: Floats
    counters: Ints

    # Requests, as the trace has them.
    at: Floats
    prompt: Ints
    answer: Ints
    seen: Ints
    """Tokens of the prompt whose prefix was seen before."""

    # What became of them.
    state: Ints
    started: Floats
    first: Floats
    done: Floats
    made: Ints
    """Tokens of the answer: while it is under way those that it will have, in the end those that it had."""
    cached: Ints
    attempts: Ints
    slot: Ints
    work: Floats
    """Seconds of replicas. While a sequence decodes, `share` of its replica at its start is taken off already."""
    since: Floats
    """In a queue since then; while it is away: back at that moment."""
    after: Ints
    """The next in the same queue; -1: none."""

    # Queues.
    head: Ints
    tail: Ints

    # Replicas: the rates.
    table: Ints
    """Where in `steps` the slot's own begin."""
    steps: Floats
    context_s: Floats
    """More for each half token of context."""
    prefill_s: Floats
    fixed_s: Floats
    after_s: Floats
    chunk: Ints
    cache: Ints
    """Tokens that fit it."""
    limit: Ints
    """Sequences at once."""
    room: Ints
    """Requests at once, those in the engine's queue included; without a queue before it: FULL."""

    # Replicas: what they do. All of it is as of `clock`.
    phase: Ints
    live: Ints
    """The first `counters[LIVE]` are the slots that are not gone, in no order."""
    clock: Floats
    taken: Ints
    """Requests, in whatever part of the replica."""
    prefilling: Ints
    """The request whose prompt is being computed; -1: none."""
    left: Floats
    """Tokens of that prompt still to compute."""
    decoding: Ints
    position: Floats
    begun: Floats
    """Sum over what decodes of (position of its end - its tokens): what it has made is `position` less that."""
    context: Ints
    """Sum over what decodes of 2 * prompt + answer: twice its mean context."""
    held: Ints
    """Tokens of the cache that are set aside, for prompts and answers."""
    busy: Floats
    share: Floats
    """Seconds that a sequence would have got if it had decoded all the time."""
    step: Floats
    """Seconds of one step as things are; 0: idle, or no time at all."""
    per_step: Floats
    """Tokens of the prompt in one step, and what they take of it."""
    prompt_s: Floats

    # Who is next.
    due: Floats
    """Tree by slot: the time of its next event."""
    load: Ints
    """Tree by slot: how many requests it has, or FULL."""
    heap: Ints
    """Where in `ends` and `whose` the slot's heap begins: of what decodes, by position of the end, then request."""
    ends: Floats
    whose: Ints


def set_leaf(tree: list[Number], slot: int, value: Number) -> None:
    """In a tree over 2^k leaves, where each node has the lesser value of its two."""
    i = len(tree) // 2 + slot
    tree[i] = value
    while i > 1:
        low = tree[i]
        other = tree[i ^ 1]
        if other < low:
            low = other
        i >>= 1
        if tree[i] == low:
            return
        tree[i] = low


def first_leaf(tree: list[Number]) -> int:
    """Where the least value is; of several, the lowest."""
    low = tree[1]
    half = len(tree) // 2
    i = 1
    while i < half:
        i *= 2
        if tree[i] != low:
            i += 1
    return i - half


def put_end(ends: Floats, whose: Ints, base: int, size: int, end: float, request: int) -> None:
    i = size
    while i > 0:
        above = (i - 1) >> 1
        other = ends[base + above]
        if other < end or (other == end and whose[base + above] < request):
            break
        ends[base + i] = other
        whose[base + i] = whose[base + above]
        i = above
    ends[base + i] = end
    whose[base + i] = request


def drop_end(ends: Floats, whose: Ints, base: int, size: int) -> None:
    """Takes the first off a heap of `size`."""
    size -= 1
    end = ends[base + size]
    request = whose[base + size]
    i = 0
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        low = ends[base + below]
        if below + 1 < size:
            other = ends[base + below + 1]
            if other < low or (other == low and whose[base + below + 1] < whose[base + below]):
                below += 1
                low = other
        if end < low or (end == low and request < whose[base + below]):
            break
        ends[base + i] = low
        whose[base + i] = whose[base + below]
        i = below
    ends[base + i] = end
    whose[base + i] = request


def enqueue(head: Ints, tail: Ints, after: Ints, queue: int, request: int) -> None:
    after[request] = -1
    if head[queue] < 0:
        head[queue] = request
    else:
        after[tail[queue]] = request
    tail[queue] = request


def dequeue(head: Ints, after: Ints, queue: int) -> int:
    request = head[queue]
    head[queue] = after[request]
    return request


def settle(s: Flow, slot: int, now: float) -> None:
    """Brings the accounts of a replica up to `now`, which is not after its next event."""
    passed = now - s.clock[slot]
    s.clock[slot] = now
    if passed > 0.0 and s.step[slot] > 0.0:
        move(s, slot, passed / s.step[slot], passed)


def move(s: Flow, slot: int, steps: float, passed: float) -> None:
    """Each moment belongs to someone: the prompt's part of a step to its request, the rest to those that decode."""
    s.busy[slot] += passed
    decoding = s.decoding[slot]
    request = s.prefilling[slot]
    if request >= 0:
        part = passed
        if decoding > 0 and s.step[slot] > 0.0:
            part = passed * s.prompt_s[slot] / s.step[slot]
        s.work[request] += part
        passed -= part
        left = s.left[slot] - steps * s.per_step[slot]
        s.left[slot] = left if left > 0.0 else 0.0
    if decoding > 0:
        s.share[slot] += passed / decoding
        s.position[slot] += steps


def let_in(s: Flow, slot: int) -> None:
    """The engine begins with the next prompt if it has none under way, and there is room for all of it. One that has
    to wait holds up those behind it."""
    request = s.head[ENGINES + slot]
    if request < 0 or s.prefilling[slot] >= 0 or s.decoding[slot] >= s.limit[slot]:
        return
    prompt = s.prompt[request]
    held = s.held[slot] + prompt + s.made[request]
    if held > s.cache[slot]:
        return
    s.head[ENGINES + slot] = s.after[request]
    s.held[slot] = held
    cached = s.seen[request]
    if cached >= prompt:
        cached = prompt - 1  # The last token is computed always: the first of the answer comes of it.
    cached = cached // BLOCK * BLOCK if cached > 0 else 0
    s.cached[request] = cached
    s.prefilling[slot] = request
    s.left[slot] = float(prompt - cached)
    s.counters[ENGINE_WAITING] -= 1
    s.counters[RUNNING] += 1


def plan(s: Flow, slot: int) -> None:
    """How fast the replica goes from here, and when that ends."""
    decoding = s.decoding[slot]
    is_prefilling = s.prefilling[slot] >= 0
    step = 0.0
    due = INF
    if decoding > 0 or is_prefilling:  # The first of the table is a step of prompts alone.
        step = s.steps[s.table[slot] + decoding] + s.context_s[slot] * s.context[slot]
    if is_prefilling:
        s.per_step[slot] = tokens_per_step(s, slot)
        s.prompt_s[slot] = s.per_step[slot] * s.prefill_s[slot]
        step += s.prompt_s[slot]
    if decoding > 0 or is_prefilling:
        steps = steps_to_end(s, slot)
        if is_prefilling:
            to_first = s.left[slot] / s.per_step[slot]
            if to_first < steps:
                steps = to_first
        due = s.clock[slot] + steps * step
    s.step[slot] = step
    set_leaf(s.due, slot, due)


def tokens_per_step(s: Flow, slot: int) -> float:
    """Of the prompt that is computed. A step holds a whole chunk, the decoding sequences have one token of it each; one
    is left for the prompt. A prompt that is alone has steps of its own, as many as it needs: each reads the weights,
    however little of the prompt is in it. (Those that wait behind it would share its last one.)"""
    chunk = float(s.chunk[slot])
    if s.decoding[slot] > 0:
        return chunk - s.decoding[slot] if chunk - s.decoding[slot] > 1.0 else 1.0
    left = s.left[slot]
    if left <= CRUMBS or s.head[ENGINES + slot] >= 0:
        return chunk
    steps = float(int(left / chunk))
    if left - steps * chunk > CRUMBS:
        steps += 1.0
    return left / steps


def steps_to_end(s: Flow, slot: int) -> float:
    """Of the sequence that ends first."""
    if s.decoding[slot] == 0:
        return INF
    steps = s.ends[s.heap[slot]] - s.position[slot]
    return steps if steps > 0.0 else 0.0


def take_turn(s: Flow, slot: int) -> None:
    """A replica's event: a sequence has ended, or a prompt is computed and its first token there."""
    now = s.due[len(s.due) // 2 + slot]
    passed = now - s.clock[slot]
    s.clock[slot] = now
    steps = steps_to_end(s, slot)
    request = s.prefilling[slot]
    to_first = INF
    if request >= 0:
        to_first = s.left[slot] / s.per_step[slot]
    base = s.heap[slot]
    decoding = s.decoding[slot]
    if steps <= to_first:
        move(s, slot, steps, passed)
        request = s.whose[base]
        s.position[slot] = s.ends[base]
        drop_end(s.ends, s.whose, base, decoding)
        s.decoding[slot] = decoding - 1
        s.context[slot] -= 2 * s.prompt[request] + s.made[request]
        s.begun[slot] -= s.position[slot] - s.made[request]
        s.work[request] += s.share[slot]
        finish(s, slot, request, now)
        if decoding == 1:  # Nothing counts from these any more: small numbers are exact numbers.
            s.position[slot] = 0.0
            s.begun[slot] = 0.0
            s.share[slot] = 0.0
    else:
        move(s, slot, to_first, passed)
        s.prefilling[slot] = -1
        s.first[request] = now + s.fixed_s[slot]
        made = s.made[request]
        if made > 1:
            end = s.position[slot] + (made - 1)
            put_end(s.ends, s.whose, base, decoding, end, request)
            s.decoding[slot] = decoding + 1
            s.context[slot] += 2 * s.prompt[request] + made
            s.begun[slot] += end - made
            s.work[request] -= s.share[slot]
        else:
            finish(s, slot, request, now)
    let_in(s, slot)
    plan(s, slot)


def finish(s: Flow, slot: int, request: int, now: float) -> None:
    s.state[request] = SERVED
    s.done[request] = now + s.fixed_s[slot] + s.after_s[slot]
    s.held[slot] -= s.prompt[request] + s.made[request]
    s.taken[slot] -= 1
    show_load(s, slot)
    s.counters[RUNNING] -= 1
    s.counters[DONE] += 1
    s.counters[TOKENS] += s.made[request]


def show_load(s: Flow, slot: int) -> None:
    """The tree of loads is what requests are handed out by."""
    taken = s.taken[slot]
    set_leaf(s.load, slot, taken if s.phase[slot] == READY and taken < s.room[slot] else FULL)


def hand_out(s: Flow, now: float) -> None:
    """As long as one waits and a replica has room: to the one that has the fewest."""
    while s.load[1] < FULL:
        queue = RETRIED if s.head[RETRIED] >= 0 else MAIN
        if s.head[queue] < 0:
            return
        request = dequeue(s.head, s.after, queue)
        s.counters[WAITING] -= 1
        give(s, first_leaf(s.load), request, now)


def give(s: Flow, slot: int, request: int, now: float) -> None:
    prompt = s.prompt[request]
    space = s.cache[slot] - prompt
    if space < 1:
        reject(s, request, TOO_LONG)
        return
    if s.counters[LONGEST] - prompt < space:
        space = s.counters[LONGEST] - prompt
    answer = s.answer[request]
    s.made[request] = answer if answer < space else space
    s.started[request] = now
    s.attempts[request] += 1
    s.slot[request] = slot
    s.taken[slot] += 1
    show_load(s, slot)
    s.counters[ENGINE_WAITING] += 1
    enqueue(s.head, s.tail, s.after, ENGINES + slot, request)
    if s.prefilling[slot] < 0:
        settle(s, slot, now)
        let_in(s, slot)
        plan(s, slot)


def reject(s: Flow, request: int, state: int) -> None:
    s.state[request] = state
    s.counters[REJECTED] += 1


def arrive(s: Flow, now: float) -> None:
    request = s.counters[ARRIVED]
    s.counters[ARRIVED] += 1
    if s.prompt[request] >= s.counters[LONGEST]:
        reject(s, request, TOO_LONG)
    elif s.counters[IS_QUEUE] == 0 and s.numbers[TIMEOUT_S] <= 0.0 and s.load[1] >= FULL:
        reject(s, request, NO_REPLICA)
    else:
        wait(s, MAIN, request, now)


def wait(s: Flow, queue: int, request: int, now: float) -> None:
    s.since[request] = now
    enqueue(s.head, s.tail, s.after, queue, request)
    s.counters[WAITING] += 1
    hand_out(s, now)


def come_back(s: Flow, now: float) -> None:
    request = dequeue(s.head, s.after, RETURNING)
    s.counters[AWAY] -= 1
    wait(s, RETRIED, request, now)


def time_out(s: Flow, queue: int) -> None:
    request = dequeue(s.head, s.after, queue)
    s.counters[WAITING] -= 1
    reject(s, request, TIMED_OUT)


def advance(s: Flow, until: float) -> int:
    """Every event up to and at `until`, in order; stops after one that leaves a draining replica empty, and returns its
    slot, else -1. `numbers[NOW]` is the time reached."""
    numbers, counters, head, since, at, due = s.numbers, s.counters, s.head, s.since, s.at, s.due
    all_of_them = len(at)
    timeout_s = numbers[TIMEOUT_S]
    while True:
        when = due[1]
        what = REPLICA
        queue = RETURNING
        if head[RETURNING] >= 0 and since[head[RETURNING]] < when:
            when = since[head[RETURNING]]
            what = RETURN
        coming = counters[ARRIVED]
        if coming < all_of_them and at[coming] < when:
            when = at[coming]
            what = ARRIVAL
        if timeout_s < INF:
            if head[RETRIED] >= 0 and since[head[RETRIED]] + timeout_s < when:
                when = since[head[RETRIED]] + timeout_s
                what = TIMEOUT
                queue = RETRIED
            if head[MAIN] >= 0 and since[head[MAIN]] + timeout_s < when:
                when = since[head[MAIN]] + timeout_s
                what = TIMEOUT
                queue = MAIN
        if when > until or when == INF:
            break
        numbers[NOW] = when
        if what == REPLICA:
            slot = first_leaf(due)
            take_turn(s, slot)
            if s.taken[slot] == 0 and s.phase[slot] == DRAINING:
                leave(s, slot)
                return slot
            hand_out(s, when)
        elif what == RETURN:
            come_back(s, when)
        elif what == ARRIVAL:
            arrive(s, when)
        else:
            time_out(s, queue)
    if numbers[NOW] < until < INF:
        numbers[NOW] = until
    return -1


def join(s: Flow, slot: int, now: float) -> None:
    """The slot's rates are there; it is ready."""
    s.phase[slot] = READY
    s.clock[slot] = now
    s.live[s.counters[LIVE]] = slot
    s.counters[LIVE] += 1
    show_load(s, slot)
    hand_out(s, now)


def leave(s: Flow, slot: int) -> None:
    """Gone for good: nobody looks at its accounts again but at `busy`."""
    s.phase[slot] = GONE
    show_load(s, slot)
    last = s.counters[LIVE] - 1
    for i in range(last):
        if s.live[i] == slot:
            s.live[i] = s.live[last]
    s.counters[LIVE] = last


def drain(s: Flow, slot: int) -> None:
    s.phase[slot] = DRAINING
    show_load(s, slot)


def cut_off(s: Flow, slot: int, requests: Ints, now: float) -> None:
    """The replica is gone with all it had: `requests`, in the order in which they are to go on."""
    settle(s, slot, now)
    base = s.heap[slot]
    for i in range(s.decoding[slot]):
        request = s.whose[base + i]
        s.work[request] += s.share[slot]
        made = int(s.position[slot] - s.ends[base + i] + s.made[request])
        if made < 1:
            made = 1
        s.made[request] = -made  # Marked: of all others nothing was made.
        s.counters[TOKENS] += made
    s.counters[RUNNING] -= s.decoding[slot]
    if s.prefilling[slot] >= 0:
        s.counters[RUNNING] -= 1
    s.counters[ENGINE_WAITING] -= s.taken[slot] - s.decoding[slot] - (1 if s.prefilling[slot] >= 0 else 0)
    for i in range(len(requests)):
        request = requests[i]
        s.made[request] = -s.made[request] if s.made[request] < 0 else 0
        if s.counters[RETRIES] == 0:
            reject(s, request, LOST)
        else:
            s.made[request] = 0
            s.cached[request] = 0
            s.first[request] = NAN
            s.since[request] = now + s.numbers[LEASE_S]
            enqueue(s.head, s.tail, s.after, RETURNING, request)
            s.counters[AWAY] += 1
    set_leaf(s.due, slot, INF)
    leave(s, slot)


def so_far(s: Flow) -> tuple[int, float, int]:
    """At this moment, between events: tokens made, tokens in caches, and how many would fit."""
    now = s.numbers[NOW]
    tokens = s.counters[TOKENS]
    taken = 0.0
    cache = 0
    for i in range(s.counters[LIVE]):
        slot = s.live[i]
        cache += s.cache[slot]
        steps = (now - s.clock[slot]) / s.step[slot] if s.step[slot] > 0.0 else 0.0
        made = 0.0
        held = s.held[slot]
        request = s.prefilling[slot]
        if request >= 0:
            held -= s.prompt[request] + s.made[request]
            taken += s.prompt[request] - s.left[slot] + steps * s.per_step[slot]
        if s.decoding[slot] > 0:
            made = s.decoding[slot] * (s.position[slot] + steps) - s.begun[slot]
            taken += s.context[slot] - held + made  # What decodes has 2 * prompts + answers less prompts + answers.
        tokens += int(made)
    return tokens, taken, cache


ENTRIES = (set_leaf, settle, advance, join, leave, drain, cut_off, so_far)
"""What `serving` calls. It has to give them the same types of arguments always: each new combination is compiled."""
PARTS = (
    *(
        first_leaf,
        put_end,
        drop_end,
        enqueue,
        dequeue,
        move,
        let_in,
        tokens_per_step,
        plan,
        steps_to_end,
        take_turn,
        finish,
    ),
    *(show_load, hand_out, give, reject, arrive, wait, come_back, time_out),
)
