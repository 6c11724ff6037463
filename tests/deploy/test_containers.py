"""The image, the profile and the compose file say what is there, and the broker runs under the profile."""

import fnmatch
import json
import re
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import yaml

from broker import BINARY, DEPLOY, ROOT, Broker, run, serve

DOCKER = DEPLOY / "docker"
UNDER = [ROOT / "tests/deploy/under_seccomp.py", DOCKER / "seccomp.json"]
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def instructions():
    """What the Dockerfile says: an instruction and the rest of its line, without comments, in one line each."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def tracked():
    return run(["git", "-C", ROOT, "ls-files"]).splitlines()


class Image(unittest.TestCase):
    def test_only_known_instructions_are_used_and_the_last_stage_is_not_root(self):
        said = instructions()
        self.assertLessEqual({name for name, _ in said}, INSTRUCTIONS)
        last = max(at for at, (name, _) in enumerate(said) if name == "FROM")
        users = [rest for name, rest in said[last:] if name == "USER"]
        self.assertEqual(len(users), 1)
        user, group = map(int, users[0].split(":"))
        self.assertTrue(user > 0 and group > 0)

    def test_images_are_named_with_a_version(self):
        stages = set()
        for name, rest in instructions():
            if name == "FROM":
                image, *alias = rest.split(" AS ")
                self.assertRegex(image, r":[\w.-]+$")
                self.assertFalse(image.endswith(":latest"))
                stages |= set(alias)
        for name, rest in instructions():
            if name == "COPY" and (stage := re.match(r"--from=(\w+) ", rest)):
                self.assertIn(stage[1], stages)

    def test_what_is_copied_is_in_the_repository_and_is_sent_to_the_builder(self):
        rules = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"]
        self.assertEqual(rules[0], "*")
        sent = [rule.removeprefix("!") for rule in rules[1:]]
        for name, rest in instructions():
            if name != "COPY" or rest.startswith("--from="):
                continue
            for source in rest.split()[:-1]:
                found = [file for file in tracked() if fnmatch.fnmatch(file, source) or file.startswith(f"{source}/")]
                self.assertTrue(found, source)
                for file in found:
                    self.assertTrue(any(fnmatch.fnmatch(file, rule) or file.startswith(f"{rule}/") for rule in sent), file)

    def test_what_is_copied_is_enough_for_cargo(self):
        files = tracked()
        with tempfile.TemporaryDirectory() as directory:
            for name, rest in instructions():
                if name == "COPY" and not rest.startswith("--from="):
                    for source in rest.split()[:-1]:
                        for file in files:
                            if fnmatch.fnmatch(file, source) or file.startswith(f"{source}/"):
                                to = Path(directory, file)
                                to.parent.mkdir(parents=True, exist_ok=True)
                                to.write_bytes((ROOT / file).read_bytes())
            manifest = Path(directory, "Cargo.toml")
            run(["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1", "--manifest-path", manifest])

    def test_the_compiler_is_new_enough(self):
        oldest = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        used = next(rest for name, rest in instructions() if name == "FROM")
        version = re.match(r"rust:([\d.]+)-", used)[1]
        self.assertGreaterEqual([int(part) for part in version.split(".")], [int(part) for part in oldest.split(".")])

    def test_the_health_check_says_whether_the_broker_is_ready(self):
        check = next(rest for name, rest in instructions() if name == "HEALTHCHECK")
        program, *arguments = json.loads(check.split(" CMD ", 1)[1])
        self.assertEqual(Path(program).name, BINARY.name)
        with serve() as broker:
            self.assertEqual(run([BINARY, *arguments, "--admin", broker.admin]), "ready\n")
        done = subprocess.run([BINARY, *arguments, "--admin", broker.admin], capture_output=True)
        self.assertEqual(done.returncode, 3)

    def test_without_a_word_about_who_may_come_the_image_does_not_serve(self):
        command = json.loads(next(rest for name, rest in instructions() if name == "CMD"))
        command = [word.replace(":8080", ":0") for word in command]
        done = subprocess.run([BINARY, *command, "--admin", "none"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--allow-anonymous", done.stderr)


class Profile(unittest.TestCase):
    profile = json.loads((DOCKER / "seccomp.json").read_text())

    def test_it_forbids_what_it_does_not_name_and_names_nothing_twice(self):
        self.assertEqual(self.profile["defaultAction"], "SCMP_ACT_ERRNO")
        names = [name for rule in self.profile["syscalls"] for name in rule["names"]]
        self.assertEqual(len(names), len(set(names)))
        known = {"comment", "names", "action", "args", "errnoRet"}
        for rule in self.profile["syscalls"]:
            self.assertLessEqual(rule.keys(), known)
            self.assertIn(rule["action"], ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"))

    def test_under_it_the_broker_serves_with_io_uring_and_with_epoll(self):
        for driver in ("io_uring", "epoll"):
            with self.subTest(driver), serve("--driver", driver, before=UNDER) as broker:
                url = f"ws://{broker.address}"
                subscriber = subprocess.Popen(
                    [*UNDER, BINARY, "sub", "--url", url, "--count", "1", "--timeout", "30s", "a/#"],
                    stdout=subprocess.PIPE, text=True)
                self.published(broker, subscriber)

    def published(self, broker, subscriber):
        # Nobody can see from outside when it has subscribed, but in the broker's own figures.
        while subscriber.poll() is None:
            with urllib.request.urlopen(f"{broker.admin}/v1/topics") as answer:
                if "a/#" in answer.read().decode():
                    break
        run([*UNDER, BINARY, "pub", "--url", f"ws://{broker.address}", "a/b", "hello"])
        said, _ = subscriber.communicate(timeout=60)
        self.assertIn("hello", said)

    def test_under_it_there_are_no_new_namespaces(self):
        done = subprocess.run([*UNDER, "unshare", "--net", "true"], capture_output=True, text=True)
        self.assertIn("not permitted", done.stderr)


class Compose(unittest.TestCase):
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = compose["services"]

    def test_every_file_that_is_named_is_in_the_repository(self):
        known = tracked()
        for service in self.services.values():
            for volume in service.get("volumes", []):
                source, target = volume.split(":")[:2]
                self.assertTrue(target.startswith("/"))
                if source.startswith("."):
                    path = (DOCKER / source).resolve().relative_to(ROOT)
                    self.assertTrue(any(file == str(path) or file.startswith(f"{path}/") for file in known), source)
                else:
                    self.assertIn(source, self.compose["volumes"])
        build = self.services["tidecast"]["build"]
        context = (DOCKER / build["context"]).resolve()
        self.assertEqual(context, ROOT)
        self.assertTrue((context / build["dockerfile"]).is_file())
        profile = next(option for option in self.services["tidecast"]["security_opt"] if option.startswith("seccomp:"))
        self.assertTrue((DOCKER / profile.removeprefix("seccomp:")).is_file())

    def test_services_refer_to_services(self):
        for service in self.services.values():
            self.assertLessEqual(set(service.get("depends_on", [])), self.services.keys())
            if "network_mode" in service:
                self.assertIn(service["network_mode"].removeprefix("service:"), self.services)
        for service in self.services.values():
            self.assertTrue("build" in service or re.search(r":v?[\d.]+$", service["image"]))

    def test_only_this_machine_reaches_what_anybody_may_use(self):
        for service in self.services.values():
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), port)

    def test_the_broker_takes_its_command(self):
        service = self.services["tidecast"]
        command = [word.replace(":8080", ":0") for word in service["command"]]
        with Broker([BINARY, *command, "--admin", "127.0.0.1:0"], True, **service["environment"]) as broker:
            self.assertRegex(broker.address, r":\d+$")

    def test_grafana_finds_prometheus_and_the_dashboard(self):
        provisioning = DEPLOY / "grafana/provisioning"
        source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"][0]
        # Prometheus is in the network of the service that it is named after there.
        host = re.match(r"http://(\w+):9090$", source["url"])[1]
        self.assertEqual(self.services["prometheus"]["network_mode"], f"service:{host}")
        provider = yaml.safe_load((provisioning / "dashboards/tidecast.yaml").read_text())["providers"][0]
        targets = [volume.split(":")[1] for volume in self.services["grafana"]["volumes"]]
        self.assertIn(f'{provider["options"]["path"]}/dashboard.json', targets)
        scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
        self.assertEqual(scraped["static_configs"][0]["targets"], ["127.0.0.1:9091"])
