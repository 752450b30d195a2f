"""`python -m shunter.agent.keeper FOLDER NODE`: started by the node worker, which it outlives.

With `--try` it says by its exit status whether it could go on with what the running keeper has handed it to look at.
"""

import sys
from pathlib import Path

from shunter.agent.keeper.estate import inherited
from shunter.agent.keeper.server import Keeper

if __name__ == "__main__":
    estate = inherited()
    if sys.argv[3:] != ["--try"]:
        Keeper(Path(sys.argv[1]), sys.argv[2], estate).run()
