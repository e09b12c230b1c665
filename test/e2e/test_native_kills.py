"""
SIGKILL under load, with the products themselves. KILLS: how often (default 30). KILLS_SEED: another sequence.
"""

import os

from harness import main
from test_kills import SEED, Killing

KILLS = int(os.environ.get("KILLS", "30"))


class NativeKills(Killing):
    def test_killed_under_load(self):
        self.kill_under_load(KILLS, SEED, (5, 13), dialect="native")


if __name__ == "__main__":
    main()
