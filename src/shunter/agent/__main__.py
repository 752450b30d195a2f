from shunter.agent.command import start
from shunter.runtime.role import run_role

run_role(start)
