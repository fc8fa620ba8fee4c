"""When somebody attacks: seldom in calm, and in storms that come at regular times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Shares are of images, in [0, 1]; times in seconds, the first storm after `begins_s`."""

    calm: float = 0.005
    storm: float = 0.4
    begins_s: float = 30.0
    every_s: float = 300.0
    lasts_s: float = 60.0

    def share(self, elapsed_s: float) -> float:
        """Of images that are attacked, so long after the start."""
        since = elapsed_s - self.begins_s
        return self.storm if since >= 0 and since % self.every_s < self.lasts_s else self.calm
