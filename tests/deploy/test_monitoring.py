"""What Prometheus and Grafana are told to look at is there, in what the real binary says of itself."""

import json
import re
import tempfile
import unittest
import urllib.request
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from broker import BINARY, DEPLOY, run, serve

# What Prometheus adds to everything.
ADDED = {"instance", "job"}
SELECTED = re.compile(r"\b((?:tidecast|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def dashboard():
    return json.loads((DEPLOY / "grafana/dashboard.json").read_text())


def alerts():
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries():
    """Each query with what it belongs to, and Grafana's variables filled in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            yield f'panel {panel["title"]}', query, target["legendFormat"]
    for rule in alerts():
        yield f'alert {rule["alert"]}', rule["expr"], " ".join(rule["annotations"].values())


class Monitoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with serve() as broker:
            with urllib.request.urlopen(f"{broker.admin}/metrics") as answer:
                text = answer.read().decode()
        cls.series = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = cls.series.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)

    def test_every_metric_label_and_value_that_is_asked_for_is_in_a_scrape(self):
        asked = 0
        for where, query, shown in queries():
            with self.subTest(where):
                grouping = set(ADDED)
                for name, matchers in SELECTED.findall(query):
                    asked += 1
                    self.assertIn(name, self.series)
                    labels = self.series[name]
                    grouping |= set(labels)
                    for label, how, value in MATCHER.findall(matchers):
                        if label in ADDED:
                            continue
                        self.assertIn(label, labels, name)
                        if how in ("=", "!="):
                            self.assertIn(value, labels[label], f"{name}, {label}")
                for names in GROUPED.findall(query):
                    self.assertLessEqual({name.strip() for name in names.split(",")}, grouping)
                for name in re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", shown):
                    self.assertIn(name, grouping)
        self.assertGreater(asked, 50)

    def test_every_query_can_be_read_by_prometheus(self):
        rules = [{"record": f"query_{number}", "expr": query} for number, (_, query, _) in enumerate(queries())]
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "rules.yml")
            file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
            run(["promtool", "check", "rules", file])

    def test_every_metric_of_the_workers_is_on_the_dashboard(self):
        drawn = {name for _, query, _ in queries() for name, _ in SELECTED.findall(query)}
        missing = {name for name in self.series if name.startswith("tidecast_")} - drawn
        # Of a histogram the buckets are drawn; the number of workers and the version are no course of anything.
        missing = {name for name in missing if not name.endswith(("_sum", "_count"))}
        self.assertEqual(missing, {"tidecast_workers", "tidecast_build_info"})

    def test_prometheus_takes_its_configuration_and_its_rules(self):
        run(["promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"])

    def test_alerts_come_when_they_should_and_only_then(self):
        tests = DEPLOY / "prometheus/alerts_test.yml"
        run(["promtool", "test", "rules", tests])
        text = tests.read_text()
        for rule in alerts():
            self.assertEqual(text.count(f'{rule["alert"]},'), 1, "not when all is well")
            self.assertIn(f'alertname="{rule["alert"]}"', text, "but in trouble")

    def test_every_alert_says_what_to_do(self):
        headings = re.findall(r"^#+ (.*)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        for rule in alerts():
            path, _, anchor = rule["annotations"]["runbook"].partition("#")
            self.assertEqual(path, "deploy/README.md")
            self.assertIn(anchor, anchors, rule["alert"])

    def test_the_dashboard_is_what_its_table_makes(self):
        made = run([DEPLOY / "grafana/dashboard.py"])
        self.assertEqual(made, (DEPLOY / "grafana/dashboard.json").read_text(), "run deploy/grafana/dashboard.py")

    def test_panels_do_not_overlap(self):
        taken = set()
        for panel in dashboard()["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(taken & cells, panel["title"])
            taken |= cells

    def test_the_readme_has_the_table_of_metrics(self):
        table = run([BINARY, "docs", "metrics"])
        self.assertIn(table, (DEPLOY / "README.md").read_text(), "`tidecast docs metrics` prints another one")
