"""What tests of stores share."""

MIB = 1 << 20
PART = 5 * MIB  # the least that S3 takes


class Time:
    """Moves when somebody sleeps, who does not wait. `slept` are the waits."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep_now(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    async def sleep(self, seconds: float) -> None:
        self.sleep_now(seconds)
