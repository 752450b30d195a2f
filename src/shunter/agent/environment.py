"""What a member of an attempt finds in its environment, and the request that starts it. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from shunter.agent.keeper.protocol import Start
from shunter.domain.job import WHOLE_GPU, Job, Launch
from shunter.domain.phase import Allocation
from shunter.runtime.folders import attempt_folder, checkpoint_folder, output_file

FIRST_PORT: Final = 20_000
PORTS: Final = 12_000
"""Master ports come from 20000–31999: below Linux's ephemeral range, which begins at 32768."""


def member_env(
    job: Job, allocation: Allocation, attempt: int, rank: int, *, cluster: str, retries: int, addresses: dict[str, str]
) -> dict[str, str]:
    """Return the variables that tell a member who it is, what it holds, and how to find the others."""
    share, nodes = allocation.shares[rank], allocation.nodes
    master = (addresses.get(nodes[0]) if len(nodes) > 1 else None) or "127.0.0.1"
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
        "SHUNTER_GPU_COUNT": str(len(share.gpus)),
        "SHUNTER_MEMBER": marker(cluster, allocation.id, rank),
    }
    if job.time_limit_s is not None:
        env["SHUNTER_TIME_LIMIT_S"] = str(job.time_limit_s)
    return env | _launcher_env(allocation, rank, master, FIRST_PORT + job.id * 7 % PORTS) | _share_env(share.gpu_milli)


def _launcher_env(allocation: Allocation, rank: int, master: str, port: int) -> dict[str, str]:
    """Return what torchrun and other launchers read, and the ranks where no launcher is needed.

    `PET_*` are torchrun's own defaults for its options. Members may hold different numbers of GPUs: each is told its
    own number, the sum, and how many ranks come before its first. The rank of a process (RANK, LOCAL_RANK, ...) is set
    only where Shunter starts exactly one process per GPU in every member; else the launcher's children set it, and
    libraries that look for LOCAL_RANK would believe that they were started one per GPU.
    """
    processes = [max(len(share.gpus), 1) for share in allocation.shares]
    nodes, here = str(len(processes)), str(processes[rank])
    env = {
        "SHUNTER_WORLD_SIZE": str(sum(processes)),
        "SHUNTER_FIRST_RANK": str(sum(processes[:rank])),
        "MASTER_ADDR": master,
        "MASTER_PORT": str(port),
        "NNODES": nodes,
        "NODE_RANK": str(rank),
        "NPROC_PER_NODE": here,
        "PET_NNODES": nodes,
        "PET_NODE_RANK": str(rank),
        "PET_NPROC_PER_NODE": here,
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": str(port),
    }
    if max(processes) == 1:
        env |= {"WORLD_SIZE": nodes, "RANK": str(rank), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    return env


def _share_env(gpu_milli: int) -> dict[str, str]:
    """Return what tells a member that it has only so many thousandths of its GPU; nothing for whole ones.

    Nothing enforces the share but, where an MPS server runs on the node, the limit of CUDA threads: a percentage, which
    is rounded down so that all shares of a device stay within it. Source: NVIDIA Multi-Process Service, "Environment
    Variables".
    """
    if gpu_milli == WHOLE_GPU:
        return {}
    percent = max(gpu_milli * 100 // WHOLE_GPU, 1)
    return {"SHUNTER_GPU_MILLI": str(gpu_milli), "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(percent)}


def marker(cluster: str, allocation: str, rank: int) -> str:
    """Return what SHUNTER_MEMBER holds: unique among all members that any node of the cluster ever runs."""
    return f"{cluster}:{allocation}:{rank}"


def build_start(
    job: Job,
    launch: Launch,
    allocation: Allocation,
    attempt: int,
    rank: int,
    *,
    env: dict[str, str],
    jobs: PurePosixPath,
) -> Start:
    """Return the request to the keeper. *env* is the whole environment but what is named here, *jobs* the folder with
    all jobs' folders."""
    folder = attempt_folder(jobs, job.id, attempt)
    out = str(output_file(folder, rank))
    stop_file = str(folder / f"stop.{rank}")
    paths = {
        "SHUNTER_CHECKPOINT_DIR": str(checkpoint_folder(jobs, job.id)),
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
        stderr=str(output_file(folder, rank, "stderr")) if launch.split_stderr else out,
        marker=env["SHUNTER_MEMBER"],
        gpus=allocation.shares[rank].gpus,
        gpu_milli=allocation.shares[rank].gpu_milli,
        time_limit_s=job.time_limit_s,
        grace_s=job.grace_s,
        stop_file=stop_file,
    )
