"""The package installs, and a real systemd runs what it installed: as its own user, with everything that the unit takes from it."""

import json
import os
import threading
import unittest

from machine import Machine
from package import package

CONFIG = "/etc/tidecast/tidecast.toml"
LOG = "/run/tidecast.log"
PACKAGE = "/run/tidecast.deb"
# Where the configuration that comes with the package has the broker listen.
PUBLISH = ["curl", "--silent", "--show-error", "--max-time", "20", "--header", "Content-Type: text/plain",
           "--write-out", "%{http_code}", "--output", "/dev/null", "--data", "hello", "http://127.0.0.1:8080/t/service"]
# In place of the journal, which this machine lacks; and a watchdog for which nobody has to wait long.
ASIDE = f"[Service]\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\nWatchdogSec=2s\n"


@unittest.skipUnless(os.geteuid() == 0, "namespaces with an init of their own take root")
class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machine = Machine()
        cls.machine.__enter__()
        cls.addClassCleanup(cls.machine.__exit__)
        cls.install()
        for kind in ("service", "socket"):
            cls.machine.run("ln", "-s", f"/usr/lib/systemd/system/tidecast.{kind}", f"/etc/machine/tidecast.{kind}")
        cls.machine.write("/etc/machine/tidecast.service.d/aside.conf", ASIDE)
        cls.machine.run("systemctl", "daemon-reload")
        cls.config = cls.machine.run("cat", CONFIG)

    @classmethod
    def install(cls):
        cls.machine.copy(package(), PACKAGE)
        # The machine has the libraries of this one, whatever its list of packages says.
        cls.machine.run("dpkg", "--force-depends", "--force-unsafe-io", "--install", PACKAGE)

    def setUp(self):
        self.machine.write(CONFIG, self.config)
        self.machine.run("systemctl", "reset-failed")

    def tearDown(self):
        self.machine.run("systemctl", "stop", "tidecast.socket", "tidecast.service")

    def start(self):
        """Starts it, which lasts until it serves, and gives the process."""
        done = self.machine.ask(["systemctl", "start", "tidecast.service"])
        self.assertEqual(done.returncode, 0, done.stderr + self.log())
        self.assertEqual(self.machine.property("tidecast.service", "ActiveState"), "active")
        return self.main()

    def main(self):
        return self.machine.property("tidecast.service", "MainPID")

    def log(self):
        done = self.machine.ask(["cat", LOG])
        return done.stdout

    def publish(self):
        """The status of an answer, or what curl says if there is none."""
        done = self.machine.ask(PUBLISH)
        return done.stdout + done.stderr

    def test_it_serves_as_its_own_user_with_io_uring(self):
        self.machine.run("sh", "-c", f": >{LOG}")
        process = self.start()
        self.assertEqual(self.publish(), "202")
        self.assertEqual(self.machine.run("tidecast", "health"), "ready\n")
        self.assertRegex(self.machine.property("tidecast.service", "StatusText"), r"^serving with \d+ workers? on 127\.0\.0\.1:8080$")
        self.assertEqual(self.machine.run("stat", "--format=%U", f"/proc/{process}"), "tidecast\n")
        warnings = [line for line in self.log().splitlines() if line.startswith("{") and json.loads(line)["level"] != "INFO"]
        self.assertEqual(warnings, [])

    def test_it_is_reloaded_and_says_what_is_wrong_with_the_file(self):
        process = self.start()
        self.machine.write(CONFIG, self.config + "\n[limits]\nmax_pending = \"1M\"\n")
        self.machine.run("systemctl", "reload", "tidecast.service")
        self.machine.eventually("the file is taken", lambda: "configuration reloaded" in self.log())
        self.machine.write(CONFIG, self.config + "\n[limits]\nmax_pending = \"lots\"\n")
        self.machine.run("systemctl", "reload", "tidecast.service")
        self.machine.eventually("the file is not taken", lambda: "nothing is changed" in self.log())
        self.assertEqual((self.main(), self.publish()), (process, "202"))
        # It would not start with that either, and systemd does not try for ever.
        self.assertNotEqual(self.machine.ask(["systemctl", "restart", "tidecast.service"]).returncode, 0)
        self.machine.eventually(
            "it has failed", lambda: self.machine.property("tidecast.service", "ActiveState") == "failed")
        self.assertIn("limits.max_pending", self.log())

    def test_systemd_follows_an_upgrade_to_the_next_process(self):
        process = self.start()
        refused, is_over = [], threading.Event()

        def connect():
            while not is_over.is_set():
                if (code := self.publish()) != "202":
                    refused.append(code)

        thread = threading.Thread(target=connect)
        thread.start()
        try:
            for _ in range(3):
                self.machine.run("tidecast", "upgrade")
                process = self.follow(process)
                self.assertEqual(self.machine.property("tidecast.service", "ActiveState"), "active")
        finally:
            is_over.set()
            thread.join()
        self.assertEqual(refused, [])
        self.assertEqual(self.machine.property("tidecast.service", "NRestarts"), "0")
        # The last one is stopped like the first.
        self.machine.run("systemctl", "stop", "tidecast.service")
        self.assertEqual(self.machine.property("tidecast.service", "Result"), "success", self.log())

    def follow(self, process):
        """Waits for another process than that, and gives it."""
        self.machine.eventually("it has another process", lambda: self.main() not in (process, "0"))
        return self.main()

    def test_one_that_hangs_or_crashes_is_replaced_whoever_has_started_it(self):
        process = self.start()
        self.machine.run("kill", "-s", "STOP", process)
        process = self.follow(process)
        self.machine.eventually("that one serves", lambda: self.publish() == "202")
        for signal in ("STOP", "KILL"):
            self.machine.run("tidecast", "upgrade")
            process = self.follow(process)
            self.machine.run("kill", "-s", signal, process)
            process = self.follow(process)
            self.machine.eventually("that one serves", lambda: self.publish() == "202")
        self.assertEqual(self.machine.property("tidecast.service", "NRestarts"), "3")

    def test_with_its_socket_it_is_started_by_whoever_comes_and_refuses_nobody_while_it_starts_anew(self):
        self.machine.run("systemctl", "start", "tidecast.socket")
        self.assertEqual(self.machine.property("tidecast.service", "ActiveState"), "inactive")
        self.assertEqual(self.publish(), "202")
        process = self.main()
        self.machine.run("tidecast", "upgrade")
        process = self.follow(process)
        done = threading.Thread(target=lambda: self.machine.run("systemctl", "restart", "tidecast.service"))
        done.start()
        codes = []
        while done.is_alive():
            codes.append(self.publish())
        done.join()
        # The process that stops may answer a request that it has taken already: that it is to come again.
        self.assertLessEqual(set(codes), {"202", "503"})
        self.assertEqual(self.publish(), "202")
        self.assertNotEqual(self.main(), process)

    def test_it_is_removed_and_leaves_the_file_that_is_the_operators(self):
        self.start()
        self.machine.run("dpkg", "--remove", "tidecast")
        self.machine.run("test", "!", "-e", "/usr/bin/tidecast")
        self.assertEqual(self.machine.run("cat", CONFIG), self.config)
        self.install()
