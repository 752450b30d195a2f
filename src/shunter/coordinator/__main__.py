from shunter.coordinator.command import coordinator
from shunter.runtime.role import run_role

run_role(coordinator)
