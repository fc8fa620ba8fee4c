"""Learning rate and attack strength as functions of the step, so that resuming needs no state."""

import math

from training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, *, step: int, steps_per_epoch: int) -> float:
    """Rate for the step about to be taken, counted from 0.

    `milestones`: multiplied by gamma after each milestone epoch (Table 5). `one_cycle`: cosine from
    lr down to 0. Both rise linearly from 0 over the first `warm_up` share of all steps.
    """
    total = config.epochs * steps_per_epoch
    rising = config.warm_up * total
    if step < rising:
        return config.lr * (step + 1) / (rising + 1)
    if config.schedule == "milestones":
        passed = sum(step // steps_per_epoch >= epoch for epoch in config.milestones)
        return config.lr * config.gamma**passed
    progress = (step - rising) / max(1.0, total - rising)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * progress))


def ramp(share: float, *, step: int, total: int) -> float:
    """Factor on the attack's eps: linear from 0 to 1 over the first `share` of all steps."""
    rising = share * total
    return 1.0 if step >= rising else (step + 1) / (rising + 1)
