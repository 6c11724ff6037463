"""The real binary, for the tests of deploy/."""

import json
import os
import re
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BINARY = Path(os.environ["TIDECAST_BINARY"])
# What anything may take before a test gives up on it, in seconds.
DEADLINE = 60


def output(done):
    """That of a command that has ended well; else an error with all that it said."""
    if done.returncode != 0:
        raise AssertionError(f"{done.args}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run(command, **more):
    """Its output, if it ends well."""
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        **more)
    return output(done)


def environment(**more):
    """Without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDECAST_", "LISTEN_"))}
    return kept | more


class Broker:
    """A broker that runs until the end of a `with`, and then has to stop in order."""

    def __init__(self, command, is_for_programs=False, **more):
        self.is_for_programs = is_for_programs
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment(**more))

    def __enter__(self):
        # One that hangs is ended, and then there is nothing more to read.
        limit = threading.Timer(DEADLINE, self.process.kill)
        limit.start()
        said = []
        # For programs, it says all on its standard error.
        stream = self.process.stderr if self.is_for_programs else self.process.stdout
        for line in stream:
            said.append(line)
            is_object = self.is_for_programs and line.startswith("{")
            text = json.loads(line)["message"] if is_object else line
            if found := re.match(r"listening on http://(\S+?)/", text):
                self.address = found[1]
            if found := re.match(r"control plane on (http://\S+?)/ ", text):
                self.admin = found[1]
            if text.startswith("try:"):
                limit.cancel()
                return self
        limit.cancel()
        raise AssertionError("".join(said) + "".join(self.process.communicate(timeout=DEADLINE)))

    def __exit__(self, *_):
        self.process.terminate()
        try:
            _, errors = self.process.communicate(timeout=DEADLINE)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, errors


def serve(*arguments, before=(), **more):
    """On ports that are free."""
    command = [*before, BINARY, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments]
    return Broker(command, **more)
