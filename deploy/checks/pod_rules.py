"""Whether each pod fits the code it runs, and good practice: settings, probes, shutdown, security, resources.

Each rule takes a Manifests and yields complaints.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from deploy.checks.manifests import Container, Manifests, Object, pod_of, title
from services.runtime.settings import PREFIX, Settings, SettingsError, load_settings
from services.runtime.telemetry import CHECK_TIMEOUT_S, OpsApp, new_registry

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
HANDLERS = ("httpGet", "exec", "tcpSocket", "grpc")

DRAIN_MARGIN_S = 10
"""Room between the end of a drain and the kill."""

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_UNITS: Mapping[str, Decimal | int] = {
    "": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
_RESTRICTED_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
)


def settings(manifests: Manifests) -> Iterator[str]:
    """What each container gets as its environment is accepted by the services, and fits a pod."""
    for container in manifests.containers():
        if container.pod.get("enableServiceLinks") is not False:
            yield f"{container.where}: service links set SMARTPIPE_ variables; enableServiceLinks has to be false"
        try:
            found = load_settings(environment(manifests, container.body))
        except SettingsError as error:
            yield f"{container.where}: {error}"
            continue
        yield from _setting_problems(container, found)


def probes(manifests: Manifests) -> Iterator[str]:
    """Each probe asks, by one handler, a path that the operations port serves, and outwaits the check behind it."""
    for container in manifests.containers():
        if container.init:
            continue
        for name in PROBES:
            probe = container.body.get(name)
            if probe is None:
                yield f"{container.where}: no {name}"
            else:
                yield from (f"{container.where}: {name}: {problem}" for problem in _probe_problems(name, probe))


def shutdown(manifests: Manifests) -> Iterator[str]:
    """The grace period is longer than the preStop pause, the drain and a margin."""
    for container in manifests.containers():
        pause = container.body.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = _environment_settings(manifests, container).drain_timeout_ms / 1000
        grace = container.pod.get("terminationGracePeriodSeconds", 30)
        if grace < pause + drain + DRAIN_MARGIN_S:
            needed = f"{pause} s of pause, {drain:g} s of drain and {DRAIN_MARGIN_S} s of margin"
            yield f"{container.where}: {grace} s of grace is not enough for {needed}"


def security(manifests: Manifests) -> Iterator[str]:
    """The restricted Pod Security Standard, a read-only root, no token; the namespace enforces the standard."""
    for namespace in manifests.of_kind("Namespace"):
        for mode in ("enforce", "audit", "warn"):
            if namespace["metadata"].get("labels", {}).get(f"pod-security.kubernetes.io/{mode}") != "restricted":
                yield f"{title(namespace)}: pod-security.kubernetes.io/{mode} is not restricted"
    for deployment in manifests.of_kind("Deployment"):
        yield from (f"{title(deployment)}: {problem}" for problem in _pod_security_problems(pod_of(deployment)))
    for container in manifests.containers():
        yield from (f"{container.where}: {problem}" for problem in _container_security_problems(container.body))


def resources(manifests: Manifests) -> Iterator[str]:
    """Requests for CPU and memory, a limit for memory, none for CPU; quantities that Kubernetes can read."""
    for container in manifests.containers():
        asked = container.body.get("resources", {})
        requests, limits = asked.get("requests", {}), asked.get("limits", {})
        for kind, quantity in [*requests.items(), *limits.items()]:
            if quantity_value(quantity) is None:
                yield f"{container.where}: {kind} {quantity!r} is no quantity"
        if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
            yield f"{container.where}: requests for cpu and memory and a limit for memory are needed"
        if "cpu" in limits:
            yield f"{container.where}: a CPU limit throttles heartbeats; request CPU instead"
        request, limit = quantity_value(requests.get("memory", "0")), quantity_value(limits.get("memory", "0"))
        if request is not None and limit is not None and request > limit:
            yield f"{container.where}: requests more memory than its limit"
    for pod in map(pod_of, manifests.of_kind("Deployment")):
        for volume in pod.get("volumes", []):
            if "emptyDir" in volume and quantity_value(volume["emptyDir"].get("sizeLimit", "")) is None:
                yield f"volume {volume['name']}: an emptyDir needs a sizeLimit that is a quantity"


def environment(manifests: Manifests, container: Object) -> dict[str, str]:
    """The environment that Kubernetes would give a container; what comes from a Secret is a stand-in."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        config = manifests.named("ConfigMap", source.get("configMapRef", {}).get("name", ""))
        found |= config["data"] if config else {}
    for variable in container.get("env", []):
        found[variable["name"]] = variable.get("value", "stand-in")
    return found


