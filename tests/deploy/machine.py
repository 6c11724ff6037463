"""A machine with systemd as its first process, made of namespaces: what is written in it, its network and its processes are its
own, and are gone with it. It takes root."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from broker import DEADLINE, environment, output

# Of the units that this machine has, it gets those it is told of: none that would do something to the kernel, which is shared.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1"/{upper,work,root}
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
ip link set lo up
mkdir -p etc/machine
for unit in boot sysinit basic sockets shutdown network-online multi-user; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$unit" >"etc/machine/$unit.target"
done
mkdir -p old
pivot_root . old
umount --lazy /old
export container=namespaces SYSTEMD_UNIT_PATH=/etc/machine
exec /lib/systemd/systemd --system --unit=boot.target --log-target=console --log-level=warning --show-status=no
"""


def cgroups():
    """Where those of version 2 are."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("there are no cgroups of version 2")


class Machine:
    """Runs until the end of a `with`."""

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        # Where systemd makes those of its services, and nothing else is.
        self.group = cgroups() / f"tidecast-machine-{os.getpid()}"
        self.group.mkdir()
        enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.group]
        spaces = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--net", "--ipc", "--uts"]
        self.outside = subprocess.Popen(
            [*enter, *spaces, "bash", "-c", BOOT, "boot", self.directory.name], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
        try:
            # It may take as long as it needs to answer, and may have failed.
            self.eventually("systemd answers", lambda: self.ask(["systemctl", "is-active", "boot.target"]).returncode == 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.outside.kill()
        said, _ = self.outside.communicate(timeout=DEADLINE)
        print(said, end="")
        for _ in range(1000):
            if "populated 0" in (self.group / "cgroup.events").read_text():
                break
            time.sleep(0.01)
        for place, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(place)
        self.directory.cleanup()

    def ask(self, command, input=subprocess.DEVNULL):
        """What became of a command in there."""
        children = Path(f"/proc/{self.outside.pid}/task/{self.outside.pid}/children").read_text().split()
        if self.outside.poll() is not None or not children:
            return subprocess.CompletedProcess(command, 1, "", "it has not begun, or has ended")
        enter = ["nsenter", "--target", children[0], "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd"]
        return subprocess.run(
            [*enter, *(str(word) for word in command)], stdin=input, capture_output=True, text=True, timeout=DEADLINE,
            env=environment())

    def run(self, *command, input=subprocess.DEVNULL):
        """The output of a command in there that ends well."""
        return output(self.ask(command, input))

    def copy(self, file, path):
        """Gives it a file, which may be where it sees nothing of the other machine."""
        with open(file, "rb") as content:
            self.run("sh", "-c", 'cat >"$0"', path, input=content)

    def write(self, path, text):
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"', path, text)

    def property(self, unit, name):
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    @staticmethod
    def eventually(what, is_so):
        limit = time.monotonic() + DEADLINE
        while not is_so():
            if time.monotonic() > limit:
                raise AssertionError(f"not in {DEADLINE} s: {what}")
            time.sleep(0.02)
