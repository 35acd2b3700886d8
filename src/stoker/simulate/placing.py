"""kube-scheduler over time: who is bound where, and when; who has to go for it. Decisions are `policy.scheduling`'s."""

from collections.abc import Callable

from stoker.policy import scheduling
from stoker.policy.cluster import Pod
from stoker.simulate.kernel import Rank
from stoker.simulate.replicas import Replicas
from stoker.simulate.world import World


class Placing:
    """`when_stuck` is told of pods that no node takes: Karpenter's trigger."""

    def __init__(self, world: World, replicas: Replicas, when_stuck: Callable[[list[Pod]], None]) -> None:
        self.world = world
        self.replicas = replicas
        self.when_stuck = when_stuck
        self._is_due = False
        self._seen: tuple[int, frozenset[str]] = (-1, frozenset())

    def poke(self) -> None:
        """Something changed: look again, once, after all else that happens at this moment."""
        if not self._is_due:
            self._is_due = True
            self.world.kernel.at(self.world.now, Rank.SCHEDULE, self._schedule)

    def _schedule(self) -> None:
        self._is_due = False
        world = self.world
        stuck: list[Pod] = []
        preempting: list[str] = []
        refused: dict[int, dict[str, int]] = {}
        nodes = list(world.registered())
        for pod in world.waiting():
            if pod.leaving_since is not None:
                continue
            like = id(pod.shape)
            if like in refused:  # pods of one shape fare alike until one is bound, which only makes less room
                against = refused[like]
            else:
                binding = scheduling.bind(pod, nodes)
                if binding.node is not None:
                    self._bind(pod, binding.node)
                    continue
                against = refused[like] = dict(binding.against)
                if self._preempt(pod):
                    preempting.append(pod.name)
                    continue
            stuck.append(pod)
            said = ", ".join(f"{many} {why}" for why, many in sorted(against.items())) or "there are no nodes"
            world.journal.say_once(world.now, "unschedulable", pod.name, f"0/{len(nodes)} nodes: {said}")
        world.preempting = frozenset(preempting)
        if stuck:
            self.when_stuck(stuck)

    def _bind(self, pod: Pod, node: str) -> None:
        world = self.world
        world.bind(pod, world.nodes[node])
        world.journal.say(world.now, "pod", pod.name, f"bound to {node}", node=node)
        self.replicas.begin(pod)

    def _preempt(self, pod: Pod) -> bool:
        world = self.world
        found = scheduling.preempt(pod, list(world.registered()), world.scenario.budgets, world.waiting())
        if found is None:
            return False
        going = [world.pods[name] for name in found.victims]
        if all(each.leaving_since is not None for each in going):
            return True  # they are on their way already
        for victim in going:
            if victim.leaving_since is None:
                text = f"for {pod.name} of priority {pod.shape.priority}"
                world.journal.say(world.now, "preempted", victim.name, text, by=pod.name, node=found.node)
                self.replicas.leave(victim, f"preempted {text}")
        return True