def quantity_value(quantity: str | int) -> Decimal | None:
    """A Kubernetes quantity as a number, or None if it is none."""
    match = _QUANTITY.fullmatch(str(quantity))
    return Decimal(match["number"]) * _UNITS[match["unit"] or ""] if match else None


def served(path: str) -> int:
    """The status with which a healthy service's operations port answers a GET of `path`."""
    statuses: list[int] = []

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    asyncio.run(OpsApp(registry=new_registry(), ready=dict)(scope, receive, send))
    return statuses[0]


def _setting_problems(container: Container, found: Settings) -> Iterator[str]:
    if found.log != "kafka":
        yield f"{container.where}: {PREFIX}LOG has to be kafka; the embedded log cannot be shared by pods"
    for name in ("http_host", "ops_host"):
        if getattr(found, name) != "0.0.0.0":  # noqa: S104 - in a pod, probes and Services come from outside
            yield f"{container.where}: {PREFIX}{name.upper()} has to be 0.0.0.0 in a pod"
    command = container.body.get("args", [""])[0]
    wanted = {
        "policy": {"ops": found.policy_ops_port},
        "rating": {"ops": found.rating_ops_port, "http": found.http_port},
    }.get(command, {})
    opened = {port["name"]: port["containerPort"] for port in container.body.get("ports", []) if "name" in port}
    if opened != wanted:
        yield f"{container.where}: opens {opened}, but the settings say {wanted}"
    mounts = [mount["mountPath"] for mount in container.body.get("volumeMounts", [])]
    if found.kafka_ca_file and not container.init and not any(found.kafka_ca_file.startswith(m + "/") for m in mounts):
        yield f"{container.where}: {PREFIX}KAFKA_CA_FILE {found.kafka_ca_file} is mounted nowhere"


def _environment_settings(manifests: Manifests, container: Container) -> Settings:
    try:
        return load_settings(environment(manifests, container.body))
    except SettingsError:  # reported by the rule `settings`
        return Settings()


def _probe_problems(name: str, probe: Object) -> Iterator[str]:
    handlers = [handler for handler in HANDLERS if handler in probe]
    if handlers != ["httpGet"]:
        yield f"has {', '.join(handlers) or 'no handler'}; exactly one, httpGet, is meant"
        return
    asked = probe["httpGet"]
    if asked["port"] != "ops":
        yield f"asks port {asked['port']}; health is on ops"
    if served(asked["path"]) != 200:
        yield f"{asked['path']} is not served on the operations port"
    if name == "livenessProbe" and asked["path"] != "/healthz/live":
        yield "asks whether the service is ready; a restart mends no broker"
    if name == "readinessProbe" and asked["path"] != "/healthz/ready":
        yield "does not ask whether the service is ready"
    if probe.get("timeoutSeconds", 1) <= CHECK_TIMEOUT_S:
        yield f"gives up before the service does; timeoutSeconds has to be more than {CHECK_TIMEOUT_S:g}"


def _pod_security_problems(pod: Object) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "runAsNonRoot and a numeric runAsUser other than 0 are needed"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    if pod.get("automountServiceAccountToken") is not False:
        yield "mounts a service account token"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is on"
    for volume in pod.get("volumes", []):
        if kinds := volume.keys() - {"name"} - _RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(kinds)}, which the restricted standard forbids"


def _container_security_problems(container: Object) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "the root file system is writable"
    capabilities = context.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "capabilities are not all dropped"
    if context.get("privileged") or context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield "runs with privileges"
    for port in container.get("ports", []):
        if "hostPort" in port:
            yield f"takes port {port['hostPort']} of the node"
