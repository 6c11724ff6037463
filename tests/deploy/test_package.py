"""The Debian package has what it should, installs, and what it installed runs."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from broker import DEADLINE, ROOT, Broker, run
from package import package

# What lintian calls errors and is meant: the project has no address of its own, its history is in git, and one of the two
# licences is there in full.
MEANT = {"copyright-not-using-common-license-for-apache2", "malformed-contact", "no-changelog"}
WANTED = [
    "etc/tidecast/tidecast.toml", "usr/bin/tidecast", "usr/lib/sysctl.d/99-tidecast.conf", "usr/lib/sysusers.d/tidecast.conf",
    "usr/lib/systemd/system/tidecast.service", "usr/lib/systemd/system/tidecast.socket",
    "usr/share/bash-completion/completions/tidecast", "usr/share/doc/tidecast/copyright", "usr/share/doc/tidecast/README.md",
    "usr/share/doc/tidecast/examples/prometheus/alerts.yml", "usr/share/fish/vendor_completions.d/tidecast.fish",
    "usr/share/man/man1/tidecast-serve.1.gz", "usr/share/man/man1/tidecast.1.gz", "usr/share/zsh/vendor-completions/_tidecast",
]


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.package = package()
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        cls.root = Path(cls.directory.name)
        run(["dpkg-deb", "--extract", cls.package, cls.root])

    def field(self, name):
        return run(["dpkg-deb", "--field", self.package, name]).strip()

    def test_it_has_everything_in_its_place(self):
        for name in WANTED:
            self.assertTrue((self.root / name).is_file(), name)

    def test_the_configuration_is_kept_when_it_is_upgraded(self):
        files = run(["dpkg-deb", "--info", self.package, "conffiles"]).split()
        self.assertEqual(files, ["/etc/tidecast/tidecast.toml"])

    def test_it_says_what_it_needs_and_what_it_is(self):
        version = re.search(r'^version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertRegex(self.field("Version"), rf"^{re.escape(version)}-\d")
        self.assertIn("libc6", self.field("Depends"))

    def test_what_was_installed_serves_with_the_configuration_that_came_with_it(self):
        program, config = self.root / "usr/bin/tidecast", self.root / "etc/tidecast/tidecast.toml"
        run([program, "config", "check", config])
        with Broker([program, "serve", "--config", config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], True) as broker:
            self.assertEqual(run([program, "health", "--admin", broker.admin]), "ready\n")

    def test_the_service_names_what_was_installed(self):
        unit = (self.root / "usr/lib/systemd/system/tidecast.service").read_text()
        for path in re.findall(r"(?:/usr/bin/tidecast|/etc/tidecast/tidecast\.toml)", unit):
            self.assertTrue((self.root / path.lstrip("/")).is_file(), path)
        user = re.search(r"^User=(\w+)$", unit, re.MULTILINE)[1]
        run(["systemd-sysusers", f"--root={self.root}", self.root / "usr/lib/sysusers.d/tidecast.conf"])
        self.assertIn(f"\n{user}:", "\n" + (self.root / "etc/passwd").read_text())

    def test_completions_are_for_the_shell_that_they_say(self):
        run(["bash", "-n", self.root / "usr/share/bash-completion/completions/tidecast"])
        self.assertTrue((self.root / "usr/share/zsh/vendor-completions/_tidecast").read_text().startswith("#compdef tidecast"))

    def test_debian_finds_nothing_wrong_with_it(self):
        done = subprocess.run(
            ["lintian", "--fail-on", "none", "--tag-display-limit", "0", self.package],
            capture_output=True, text=True, timeout=DEADLINE)
        self.assertIn("malformed-contact", done.stdout, "lintian has looked")
        errors = {line.split()[2] for line in done.stdout.splitlines() if line.startswith("E:")}
        self.assertEqual(errors - MEANT, set(), done.stdout)
