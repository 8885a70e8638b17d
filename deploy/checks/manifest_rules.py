"""All rules that a rendering of the Kubernetes manifests has to keep."""

from collections.abc import Callable, Iterator

from deploy.checks import pod_rules, wiring_rules
from deploy.checks.manifests import Manifests, schema_problems

Rule = Callable[[Manifests], Iterator[str]]

RULES: tuple[Rule, ...] = (
    wiring_rules.names,
    wiring_rules.selectors,
    wiring_rules.ports,
    wiring_rules.volumes,
    wiring_rules.references,
    wiring_rules.disruption,
    wiring_rules.network,
    wiring_rules.monitoring,
    pod_rules.settings,
    pod_rules.probes,
    pod_rules.shutdown,
    pod_rules.security,
    pod_rules.resources,
)


def check_manifests(manifests: Manifests) -> list[str]:
    """The complaints of the strict schema; if there are none, those of every rule."""
    return list(schema_problems(manifests)) or [problem for rule in RULES for problem in rule(manifests)]
