"""A Slurm cluster of one node, which is this machine: the real programs, in a network namespace of their own."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scancel", "unshare", "nsenter", "ip")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "sacct", "sinfo")
# getaddrinfo finds no address at all in a namespace that has only 127.0.0.1.
START = """
ip link set lo up && ip addr add 10.255.255.1/32 dev lo || exit 1
munged --force --foreground --key-file=$0/munge.key --socket=$0/munge.socket --pid-file=$0/munge.pid --log-file=$0/munge.log \
       --seed-file=$0/munge.seed &
until [ -S $0/munge.socket ]; do sleep 0.1; done
slurmctld -D & slurmd -D & wait
"""
# A job in `high` takes the node from a job in `low`, which is cancelled.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4096 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=20
PartitionName=high Nodes={host} State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Return why no cluster can be started here; "" if one can."""
    lacking = [one for one in NEEDED if shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if lacking:
        return f"A Slurm cluster needs {', '.join(lacking)} (Debian: slurmctld slurmd slurm-client munge iproute2 util-linux)."
    if os.geteuid() or subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "A Slurm cluster of its own needs root and network namespaces."
    return ""


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster, and yield the environment variables with which its programs are found. End it by its processes' ids."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=platform.node().partition(".")[0], folder=folder, cores=os.cpu_count()))
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    with (folder / "cluster.log").open("wb") as log:
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", START, str(folder)], stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True, env=os.environ | {"SLURM_CONF": str(configuration), "PATH": path})
    for name in CLIENTS:
        client = folder / "bin" / name
        client.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{process.pid}/ns/net {shutil.which(name)} "$@"\n')
        client.chmod(0o755)
    variables = {"SLURM_CONF": str(configuration), "PATH": f"{folder}/bin:{path}"}
    try:
        deadline = time.monotonic() + 120
        while b"idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, check=False, timeout=60,
                                            env=os.environ | variables).stdout:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"The cluster must start within two minutes: {(folder / 'cluster.log').read_text()[-500:]}")
            time.sleep(0.5)
        yield variables
    finally:
        subprocess.run(["scancel", "--user=root"], env=os.environ | variables, capture_output=True, check=False, timeout=60)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
