"""Realistic sizes of mails, always the same ones."""

import math
import random

MEAN, SIGMA = 25 * 1024, 1.0


def sizes(count: int) -> list[int]:
    """Return log-normal mail sizes with a mean of 25 KB."""
    chance = random.Random(20_261_123)  # noqa: S311  # sizes, not secrets
    mu = math.log(MEAN) - SIGMA**2 / 2
    return [max(200, int(chance.lognormvariate(mu, SIGMA))) for _ in range(count)]
