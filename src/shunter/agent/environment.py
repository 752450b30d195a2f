"""What a member of an attempt finds in its environment, and the request that starts it. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from shunter.agent.keeper.protocol import Start
from shunter.domain.job import Job, Launch
from shunter.domain.phase import Allocation

FIRST_PORT: Final = 20_000
PORTS: Final = 12_000
"""Master ports come from 20000–31999: below Linux's ephemeral range, which begins at 32768."""


def member_env(
    job: Job, allocation: Allocation, attempt: int, rank: int, *, cluster: str, retries: int, addresses: dict[str, str]
) -> dict[str, str]:
    """Return the variables that tell a member who it is, and a launcher such as torchrun how to set itself up.

    `PET_*` are torchrun's own defaults for its options. The rank of a process (RANK, LOCAL_RANK, ...) is set only
    where Shunter starts exactly one process per GPU; with several GPUs per node the launcher's children set it, and
    libraries that look for LOCAL_RANK would otherwise believe that they were started one per GPU.
    """
    share, nodes = allocation.shares[rank], allocation.nodes
    master = addresses.get(nodes[0]) or "127.0.0.1"
    if len(nodes) == 1:
        master = "127.0.0.1"
    port = str(FIRST_PORT + job.id * 7 % PORTS)
    gpus = len(share.gpus)
    env = {
        "SHUNTER_CLUSTER": cluster,
        "SHUNTER_JOB_ID": str(job.id),
        "SHUNTER_JOB_NAME": job.name,
        "SHUNTER_USER": job.user,
        "SHUNTER_ATTEMPT": str(attempt),
        "SHUNTER_RESTART_COUNT": str(attempt - 1),
        "SHUNTER_RETRIES": str(retries),
        "SHUNTER_MAX_RETRIES": str(job.max_retries),
        "SHUNTER_NODE": share.node,
        "SHUNTER_NODES": ",".join(nodes),
        "SHUNTER_NODE_RANK": str(rank),
        "SHUNTER_GPUS": ",".join(map(str, share.gpus)),
        "SHUNTER_GPU_COUNT": str(gpus),
        "SHUNTER_MEMBER": marker(cluster, allocation.id, rank),
        "MASTER_ADDR": master,
        "MASTER_PORT": port,
        "NNODES": str(len(nodes)),
        "NODE_RANK": str(rank),
        "NPROC_PER_NODE": str(max(gpus, 1)),
        "PET_NNODES": str(len(nodes)),
        "PET_NODE_RANK": str(rank),
        "PET_NPROC_PER_NODE": str(max(gpus, 1)),
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": port,
    }
    if job.time_limit_s is not None:
        env["SHUNTER_TIME_LIMIT_S"] = str(job.time_limit_s)
    if gpus <= 1:
        env |= {
            "WORLD_SIZE": str(len(nodes)),
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
        }
    return env


def marker(cluster: str, allocation: str, rank: int) -> str:
    """Return what SHUNTER_MEMBER holds: unique among all members that any node of the cluster ever runs."""
    return f"{cluster}:{allocation}:{rank}"


def attempt_folder(storage: PurePosixPath, job_id: int, attempt: int) -> PurePosixPath:
    return storage / "jobs" / str(job_id) / f"attempt-{attempt}"


def checkpoint_folder(storage: PurePosixPath, job_id: int) -> PurePosixPath:
    return storage / "jobs" / str(job_id) / "checkpoint"


def output_file(folder: PurePosixPath, rank: int, *, stderr: bool = False) -> PurePosixPath:
    """Return the log of member *rank*: `output.log` for the first, `output.1.log`, ... for the others."""
    name = "stderr" if stderr else "output"
    return folder / (f"{name}.{rank}.log" if rank else f"{name}.log")


def build_start(
    job: Job,
    launch: Launch,
    allocation: Allocation,
    attempt: int,
    rank: int,
    *,
    env: dict[str, str],
    storage: PurePosixPath,
) -> Start:
    """Return the request to the keeper. *env* is the whole environment but what is named here."""
    folder = attempt_folder(storage, job.id, attempt)
    out = str(output_file(folder, rank))
    stop_file = str(folder / f"stop.{rank}")
    paths = {
        "SHUNTER_CHECKPOINT_DIR": str(checkpoint_folder(storage, job.id)),
        "SHUNTER_JOB_DIR": str(folder),
        "SHUNTER_STOP_FILE": stop_file,
    }
    return Start(
        allocation=allocation.id,
        job_id=job.id,
        attempt=attempt,
        rank=rank,
        argv=launch.argv,
        env=env | paths,
        cwd=launch.cwd or str(folder),
        folder=str(folder),
        stdout=out,
        stderr=str(output_file(folder, rank, stderr=True)) if launch.split_stderr else out,
        marker=env["SHUNTER_MEMBER"],
        gpus=allocation.shares[rank].gpus,
        time_limit_s=job.time_limit_s,
        grace_s=job.grace_s,
        stop_file=stop_file,
    )
