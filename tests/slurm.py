"""A private SLURM of one node on loopback, for tests: as root, without systemd, ended by its own ids."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "munged")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "mariadb-admin", "sacctmgr")
PATIENCE = 120.0
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian keeps the daemons where not every user looks."""

CONTROLLER = """\
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={worker}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
SlurmctldParameters=preempt_send_user_signal
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
ReturnToService=2
MinJobAge=300
KillWait=15
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
PreemptType=preempt/partition_prio
NodeName={name} NodeHostname={node} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=DEFAULT Nodes={name} MaxTime=INFINITE DefMemPerCPU=512 PriorityTier=1 State=UP
PartitionName=test Default=YES PreemptMode=OFF
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
"""

MEMORY = Path("/sys/fs/cgroup/memory")

FENCED = """\
TaskPlugin=task/cgroup
"""

CGROUPS = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
"""

WATCHED = """\
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill
"""
"""SLURM looks once a second, kills, and calls it a failure."""

WITHDRAWING = """\
PreemptMode=REQUEUE
PartitionName=requeue PreemptMode=REQUEUE
PartitionName=grace PreemptMode=REQUEUE GraceTime=30
PartitionName=cancel PreemptMode=CANCEL GraceTime=10
"""

SUSPENDING = """\
PreemptMode=SUSPEND,GANG
PartitionName=suspend PreemptMode=SUSPEND OverSubscribe=FORCE:1
"""
"""A SLURM that suspends knows no time of grace, hence another one."""

WITHOUT_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
"""

WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge/socket
"""

DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={node}
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=private
StorageLoc=accounting
"""


def missing() -> str:
    """Why no SLURM can be started here, or nothing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a private SLURM needs root"
    absent = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def accounts() -> bool:
    """Whether accounting can be had, too."""
    plugins = list(Path("/usr/lib").glob("*/slurm*/accounting_storage_mysql.so"))
    return bool(plugins) and all(shutil.which(name, path=SBIN) for name in ACCOUNTING)


@contextlib.contextmanager
def running(
    folder: Path, *, accounting: bool, preemption: str = WITHDRAWING
) -> Iterator[dict[str, str]]:
    """A SLURM with an idle node; yields the environment in which its commands find it.

    Args:
      folder: empty, and short: a socket's path has 107 characters.
      accounting: whether `sacct` works.
      preemption: what becomes of tasks when jobs of the partition `urgent` need their place.
    """
    names = ("controller", "worker", "accounting", "database")
    facts = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    facts |= {"folder": str(folder), "node": socket.gethostname().split(".")[0]}
    facts["name"] = f"node-{facts['worker']}"
    facts["memory"] = str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 >> 20)
    for name in ("state", "spool", "log", "munge"):
        (folder / name).mkdir(parents=True)
    for opened in (folder, folder / "munge"):
        opened.chmod(0o711)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    memory = FENCED if os.access(MEMORY / "memory.oom_control", os.W_OK) else WATCHED
    accounts = WITH_ACCOUNTING if accounting else WITHOUT_ACCOUNTING
    conf.write_text("".join((CONTROLLER, memory, preemption, accounts)).format(**facts))
    (folder / "cgroup.conf").write_text(CGROUPS)
    environment = {**os.environ, "PATH": SBIN, "SLURM_CONF": str(conf)}

    def run(*command: str) -> None:
        # Not pipes: a daemon would hold them open.
        with (folder / "log" / "start.log").open("a+") as log:
            subprocess.run(
                command, env=environment, stdout=log, stderr=log, timeout=PATIENCE, check=True
            )

    database = None
    try:
        munge = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        run("munged", "--force", *(f"--{n}={folder}/munge/{n.split('-')[0]}" for n in munge))
        if accounting:
            database = _begin_database(folder, facts, environment, run)
            _begin_accounting(folder, facts, run)
        run("slurmctld", "-f", str(conf), "-c")
        run("slurmd", "-f", str(conf), "-N", facts["name"])
        until(lambda: ask(environment, "sinfo", "-h", "-o", "%T") == "idle")
        yield environment
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            ask(environment, "scancel", "-u", "root")
            until(lambda: not ask(environment, "squeue", "-h"), 15.0)
        for name in ("slurmd.pid", "slurmctld.pid", "slurmdbd.pid", "db/pid", "munge/pid"):
            end(folder / name)
        if database is not None:
            database.wait(PATIENCE)
        with contextlib.suppress(OSError):
            (MEMORY / f"slurm_{facts['name']}").rmdir()


def _begin_database(folder, facts, environment, run):
    data, sock = folder / "db", folder / "db" / "sock"
    data.mkdir()
    install = ("--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db")
    run("mariadb-install-db", *install, "--auth-root-authentication-method=normal")
    with (folder / "log" / "mariadb.log").open("w") as log:
        database = subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
                *(f"--socket={sock}", f"--pid-file={data}/pid", "--bind-address=127.0.0.1"),
                *(f"--port={facts['database']}", "--innodb-buffer-pool-size=64M"),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    client = ("--no-defaults", "-uroot", f"--socket={sock}")
    until(lambda: "alive" in ask(environment, "mariadb-admin", *client, "ping"))
    user = (
        "CREATE USER slurm@'{0}' IDENTIFIED BY 'private'; GRANT ALL ON accounting.* TO slurm@'{0}';"
    )
    users = " ".join(user.format(host) for host in ("127.0.0.1", "localhost"))
    run("mariadb", *client, "-e", f"CREATE DATABASE accounting; {users}")
    return database


def _begin_accounting(folder, facts, run):
    settings = folder / "slurmdbd.conf"
    settings.write_text(DATABASE.format(**facts))
    settings.chmod(0o600)
    run("slurmdbd")
    until(lambda: _answers(int(facts["accounting"])))
    run("sacctmgr", "-i", "add", "cluster", "test")


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def ask(environment: dict[str, str], *command: str) -> str:
    """What a command prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def until(condition, patience: float = PATIENCE) -> None:
    """Wait for something, and fail if it does not come."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def end(pid_file: Path) -> None:
    """End a daemon that was started here."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            until(lambda: not alive(pid), 15.0)
            return
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs or sleeps."""
    try:
        os.kill(pid, 0)
        # Nobody collects the exit code of a daemon's child that this process has started.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
