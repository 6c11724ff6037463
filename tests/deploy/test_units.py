"""What systemd is told is right, strict, and enough for the broker."""

import ctypes
import json
import re
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from broker import BINARY, DEPLOY, DEADLINE, Broker, run

SERVICE = DEPLOY / "systemd/tidecast.service"
SOCKET = DEPLOY / "systemd/tidecast.socket"
# systemd's own measure, from 0 (safe) to 10 (unsafe). A service with a network has two points it cannot lose.
EXPOSURE = 2.0


def unit(file):
    """What a unit file says: for each section and name, all values in their order."""
    said, section = {}, None
    for line in file.read_text().splitlines():
        if line.startswith("["):
            section = said.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return said


def seconds(text):
    number, unit = re.match(r"(\d+)(s|min)?$", text).groups()
    return int(number) * {"min": 60}.get(unit, 1)


def setting(name):
    """A setting's default in seconds, as the example says it."""
    text = (DEPLOY / "tidecast.example.toml").read_text()
    found = re.search(rf'^# {name} = "(\d+(?:s|m))"$', text, re.MULTILINE)
    return seconds(found[1].replace("m", "min"))


def system_calls(filters):
    """What is allowed by the lines of SystemCallFilter=, in their order."""
    sets = {}
    for line in run(["systemd-analyze", "syscall-filter"]).splitlines():
        if line.startswith("@"):
            members = sets.setdefault(line, [])
        elif line.strip() and not line.strip().startswith("#"):
            members.append(line.strip())

    def expand(name):
        return set().union(*map(expand, sets[name])) if name.startswith("@") else {name}

    allowed = set()
    for line in filters:
        names = set().union(*map(expand, line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    # systemd names some that this machine's library has not heard of yet.
    library = ctypes.CDLL("libseccomp.so.2")
    return {name for name in allowed if library.seccomp_syscall_resolve_name(name.encode()) != -1}


class Units(unittest.TestCase):
    service = unit(SERVICE)["Service"]

    def value(self, name):
        (value,) = self.service[name]
        return value

    def test_systemd_takes_them(self):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            # Where the units look for programs, the one under test and what is otherwise there.
            (root / "usr/bin").mkdir(parents=True)
            (root / "usr/bin/tidecast").symlink_to(BINARY)
            for unit in (SERVICE, SOCKET):
                text = unit.read_text().replace("/usr/bin/tidecast", str(root / "usr/bin/tidecast"))
                (root / unit.name).write_text(text)
            done = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", root / SERVICE.name, root / SOCKET.name],
                capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_the_service_is_exposed_to_little(self):
        limit = str(round(EXPOSURE * 10))
        run(["systemd-analyze", "security", "--offline=true", f"--threshold={limit}", SERVICE])

    def test_the_broker_serves_under_its_filter_with_io_uring(self):
        allowed = system_calls(self.service["SystemCallFilter"])
        self.assertFalse(allowed & {"mount", "reboot", "init_module", "ptrace", "bpf", "setuid"})
        command = self.value("ExecStart").split()
        self.assertEqual(command[0], "/usr/bin/tidecast")
        with tempfile.TemporaryDirectory() as directory:
            profile, config = Path(directory, "profile.json"), Path(directory, "tidecast.toml")
            # What systemd makes of the lines; `execve` it does itself, once.
            rule = {"names": sorted(allowed | {"execve"}), "action": "SCMP_ACT_ALLOW"}
            profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
            text = (DEPLOY / "debian/tidecast.toml").read_text()
            config.write_text(text.replace(":8080", ":0").replace(":9091", ":0"))
            arguments = [word.replace("/etc/tidecast/tidecast.toml", str(config)) for word in command[1:]]
            self.assertNotEqual(arguments, command[1:])
            under = Path(__file__).with_name("under_seccomp.py")
            notify = Path(directory, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.bind(str(notify))
                told.settimeout(DEADLINE)
                broker = Broker([under, profile, BINARY, *arguments, "--driver", "io_uring"], True, NOTIFY_SOCKET=str(notify))
                self.assertEqual(self.value("Type"), "notify")
                with broker:
                    self.assertIn(b"READY=1", told.recv(4096))

    def test_systemd_waits_longer_than_the_broker_takes(self):
        self.assertGreater(seconds(self.value("TimeoutStopSec")), setting("drain_spread") + setting("drain_timeout") + 2)
        self.assertGreater(seconds(self.value("TimeoutStartSec")), setting("upgrade_timeout"))

    def test_the_socket_listens_where_the_broker_is_configured_to(self):
        (address,) = unit(SOCKET)["Socket"]["ListenStream"]
        self.assertIn(f'listen = ["{address}"]', (DEPLOY / "debian/tidecast.toml").read_text())
        self.assertEqual(unit(SOCKET)["Socket"]["Backlog"], ["4096"])


class Kernel(unittest.TestCase):
    def test_every_setting_is_one_that_this_kernel_has_or_may_lack(self):
        found = 0
        for line in (DEPLOY / "sysctl/99-tidecast.conf").read_text().splitlines():
            # What is left to the reader is a setting too.
            said = re.match(r"(?:# )?(-?)([a-z_]+(?:\.[a-z0-9_]+)+) = (\S+)$", line)
            if not said:
                self.assertTrue(not line or line.startswith("#"), line)
                continue
            found += 1
            optional, name, _ = said.groups()
            path = Path("/proc/sys", name.replace(".", "/"))
            self.assertTrue(path.exists() or optional or line.startswith("#"), name)
        self.assertGreater(found, 3)
