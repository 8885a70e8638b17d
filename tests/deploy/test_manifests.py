"""The rendered manifests keep every rule, and every rule catches the defect that it is there for."""

import importlib
import json

import pytest
import typer.main

from deploy.checks import pod_rules, wiring_rules
from deploy.checks.manifest_rules import RULES, check_manifests
from deploy.checks.manifests import KUSTOMIZATIONS, Manifests, _kubectl, render, schema_problems, schema_version
from deploy.checks.pod_rules import environment, quantity_value, served
from deploy.checks.tools import ToolMissing
from services.runtime.settings import load_settings

DIGEST = "a" * 64


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_rendering_keeps_every_rule(rendered, name):
    assert check_manifests(rendered(name)) == []


@pytest.mark.parametrize(("version", "accepted"), [("v1.20.2", False), ("v1.27.0", True), ("v1.32.4-x", True)])
def test_kubectl_that_is_too_old_counts_as_missing(monkeypatch, tmp_path, version, accepted):
    program = tmp_path / "kubectl"
    answer = json.dumps({"clientVersion": {"gitVersion": version}})
    program.write_text(f"#!/bin/sh\n[ \"$1\" = version ] && echo '{answer}'\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    _kubectl.cache_clear()
    try:
        if accepted:
            assert render("base").objects == []
        else:
            with pytest.raises(ToolMissing, match=f"kubectl {version} is too old"):
                render("base")
    finally:
        _kubectl.cache_clear()


def test_schemas_are_recent():
    assert tuple(int(part) for part in schema_version().split(".")) >= (1, 34, 0)


def test_prod_brings_the_alerts_and_more_pods(rendered):
    prod, base = rendered("overlays/prod"), rendered("base")
    assert prod.named("PrometheusRule", "smartpipe") is not None
    assert prod.named("Deployment", "smartpipe-policy")["spec"]["replicas"] == 4
    assert base.named("Deployment", "smartpipe-policy")["spec"]["replicas"] == 2


def test_dev_needs_neither_certificates_nor_an_operator(rendered):
    dev = rendered("overlays/dev")
    assert dev.of_kind("ServiceMonitor") == []
    for container in dev.containers():
        assert [mount["name"] for mount in container.body["volumeMounts"]] == ["tmp"]
        found = load_settings(environment(dev, container.body))
        assert (found.kafka_security_protocol, found.kafka_ca_file) == ("PLAINTEXT", "")


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_container_runs_a_command_that_smartpipe_has(rendered, name):
    known = typer.main.get_command(importlib.import_module("services.cli.main").app).commands
    assert {tuple(c.body["args"]) for c in rendered(name).containers()} == {("policy",), ("rating",), ("migrate",)}
    assert {"policy", "rating", "migrate"} <= known.keys()


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_no_secret_is_rendered(rendered, name):
    assert rendered(name).of_kind("Secret") == []


def test_policy_pods_have_no_database_and_no_static_membership(rendered):
    base = rendered("base")
    for container in base.containers():
        names = environment(base, container.body).keys()
        assert "SMARTPIPE_INSTANCE_ID" not in names
        assert ("SMARTPIPE_DATABASE_URL" in names) == container.body["name"].startswith(("rating", "migrate"))


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/healthz/live", 200), ("/healthz/ready", 200), ("/healthz", 404)]
)
def test_paths_are_asked_of_the_real_operations_port(path, status):
    assert served(path) == status


