"""KEDA's polls and the HPA's syncs over time, each with a clock of its own. `policy.keda` and `policy.hpa` decide."""

from collections.abc import Callable

from stoker.policy import hpa, keda, scaling
from stoker.policy.pod_resources import CPU
from stoker.simulate import signals
from stoker.simulate.kernel import Rank
from stoker.simulate.replicas import Replicas
from stoker.simulate.scenario import Scaler, Workload
from stoker.simulate.world import World


class Autoscaling:
    """One scaler and its target. `observe`: what triggers can read of a model, this moment included."""

    def __init__(
        self,
        world: World,
        replicas: Replicas,
        scaler: Scaler,
        workload: Workload,
        observe: Callable[[str], signals.History | None],
    ) -> None:
        self.world = world
        self.replicas = replicas
        self.scaler = scaler
        self.workload = workload
        self.observe = observe
        self._polled = keda.State(created_at=world.now)
        self._synced = hpa.State()
        self._is_capped = False
        self._busy: dict[int, float] = {}
        """By slot: seconds in which it had computed when the HPA last looked."""
        self._looked_at = world.now

    def begin(self) -> None:
        """Loops begin at moments of their own within their period, as in a cluster that grew over time."""
        world, chance = self.world, self.world.chance(f"clocks/{self.scaler.name}")
        poll, sync = chance.random(), chance.random()
        if self.scaler.paused_at is not None:
            self.replicas.scale(self.workload, self.scaler.paused_at, "paused by annotation")
            return
        if self.scaler.scaled is not None:
            scaled = self.scaler.scaled
            world.kernel.after(poll * scaled.polling_s, Rank.SCALE, lambda: self._poll(scaled))
        world.kernel.after(sync * hpa.SYNC_S, Rank.SCALE, self._sync)

    def _values(self) -> dict[str, int | None]:
        found = {}
        for name, signal in self.scaler.signals.items():
            model = signal.model or (self.workload.serving.model if self.workload.serving is not None else "")
            history = self.observe(model)
            found[name] = None if history is None else signals.value(signal, history, self.world.now)
        return found

    def _poll(self, scaled: keda.ScaledObject) -> None:
        wanted, _, _ = self.replicas.counts(self.workload)
        self._polled, decision = keda.decide(scaled, self._polled, wanted, self._values(), self.world.now)
        if decision.after != decision.before:
            self._scale(decision.after, scaling.reason(scaling.Decision(wanted, decision.after, decision)))
        elif decision.reason in ("failed", "cooling down"):
            self._stays(wanted, scaling.reason(scaling.Decision(wanted, wanted, decision)), decision.reason, "KEDA")
        else:
            self.world.journal.end_run("scale", self.workload.name, "KEDA")
        self.world.kernel.after(scaled.polling_s, Rank.SCALE, lambda: self._poll(scaled))

    def _sync(self) -> None:
        world = self.world
        wanted, there, ready = self.replicas.counts(self.workload)
        values = self._values()
        if self.scaler.scaled is not None:
            self._polled = keda.read(self._polled, values)
            metrics = keda.metrics(self.scaler.scaled, self._polled, wanted, ready, values)
            autoscaler = self.scaler.scaled.autoscaler
        elif self.scaler.autoscaler is not None:
            autoscaler = self.scaler.autoscaler
            metrics = [
                hpa.Metric(name, values.get(name), target, kind) for name, (target, kind) in self.scaler.targets.items()
            ]
        else:
            return
        seen = hpa.Replicas(wanted, there, ready)
        by_pods = [self._by_pods(each) for each in metrics]
        self._synced, decision = hpa.decide(autoscaler, self._synced, seen, by_pods, self.world.now)
        is_capped = decision.asked is not None and decision.asked > autoscaler.maximum
        if is_capped and decision.asked is not None:
            said = self.workload.name, self.scaler.name, autoscaler.maximum, decision.asked
            world.at_maximum(*said, goes_on=self._is_capped)
        self._is_capped = is_capped
        if decision.reason != "at zero":
            why = scaling.reason_of_hpa(decision)
            if decision.after != wanted:
                self._scale(decision.after, why)
            else:
                self._stays(wanted, why, f"{decision.reason} {decision.by} {decision.limits}", "HPA")
        self.world.kernel.after(hpa.SYNC_S, Rank.SCALE, self._sync)

    def _by_pods(self, metric: hpa.Metric) -> hpa.Metric | hpa.PodMetric:
        """Of a resource each pod is measured; those that start, or have no node yet, count in their own way."""
        signal = self.scaler.signals.get(metric.name)
        serving = self.workload.serving
        if signal is None or not signal.by_pods or serving is None:
            return metric
        now, busy = self.world.now, self.replicas.planes[serving.model].busy_s()
        pods = []
        for replica in self.replicas.of[self.workload.name]:
            for pod in replica.pods:
                life = self.world.pod_lives[pod.name]
                used = 0.0
                if replica.slot is not None and pod is replica.pods[0] and life.ready_at is not None:
                    since = max(self._looked_at, life.ready_at)
                    used = (busy[replica.slot] - self._busy.get(replica.slot, 0.0)) / max(now - since, 1.0)
                    self._busy[replica.slot] = float(busy[replica.slot])
                pods.append(
                    hpa.PodSample(
                        value=int(round(used * 1000, 6)),
                        request=pod.shape.requests.get(CPU, 0),
                        is_ready=life.ready_at is not None,
                        ready_changed_at=pod.created_at if life.ready_at is None else life.ready_at,
                        started_at=life.pulled_at,
                        measured_at=now,
                        window_s=hpa.SYNC_S,
                        is_pending=life.pulled_at is None,
                        is_leaving=pod.leaving_since is not None,
                    )
                )
        self._looked_at = now
        return hpa.PodMetric(metric.name, pods, metric.target, signal.by_pods, is_cpu=True)

    def _scale(self, to: int, why: str) -> None:
        before = self.replicas.counts(self.workload)[0]
        text = f"{before} -> {to}: {why}"
        for voice in ("KEDA", "HPA"):
            self.world.journal.end_run("scale", self.workload.name, voice)
        self.world.journal.say(self.world.now, "scale", self.workload.name, text, before=before, after=to)
        self.replicas.scale(self.workload, to, f"{self.scaler.name} {text}")

    def _stays(self, at: int, why: str, key: str, voice: str) -> None:
        """Said anew when what it goes by (`key`) is different; figures that change all the time now and then."""
        said = f"stays at {at}: {why}"
        self.world.journal.say_still(self.world.now, "scale", self.workload.name, said, f"{at} {key}", voice)
