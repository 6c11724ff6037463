"""The manifests and the chart are what Kubernetes takes, and what they say goes together."""

import tempfile
import unittest

import kubernetes_validate
import yaml

import chart
from broker import BINARY, DEPLOY, run

VERSION = "1.37"
# Objects of an operator, which Kubernetes itself does not know.
FOREIGN = {"PodMonitor"}
# Every value that changes what there is.
EVERYTHING = {
    "allowAnonymous": True,
    "secrets": ["certificate"],
    "service": {"type": "LoadBalancer", "annotations": {"example.com/balancer": "tcp"}},
    "podMonitor": {"enabled": True},
    "seccompProfile": "profiles/tidecast.json",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "brokers", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def plain():
    kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        yield from yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())


def rendered(values):
    for name, text in chart.render(DEPLOY / "helm/tidecast", values).items():
        if name.endswith(".yaml"):
            yield from filter(None, yaml.safe_load_all(text))


VARIANTS = {"manifests": plain, "chart": lambda: rendered({}), "chart with everything": lambda: rendered(EVERYTHING)}


def for_each(test):
    """Runs a test for all that can be applied to a cluster: objects by kind and name."""

    def every(self):
        for name, objects in VARIANTS.items():
            with self.subTest(name):
                test(self, {(one["kind"], one["metadata"]["name"]): one for one in objects()})

    return every


class Kubernetes(unittest.TestCase):
    def one(self, objects, kind):
        found = [one for (of, _), one in objects.items() if of == kind]
        self.assertEqual(len(found), 1, kind)
        return found[0]

    @for_each
    def test_every_object_is_of_its_schema_and_has_no_other_fields(self, objects):
        for (kind, _), one in objects.items():
            if kind not in FOREIGN:
                kubernetes_validate.validate(one, VERSION, strict=True)

    def test_a_field_that_is_not_there_is_found(self):
        one = next(one for one in plain() if one["kind"] == "Deployment")
        one["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(one, VERSION, strict=True)

    @for_each
    def test_services_and_budgets_select_the_pods_and_name_their_ports(self, objects):
        pod = self.one(objects, "Deployment")["spec"]["template"]
        labels = pod["metadata"]["labels"].items()
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        for (kind, _), one in objects.items():
            if kind == "Service":
                self.assertLessEqual(one["spec"]["selector"].items(), labels)
                self.assertLessEqual({port["targetPort"] for port in one["spec"]["ports"]}, ports)
            elif kind in ("PodDisruptionBudget", "Deployment", "PodMonitor"):
                self.assertLessEqual(one["spec"]["selector"]["matchLabels"].items(), labels)

    @for_each
    def test_what_is_mounted_is_there(self, objects):
        spec = self.one(objects, "Deployment")["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in spec["containers"][0]["volumeMounts"]:
            self.assertIn(mount["name"], volumes)
        self.assertIn(("ConfigMap", volumes["config"]["configMap"]["name"]), objects)

    @for_each
    def test_the_pod_has_no_rights_that_it_needs_not(self, objects):
        spec = self.one(objects, "Deployment")["spec"]["template"]["spec"]
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertFalse(spec["automountServiceAccountToken"])
        container = spec["containers"][0]["securityContext"]
        self.assertEqual(container["capabilities"], {"drop": ["ALL"]})
        self.assertTrue(container["readOnlyRootFilesystem"])
        self.assertFalse(container["allowPrivilegeEscalation"])

    @for_each
    def test_the_broker_takes_its_configuration_and_its_arguments(self, objects):
        _, digest = run([BINARY, "token", "random"]).splitlines()
        digest = digest.split('"')[1]
        container = self.one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        variables = {one["name"]: one.get("value", digest) for one in container["env"]}
        text = self.one(objects, "ConfigMap")["data"]["tidecast.toml"]
        self.assertEqual(container["args"], ["serve", "--config", "/etc/tidecast/tidecast.toml"])
        # Without somebody who is let in, the chart's own configuration is refused: that is meant.
        variables.setdefault("TIDECAST_ALLOW_ANONYMOUS", "true")
        self.check(text, variables)

    def check(self, text, variables):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            shown = run([BINARY, "config", "show", "--config", file.name], env=variables)
        self.assertIn("0.0.0.0:9091", shown)
        self.assertIn("0.0.0.0:8080", shown)

    @for_each
    def test_it_has_time_to_say_goodbye(self, objects):
        spec = self.one(objects, "Deployment")["spec"]["template"]["spec"]
        before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], before + 30)

    def test_a_value_that_there_is_not_is_an_error(self):
        with self.assertRaises(chart.ChartError):
            chart.render(DEPLOY / "helm/tidecast", {"seccompProfil": "x"})