@pytest.mark.parametrize(
    ("text", "value"),
    [("512Mi", 2**29), ("1Gi", 2**30), ("1G", 10**9), ("100m", "0.1"), ("1.5", "1.5"), (2, 2), ("512 Mi", None),
     ("1GB", None), ("-1", None), ("", None), ("Mi", None)],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_reads_them(text, value):
    found = quantity_value(text)
    assert found is None if value is None else found == type(found)(value)


# What follows plants one defect each: a rule, what is broken, and words of the complaint.


def policy(manifests):
    return manifests.named("Deployment", "smartpipe-policy")


def rating(manifests):
    return manifests.named("Deployment", "smartpipe-rating")


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def first(deployment):
    return pod(deployment)["containers"][0]


def config(manifests):
    return manifests.of_kind("ConfigMap")[0]["data"]


def budget(manifests):
    return manifests.named("PodDisruptionBudget", "smartpipe-policy")["spec"]


def put(mapping, **values):
    mapping.update(values)


W, P = wiring_rules, pod_rules
DEFECTS = [
    (W.names, lambda m: m.objects.append(policy(m)), "there twice"),
    (W.names, lambda m: put(policy(m)["metadata"], name="smartpipe_policy"), "not a DNS label"),
    (W.names, lambda m: put(policy(m)["metadata"], namespace="default"), "namespace 'default' is not rendered"),
    (W.names, lambda m: put(first(policy(m)), image="smartpipe"), "no fixed tag"),
    (W.names, lambda m: put(first(policy(m)), image="smartpipe:latest"), "no fixed tag"),
    (W.selectors, lambda m: put(policy(m)["spec"]["selector"]["matchLabels"], tier="x"), "selects the pods of nobody"),
    (W.selectors, lambda m: policy(m)["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
     "selects the pods of Deployment smartpipe-policy, Deployment smartpipe-rating"),
    (W.selectors, lambda m: put(m.named("Service", "smartpipe-rating")["spec"]["selector"], tier="x"),
     "Service smartpipe-rating: its selector selects the pods of 0"),
    (W.selectors, lambda m: budget(m)["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
     "PodDisruptionBudget smartpipe-policy: its selector selects the pods of 2"),
    (W.selectors, lambda m: put(m.named("NetworkPolicy", "allow-api")["spec"], podSelector={"matchLabels": {"a": "b"}}),
     "NetworkPolicy allow-api: its selector selects the pods of 0"),
    (W.selectors, lambda m: put(pod(policy(m))["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"], a="b"),
     "does not select its own pods"),
    (W.selectors, lambda m: put(m.named("ServiceMonitor", "smartpipe")["spec"]["selector"]["matchLabels"], a="b"),
     "selects no Service"),
    (W.ports, lambda m: put(first(rating(m))["ports"][0], name="web"), "aims at http, which"),
    (W.ports, lambda m: put(first(policy(m))["livenessProbe"]["httpGet"], port="op"), "asks port op, which it lacks"),
    (W.ports, lambda m: put(first(rating(m))["ports"][1], name="http"), "a name of its own"),
    (W.ports, lambda m: put(m.named("NetworkPolicy", "allow-scrape")["spec"]["ingress"][0]["ports"][0], port="metrics"),
     "lets in port metrics"),
    (W.volumes, lambda m: pod(policy(m))["volumes"].pop(0), "no such volume"),
    (W.volumes, lambda m: pod(policy(m))["volumes"].append({"name": "spare", "emptyDir": {"sizeLimit": "1Mi"}}),
     "spare is mounted nowhere"),
    (W.volumes, lambda m: put(pod(policy(m))["volumes"][1]["secret"], secretName="other"), "Secret other is not in"),
    (W.volumes, lambda m: pod(policy(m))["volumes"].append({"name": "ca", "configMap": {"name": "other"}}),
     "ConfigMap other is not rendered"),
    (W.references, lambda m: put(first(policy(m))["envFrom"][0]["configMapRef"], name="other"), "not a rendered"),
    (W.references, lambda m: put(first(policy(m))["env"][0]["valueFrom"]["secretKeyRef"], key="user"), "key user is"),
    (W.references, lambda m: put(first(policy(m))["env"][0], valueFrom={"configMapKeyRef": {"name": "x", "key": "y"}}),
     "ConfigMap x key y is not rendered"),
    (W.references, lambda m: first(policy(m))["env"].append({"name": "SMARTPIPE_KAFKA_SASL_PASSWORD", "value": "x"}),
     "has to come from a Secret"),
    (W.disruption, lambda m: m.objects.remove(m.named("PodDisruptionBudget", "smartpipe-policy")), "0 PodDisruption"),
    (W.disruption, lambda m: put(budget(m), maxUnavailable=0), "maxUnavailable has to be 1"),
    (W.disruption, lambda m: put(budget(m), minAvailable=2), "maxUnavailable has to be 1"),
    (W.disruption, lambda m: budget(m).pop("unhealthyPodEvictionPolicy"), "AlwaysAllow"),
    (W.disruption, lambda m: put(policy(m)["spec"]["strategy"]["rollingUpdate"], maxSurge=1), "maxSurge has to be 0"),
    (W.disruption, lambda m: put(rating(m)["spec"]["strategy"]["rollingUpdate"], maxSurge=0), "no roll-out ever moves"),
    (W.disruption, lambda m: put(rating(m)["spec"], replicas=0), "has no replicas"),
    (W.network, lambda m: put(m.named("NetworkPolicy", "default-deny")["spec"], policyTypes=["Ingress"]), "by default"),
    (W.network, lambda m: put(m.named("NetworkPolicy", "default-deny")["spec"], ingress=[{}]), "by default"),
    (W.monitoring, lambda m: put(m.of_kind("ServiceMonitor")[0]["spec"], endpoint=[]), "endpoint is missing or not"),
    (W.monitoring, lambda m: m.of_kind("ServiceMonitor")[0]["spec"].pop("endpoints"), "endpoints is missing or not"),
    (W.monitoring, lambda m: put(m.of_kind("ServiceMonitor")[0]["spec"]["endpoints"][0], intervall="15s"),
     "intervall of an endpoint"),
    (W.monitoring, lambda m: put(m.of_kind("ServiceMonitor")[0]["spec"]["endpoints"][0], port="metrics"),
     "has no port named metrics"),
    (W.monitoring, lambda m: put(m.of_kind("ServiceMonitor")[0]["spec"]["endpoints"][0], port="http"), "named ops"),
    (W.monitoring, lambda m: put(m.of_kind("ServiceMonitor")[0]["spec"]["endpoints"][0], path="/metric"),
     "/metric is not served"),
    (W.monitoring, lambda m: m.named("Service", "smartpipe-policy")["metadata"].pop("labels"), "is not scraped"),
    (P.settings, lambda m: pod(policy(m)).pop("enableServiceLinks"), "enableServiceLinks has to be false"),
    (P.settings, lambda m: put(config(m), SMARTPIPE_LOGS="kafka"), "unknown setting SMARTPIPE_LOGS"),
    (P.settings, lambda m: put(config(m), SMARTPIPE_HTTP_PORT="eighty"), "SMARTPIPE_HTTP_PORT: 'eighty' is refused"),
    (P.settings, lambda m: put(config(m), SMARTPIPE_LOG="embedded"), "LOG has to be kafka"),
    (P.settings, lambda m: config(m).pop("SMARTPIPE_OPS_HOST"), "OPS_HOST has to be 0.0.0.0"),
    (P.settings, lambda m: put(config(m), SMARTPIPE_HTTP_HOST="127.0.0.1"), "HTTP_HOST has to be 0.0.0.0"),
    (P.settings, lambda m: put(config(m), SMARTPIPE_RATING_OPS_PORT="9103"), "the settings say {'ops': 9103"),
    (P.settings, lambda m: put(first(policy(m))["ports"][0], containerPort=9100), "opens {'ops': 9100}"),
    (P.settings, lambda m: put(config(m), SMARTPIPE_KAFKA_CA_FILE="/ca.crt"), "/ca.crt is mounted nowhere"),
    (P.probes, lambda m: first(policy(m)).pop("startupProbe"), "no startupProbe"),
    (P.probes, lambda m: put(first(policy(m))["livenessProbe"], exec={"command": ["true"]}), "has httpGet, exec"),
    (P.probes, lambda m: put(first(policy(m))["livenessProbe"]["httpGet"], path="/healthz"), "/healthz is not served"),
    (P.probes, lambda m: put(first(policy(m))["livenessProbe"]["httpGet"], path="/healthz/ready"), "mends no broker"),
    (P.probes, lambda m: put(first(rating(m))["readinessProbe"]["httpGet"], path="/healthz/live"), "does not ask"),
    (P.probes, lambda m: put(first(rating(m))["readinessProbe"]["httpGet"], port="http"), "health is on ops"),
    (P.probes, lambda m: first(rating(m))["readinessProbe"].pop("timeoutSeconds"), "gives up before the service"),
    (P.shutdown, lambda m: pod(rating(m)).pop("terminationGracePeriodSeconds"), None),
    (P.shutdown, lambda m: put(pod(rating(m)), terminationGracePeriodSeconds=20), "20 s of grace is not enough"),
    (P.shutdown, lambda m: put(config(m), SMARTPIPE_DRAIN_TIMEOUT_MS="60000"), "40 s of grace is not enough"),
    (P.security, lambda m: m.of_kind("Namespace")[0]["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
     "pod-security.kubernetes.io/enforce is not restricted"),
    (P.security, lambda m: put(pod(policy(m))["securityContext"], runAsUser=0), "other than 0"),
    (P.security, lambda m: pod(policy(m))["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
    (P.security, lambda m: pod(policy(m))["securityContext"].pop("seccompProfile"), "seccompProfile"),
    (P.security, lambda m: pod(policy(m)).pop("automountServiceAccountToken"), "service account token"),
    (P.security, lambda m: put(pod(policy(m)), hostNetwork=True), "hostNetwork is on"),
    (P.security, lambda m: pod(policy(m))["volumes"].append({"name": "node", "hostPath": {"path": "/"}}), "hostPath"),
    (P.security, lambda m: first(policy(m))["securityContext"].pop("allowPrivilegeEscalation"), "Escalation"),
    (P.security, lambda m: first(policy(m))["securityContext"].pop("readOnlyRootFilesystem"), "writable"),
    (P.security, lambda m: put(first(policy(m))["securityContext"]["capabilities"], add=["NET_RAW"]), "capabilities"),
    (P.security, lambda m: pod(rating(m))["initContainers"][0].pop("securityContext"), "container migrate: "),
    (P.security, lambda m: put(first(policy(m))["securityContext"], privileged=True), "with privileges"),
    (P.security, lambda m: put(first(policy(m))["ports"][0], hostPort=9101), "port 9101 of the node"),
    (P.resources, lambda m: put(first(policy(m))["resources"]["limits"], memory="2GB"), "'2GB' is no quantity"),
    (P.resources, lambda m: first(policy(m))["resources"].pop("limits"), "a limit for memory are needed"),
    (P.resources, lambda m: first(policy(m))["resources"]["requests"].pop("cpu"), "a limit for memory are needed"),
    (P.resources, lambda m: put(first(policy(m))["resources"]["limits"], cpu="2"), "throttles heartbeats"),
    (P.resources, lambda m: put(first(policy(m))["resources"]["requests"], memory="4Gi"), "more memory than its limit"),
    (P.resources, lambda m: pod(policy(m))["volumes"][0]["emptyDir"].pop("sizeLimit"), "needs a sizeLimit"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "plant", "words"), DEFECTS)
def test_planted_defect_is_caught(rendered, rule, plant, words):
    manifests = rendered("base")
    assert list(rule(manifests)) == []
    plant(manifests)
    complaints = list(rule(manifests))
    if words is None:  # this change is allowed: the default of Kubernetes is enough
        assert complaints == []
    else:
        assert any(words in complaint for complaint in complaints), complaints


def test_every_rule_has_a_planted_defect():
    assert {rule for rule, _, words in DEFECTS if words} == set(RULES)


SCHEMA_DEFECTS = [
    (lambda m: put(policy(m)["spec"], replica=2), "replica"),
    (lambda m: put(policy(m)["spec"], replicas="two"), "replicas"),
    (lambda m: policy(m)["spec"].pop("selector"), "selector"),
    (lambda m: put(policy(m), apiVersion="extensions/v1beta1"), "Couldn't find schema"),
    (lambda m: put(m.of_kind("PodDisruptionBudget")[0], apiVersion="policy/v1beta1"), "Couldn't find schema"),
    (lambda m: put(m.of_kind("ServiceMonitor")[0], kind="PodMonitor"), "not among the custom resources"),
]


@pytest.mark.parametrize(("plant", "words"), SCHEMA_DEFECTS)
def test_broken_schema_is_caught(rendered, plant, words):
    manifests = rendered("base")
    plant(manifests)
    assert any(words in complaint for complaint in schema_problems(manifests))
    assert check_manifests(manifests) == list(schema_problems(manifests))


def test_image_by_digest_is_accepted(rendered):
    manifests: Manifests = rendered("base")
    for container in manifests.containers():
        put(container.body, image=f"registry.example:5000/team/smartpipe@sha256:{DIGEST}")
    assert list(wiring_rules.names(manifests)) == []
