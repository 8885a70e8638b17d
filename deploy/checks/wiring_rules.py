"""Whether the objects of one rendering fit each other: names, selectors, ports, volumes, keys, budgets.

Each rule takes a Manifests and yields complaints.
"""

import re
from collections.abc import Iterator

from deploy.checks.manifests import (
    Container,
    Manifests,
    Object,
    containers_of,
    example_secrets,
    matches,
    pod_labels,
    pod_of,
    title,
)
from deploy.checks.pod_rules import HANDLERS, PROBES, served

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][\w./-]*(?::\d+/[\w./-]+)?(?:@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]{0,127})")


def names(manifests: Manifests) -> Iterator[str]:
    """Names are DNS labels, objects are unique and live in one namespace, images are pinned."""
    seen: set[tuple[str, str]] = set()
    for item in manifests.objects:
        key = (item["kind"], item["metadata"]["name"])
        if key in seen:
            yield f"{title(item)} is there twice"
        seen.add(key)
        if not _DNS_LABEL.fullmatch(item["metadata"]["name"]):
            yield f"{title(item)}: the name is not a DNS label (a-z, 0-9, '-', at most 63)"
        if item["kind"] != "Namespace" and manifests.named("Namespace", item["metadata"].get("namespace", "")) is None:
            yield f"{title(item)}: namespace {item['metadata'].get('namespace')!r} is not rendered"
    for container in manifests.containers():
        if not _IMAGE.fullmatch(container.body["image"]):
            yield f"{container.where}: image {container.body['image']!r} has no fixed tag or digest"


