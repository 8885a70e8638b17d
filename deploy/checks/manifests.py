"""Rendered Kubernetes objects: how to get them, and how to find one's way in them."""

import functools
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import kubernetes_validate
import yaml

from deploy.checks.expressions import DEPLOY
from deploy.checks.tools import SOURCES, ToolMissing, path_of

KUSTOMIZATIONS = ("base", "overlays/dev", "overlays/prod")
SECRETS_EXAMPLE = DEPLOY / "k8s" / "base" / "secrets.example.yaml"

OLDEST_KUBECTL = (1, 27)
"""The first one with kustomize 5."""

CUSTOM_RESOURCES = frozenset(
    {("monitoring.coreos.com/v1", "ServiceMonitor"), ("monitoring.coreos.com/v1", "PrometheusRule")}
)
"""Kinds of the Prometheus operator, which the schemas of Kubernetes do not know. Any other unknown kind is refused."""

Object = Mapping[str, Any]


class Container(NamedTuple):
    """A container and where it runs."""

    where: str
    body: Object
    pod: Object
    init: bool


class Manifests:
    """All objects of one rendering."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of_kind(self, kind: str) -> list[Object]:
        """Every object of that kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def named(self, kind: str, name: str) -> Object | None:
        """The object of that kind and name, or None."""
        return next((item for item in self.of_kind(kind) if item["metadata"]["name"] == name), None)

    def containers(self) -> Iterator[Container]:
        """Every container of every Deployment, init containers included."""
        for deployment in self.of_kind("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            for key in ("initContainers", "containers"):
                for body in pod.get(key, []):
                    where = f"{title(deployment)} container {body['name']}"
                    yield Container(where, body, pod, init=key == "initContainers")

    def pods_matching(self, selector: Object) -> list[Object]:
        """The Deployments whose pods a label selector selects; an empty selector selects all."""
        return [item for item in self.of_kind("Deployment") if matches(selector, pod_labels(item))]


def render(kustomization: str) -> Manifests:
    """What `kubectl kustomize` makes of deploy/k8s/<kustomization>.

    Raises ToolMissing without a recent kubectl, RuntimeError with kubectl's words when it cannot be rendered.
    """
    folder = DEPLOY / "k8s" / kustomization
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [_kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise RuntimeError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return Manifests(load_objects(done.stdout))


@functools.cache
def _kubectl() -> str:
    # Debian 12 ships 1.20, whose kustomize does not know half of the fields in use and says so in riddles.
    path = path_of("kubectl")
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [path, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True, timeout=60
    )
    version = json.loads(done.stdout)["clientVersion"]["gitVersion"]
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < OLDEST_KUBECTL:
        raise ToolMissing("kubectl", f"kubectl {version} is too old; install {SOURCES['kubectl']}")
    return path


def load_objects(text: str) -> list[Object]:
    """The objects of a YAML stream."""
    return [item for item in yaml.safe_load_all(text) if item]


def example_secrets() -> Mapping[str, frozenset[str]]:
    """The Secrets that have to exist beforehand: name -> keys."""
    objects = load_objects(SECRETS_EXAMPLE.read_text())
    return {item["metadata"]["name"]: frozenset(item["stringData"]) for item in objects}


def schema_version() -> str:
    """The newest Kubernetes version whose schemas are at hand."""
    return str(kubernetes_validate.latest_version())


def schema_problems(manifests: Manifests) -> Iterator[str]:
    """What breaks the schema of the newest Kubernetes; unknown fields and unknown kinds too."""
    for item in manifests.objects:
        if (item["apiVersion"], item["kind"]) in CUSTOM_RESOURCES:
            continue
        try:
            kubernetes_validate.validate(item, schema_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            yield f"{title(item)}: {path}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{title(item)}: {error.message}; it is not among the custom resources that the checks allow"


def title(item: Object) -> str:
    """Kind and name, for messages."""
    return f"{item['kind']} {item['metadata']['name']}"


def pod_labels(deployment: Object) -> Mapping[str, str]:
    """The labels of a Deployment's pods."""
    labels: Mapping[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return labels


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a matchLabels selector selects something with these labels."""
    if "matchExpressions" in selector:
        raise ValueError("matchExpressions are not read by the checks; use matchLabels")
    wanted = selector.get("matchLabels", {})
    return all(labels.get(name) == value for name, value in wanted.items())


def pod_of(deployment: Object) -> Object:
    """The pod that a Deployment makes."""
    pod: Object = deployment["spec"]["template"]["spec"]
    return pod


def containers_of(pod: Object) -> list[Object]:
    """A pod's containers, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]
