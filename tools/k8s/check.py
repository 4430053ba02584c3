"""check.py TOOLS CHART SCRATCH: renders, validates and judges all manifests, and says what is wrong."""

import json
import pathlib
import subprocess
import sys

import kubernetes_validate

import chart
import network  # noqa: F401, its rules join the others
import rules
import selftest
from facts import EDGES, ROOT
from policies import RULES
from render import combinations, listed, renders

# From the first version on that needs no feature gate for `preStop.sleep`, to the newest that schemas are known of.
VERSIONS = ["1.34", "1.35", "1.36", "1.37"]
# Kinds that are not Kubernetes' own: their schemas come with their operators.
FOREIGN = {
    "BackendTLSPolicy", "Certificate", "GRPCRoute", "Gateway", "PodMonitor", "PrometheusRule", "ScaledObject",
}


def distinct(rendered):
    """Each object once, with the first render that has it."""
    found = {}
    for name, objects in rendered.items():
        for o in objects:
            found.setdefault(json.dumps(o, sort_keys=True), (name, o))
    return list(found.values())


def remembered(read):
    """Definitions of a version are 1 MB of JSON, and are asked for with every object."""
    known = {}
    return lambda *key: known[key] if key in known else known.setdefault(key, read(*key))


def invalid(version, objects):
    for name, o in objects:
        try:
            kubernetes_validate.validate(o, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f'{name}: {o["kind"]} {o["metadata"]["name"]} on {version}: {error.message}'


def unnoticed(version, objects):
    """Whether the validation sees a field that there is not."""
    name, o = next((name, o) for name, o in objects if o["kind"] == "Deployment")
    misspelt = json.loads(json.dumps(o).replace('"preStop"', '"preStopp"'))
    if not list(invalid(version, [(name, misspelt)])):
        yield f"a misspelt field passes on {version}"


def refused(tools, objects):
    """What the schemas of operators refuse, a line each."""
    command = ["node", ROOT / "tools/k8s/foreign.mjs", tools / "node"]
    done = subprocess.run(command, input=json.dumps(objects), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"k8s-check: {done.stderr}")
    return done.stdout.splitlines()


def unrefused(tools, objects):
    """Whether those schemas see, of each kind, a field that there is not, and a value of the wrong sort."""
    spoilt = {}
    for _, o in objects:
        spec = o["spec"]
        field = min(spec)
        spoilt[f'{o["kind"]} with a misspelt field'] = o | {"spec": spec | {"unknown": 1}}
        spoilt[f'{o["kind"]} with a wrong value'] = o | {"spec": spec | {field: 7}}
    seen = refused(tools, list(spoilt.items()))
    return [f"a {name} passes" for name in spoilt if not any(line.startswith(f"{name}:") for line in seen)]


def main():
    tools, made, scratch = map(pathlib.Path, sys.argv[1:])
    kubernetes_validate.utils.schema_contents = remembered(kubernetes_validate.utils.schema_contents)
    wrong = [f"component {name} is in no combination" for name in listed()]
    wrong += rules.stale()
    rendered = renders(tools / "kubectl", scratch / "combinations")
    objects = distinct(rendered)
    ours = [(name, o) for name, o in objects if o["kind"] not in FOREIGN]
    for version in VERSIONS:
        wrong += [*invalid(version, ours), *unnoticed(version, ours)]
    theirs = [(name, o) for name, o in objects if o["kind"] in FOREIGN]
    wrong += refused(tools, theirs) + unrefused(tools, theirs)
    for name, found in rendered.items():
        wrong += [f"{name}: {broken}" for check in RULES for broken in check(found)]
    wrong += selftest.failures(rendered)
    wrong += chart.failures(tools, made, scratch / "chart", rendered)
    if wrong:
        print("\n".join(dict.fromkeys(wrong)), file=sys.stderr)
        raise SystemExit(1)
    print(
        f"k8s: {len(rendered)} renders ({len(list(combinations()))} combinations of components),"
        f" {len(ours)} different objects valid on Kubernetes {', '.join(VERSIONS)},"
        f" {len(theirs)} of {len(FOREIGN)} kinds by their operators' schemas;"
        f" {len(RULES)} rules hold, {len(selftest.MUTATIONS)} mutations noticed;"
        f" {len(EDGES)} edges of the stage graph; the chart renders the same"
    )


main()
