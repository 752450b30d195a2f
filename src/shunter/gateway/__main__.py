from shunter.gateway.command import gateway
from shunter.runtime.role import run_role

run_role(gateway)
