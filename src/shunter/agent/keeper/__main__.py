"""`python -m shunter.agent.keeper FOLDER NODE`: started by the node worker, which it outlives."""

import sys
from pathlib import Path

from shunter.agent.keeper.server import Keeper

if __name__ == "__main__":
    Keeper(Path(sys.argv[1]), sys.argv[2]).run()