def selectors(manifests: Manifests) -> Iterator[str]:
    """Every selector selects what it is meant to select."""
    for deployment in manifests.of_kind("Deployment"):
        selected = [title(item) for item in manifests.pods_matching(deployment["spec"]["selector"])]
        if selected != [title(deployment)]:
            yield f"{title(deployment)}: its selector selects the pods of {', '.join(selected) or 'nobody'}"
        for spread in pod_of(deployment).get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"], pod_labels(deployment)):
                yield f"{title(deployment)}: the spread over {spread['topologyKey']} does not select its own pods"
    for kind, key in (("Service", None), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for item in manifests.of_kind(kind):
            selector = item["spec"][key] if key else {"matchLabels": item["spec"]["selector"]}
            count = len(manifests.pods_matching(selector))
            if count == 0 or (count > 1 and kind != "NetworkPolicy"):
                yield f"{title(item)}: its selector selects the pods of {count} Deployments"
    for monitor in manifests.of_kind("ServiceMonitor"):
        if not _monitored(manifests, monitor):
            yield f"{title(monitor)}: its selector selects no Service"


def ports(manifests: Manifests) -> Iterator[str]:
    """Port names resolve, and the numbers are those of the settings."""
    for container in manifests.containers():
        yield from _container_port_problems(container)
    for service in manifests.of_kind("Service"):
        for deployment in manifests.pods_matching({"matchLabels": service["spec"]["selector"]}):
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in _open_ports(deployment):
                    yield f"{title(service)}: port {port.get('name')} aims at {target}, which {title(deployment)} lacks"
    for policy in manifests.of_kind("NetworkPolicy"):
        for port in [port for rule in policy["spec"].get("ingress", []) for port in rule.get("ports", [])]:
            for deployment in manifests.pods_matching(policy["spec"]["podSelector"]):
                if port["port"] not in _open_ports(deployment):
                    yield f"{title(policy)}: lets in port {port['port']}, which {title(deployment)} lacks"


def volumes(manifests: Manifests) -> Iterator[str]:
    """Every mount has its volume, every volume a mount, and mounted Secrets and ConfigMaps exist."""
    for deployment in manifests.of_kind("Deployment"):
        pod = pod_of(deployment)
        there = {volume["name"]: volume for volume in pod.get("volumes", [])}
        mounts = [m for c in containers_of(pod) for m in c.get("volumeMounts", [])]
        for name in sorted({mount["name"] for mount in mounts} - there.keys()):
            yield f"{title(deployment)}: mounts {name}, but has no such volume"
        for name in sorted(there.keys() - {mount["name"] for mount in mounts}):
            yield f"{title(deployment)}: volume {name} is mounted nowhere"
        for volume in there.values():
            secret, config = volume.get("secret", {}).get("secretName"), volume.get("configMap", {}).get("name")
            if secret and secret not in example_secrets():
                yield f"{title(deployment)}: Secret {secret} is not in secrets.example.yaml"
            if config and manifests.named("ConfigMap", config) is None:
                yield f"{title(deployment)}: ConfigMap {config} is not rendered"


def references(manifests: Manifests) -> Iterator[str]:
    """Environment variables come from ConfigMaps and Secrets that exist and have the key."""
    for container in manifests.containers():
        for source in container.body.get("envFrom", []):
            name = source.get("configMapRef", {}).get("name")
            if name is None or manifests.named("ConfigMap", name) is None:
                yield f"{container.where}: envFrom {source} is not a rendered ConfigMap"
        for variable in container.body.get("env", []):
            yield from _reference_problems(manifests, container, variable)


def disruption(manifests: Manifests) -> Iterator[str]:
    """Each Deployment has one budget, which lets a node be drained, and a roll-out that moves and moves lanes once."""
    for deployment in manifests.of_kind("Deployment"):
        found = [
            budget
            for budget in manifests.of_kind("PodDisruptionBudget")
            if matches(budget["spec"]["selector"], pod_labels(deployment))
        ]
        if len(found) != 1:
            yield f"{title(deployment)}: {len(found)} PodDisruptionBudgets; exactly one is needed"
        for budget in found:
            yield from (f"{title(budget)}: {problem}" for problem in _budget_problems(budget["spec"]))
        yield from (f"{title(deployment)}: {problem}" for problem in _roll_out_problems(deployment))


def network(manifests: Manifests) -> Iterator[str]:
    """Everything is denied by default, in both directions."""
    denying = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if denying not in [policy["spec"] for policy in manifests.of_kind("NetworkPolicy")]:
        yield "no NetworkPolicy denies everything by default, in both directions"


def monitoring(manifests: Manifests) -> Iterator[str]:
    """A ServiceMonitor, whose schema is not at hand, says what is known; it scrapes what every Service serves."""
    for monitor in manifests.of_kind("ServiceMonitor"):
        monitored = _monitored(manifests, monitor)
        if strange := monitor["spec"].keys() ^ {"selector", "endpoints"}:
            yield f"{title(monitor)}: {', '.join(sorted(strange))} is missing or not known to the checks"
        for endpoint in monitor["spec"].get("endpoints", []):
            yield from (f"{title(monitor)}: {problem}" for problem in _endpoint_problems(endpoint, monitored))
        for name in sorted({title(s) for s in manifests.of_kind("Service")} - {title(s) for s in monitored}):
            yield f"{title(monitor)}: {name} is not scraped"


def _container_port_problems(container: Container) -> Iterator[str]:
    found = container.body.get("ports", [])
    named = [port.get("name") for port in found]
    if None in named or len(set(named)) != len(named):
        yield f"{container.where}: each port needs a name of its own"
    for probe in [container.body[name] for name in PROBES if name in container.body]:
        for handler in [probe[name] for name in HANDLERS if "port" in probe.get(name, {})]:
            if handler["port"] not in named:
                yield f"{container.where}: a probe asks port {handler['port']}, which it lacks"


def _endpoint_problems(endpoint: Object, services: list[Object]) -> Iterator[str]:
    if strange := endpoint.keys() ^ {"port", "path", "interval", "scrapeTimeout"}:
        yield f"{', '.join(sorted(strange))} of an endpoint is missing or not known to the checks"
        return
    if served(endpoint["path"]) != 200:
        yield f"{endpoint['path']} is not served on the operations port"
    if endpoint["port"] != "ops":
        yield f"metrics are on the port named ops, not {endpoint['port']}"
    for service in services:
        if endpoint["port"] not in [port.get("name") for port in service["spec"]["ports"]]:
            yield f"{title(service)} has no port named {endpoint['port']}"


def _reference_problems(manifests: Manifests, container: Container, variable: Object) -> Iterator[str]:
    source = variable.get("valueFrom", {})
    if secret := source.get("secretKeyRef"):
        if secret["key"] not in example_secrets().get(secret["name"], frozenset()):
            yield f"{container.where}: Secret {secret['name']} key {secret['key']} is not in secrets.example.yaml"
    elif config := source.get("configMapKeyRef"):
        rendered = manifests.named("ConfigMap", config["name"])
        if rendered is None or config["key"] not in rendered["data"]:
            yield f"{container.where}: ConfigMap {config['name']} key {config['key']} is not rendered"
    secret_name = any(word in variable["name"] for word in ("PASSWORD", "DATABASE_URL"))
    if secret_name and "secretKeyRef" not in source:
        yield f"{container.where}: {variable['name']} has to come from a Secret"


def _budget_problems(spec: Object) -> Iterator[str]:
    if spec.get("maxUnavailable") != 1 or "minAvailable" in spec:
        yield "maxUnavailable has to be 1, so that it fits any number of replicas"
    if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        yield "a broken pod would block the drain of its node; unhealthyPodEvictionPolicy has to be AlwaysAllow"


def _roll_out_problems(deployment: Object) -> Iterator[str]:
    steps = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
    if pod_labels(deployment).get("app.kubernetes.io/component") == "policy" and steps.get("maxSurge") != 0:
        yield "maxSurge has to be 0; a surplus worker moves lanes twice"
    if steps.get("maxSurge") == 0 and steps.get("maxUnavailable") == 0:
        yield "with maxSurge and maxUnavailable 0 no roll-out ever moves"
    if deployment["spec"].get("replicas", 1) < 1:
        yield "has no replicas"


def _monitored(manifests: Manifests, monitor: Object) -> list[Object]:
    selector = monitor["spec"]["selector"]
    return [s for s in manifests.of_kind("Service") if matches(selector, s["metadata"].get("labels", {}))]


def _open_ports(deployment: Object) -> set[str | int]:
    found = [port for container in pod_of(deployment)["containers"] for port in container.get("ports", [])]
    return {port["name"] for port in found if "name" in port} | {port["containerPort"] for port in found}
