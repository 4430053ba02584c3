"""Whether the chart renders what kustomize renders: as it is, and with values that an overlay says in its own words."""

import json
import os
import subprocess

from facts import ROOT
from render import OVERLAYS, kustomization, objects, run

FROM, TO = "registry.example.com/firstline", "registry.internal:5000/bank"
HASH = "abcdef0123456789" * 4
VALUES = {
    "image": {"registry": TO, "tag": "1.2.3"},
    "bundle": {"hash": HASH, "store": "gs://bank-bundles"},
    "replicas": {"classifier": {"min": 4, "max": 40}, "generator": {"max": 50}},
    "settings": {"FIRSTLINE__ORCHESTRATOR__MAX_TURNS": "2048", "FIRSTLINE__SERVER__WORKER_THREADS": "4"},
    "addresses": {"database": "10.1.0.0/28", "bundle-store": "10.2.0.0/28"},
    "serviceAccounts": {"classifier": {"cloud.example.com/role": "reader"}},
}
# The same, as somebody writes it who uses kustomize.
OVERLAY = """
resources: [{root}/overlays/{profile}]
namespace: bank
images:
{images}
configMapGenerator:
  - name: settings
    # Of the namespace of the overlay below, to be found there.
    namespace: {namespace}
    behavior: merge
    literals: [FIRSTLINE__ORCHESTRATOR__MAX_TURNS=2048, FIRSTLINE__SERVER__WORKER_THREADS=4]
patches:
  - target: {{kind: Deployment|StatefulSet, name: orchestrator|classifier|safety|retriever|generator|workflow}}
    patch: |
      - op: replace
        path: /spec/template/spec/initContainers/0/args
        value: [bundle, pull, {hash}, --from, "gs://bank-bundles", --into, /bundle]
  - target: {{kind: HorizontalPodAutoscaler, name: classifier}}
    patch: |
      - {{op: replace, path: /spec/minReplicas, value: 4}}
      - {{op: replace, path: /spec/maxReplicas, value: 40}}
  - target: {{kind: HorizontalPodAutoscaler, name: generator}}
    patch: |
      - {{op: replace, path: /spec/maxReplicas, value: 50}}
  - target: {{kind: NetworkPolicy, name: database}}
    patch: |
      - {{op: replace, path: /spec/egress/0/to, value: [{{ipBlock: {{cidr: 10.1.0.0/28}}}}]}}
  - target: {{kind: NetworkPolicy, name: bundle-store}}
    patch: |
      - {{op: replace, path: /spec/egress/0/to, value: [{{ipBlock: {{cidr: 10.2.0.0/28}}}}]}}
  - target: {{kind: Certificate, name: orchestrator}}
    patch: |
      - op: replace
        path: /spec/dnsNames
        value: [orchestrator, localhost, orchestrator.bank, orchestrator.bank.svc, orchestrator.bank.svc.cluster.local]
  - target: {{kind: ServiceAccount, name: classifier}}
    patch: |
      - {{op: add, path: /metadata/annotations, value: {{cloud.example.com/role: reader}}}}
"""
# What the schema of the values refuses.
REFUSED = [
    {"profile": "test"},
    {"replica": {"classifier": {"min": 2}}},
    {"replicas": {"classifiers": {"min": 2}}},
    {"image": {"tag": "latest"}},
    {"bundle": {"hash": "abcdef0123456789"}},
    {"settings": {"FIRSTLINE__SERVER__WORKER_THREADS": 4}},
    {"addresses": {"database": "0.0.0.0/0"}},
    {"addresses": {"default-deny": "10.0.0.0/24"}},
]
IMAGES = ["orchestrator", "classifier", "safety", "retriever", "generator", "workflow", "telemetry", "firstline"]


def comparable(rendered):
    """Objects by what they are, without the namespace that Helm needs beforehand."""
    kept = [o for o in rendered if o["kind"] != "Namespace"]
    found = {(o["apiVersion"], o["kind"], o["metadata"]["name"], o["metadata"]["namespace"]): o for o in kept}
    if len(found) != len(kept):
        raise SystemExit("k8s-check: an object is rendered twice")
    return found


def differences(name, ours, theirs):
    ours, theirs = comparable(ours), comparable(theirs)
    for key in sorted(set(ours) | set(theirs)):
        if ours.get(key) != theirs.get(key):
            yield f"{name}: {key[1]} {key[2]} is not the same"


def template(helm, chart, namespace, *arguments):
    return objects(run(helm, "template", "firstline", chart, "--namespace", namespace, *arguments))


def accepted(helm, chart, values):
    command = [helm, "template", "firstline", chart, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True).returncode == 0


def failures(tools, chart, scratch, renders):
    helm, kubectl = tools / "helm", tools / "kubectl"
    run(helm, "lint", "--strict", chart)
    if not accepted(helm, chart, {}):
        yield "the chart refuses its own values"
    yield from (f"the chart takes {values}" for values in REFUSED if accepted(helm, chart, values))
    for profile in OVERLAYS:
        plain = renders[f"overlay {profile}"]
        namespace = next(o for o in plain if o["kind"] == "Namespace")["metadata"]["name"]
        as_it_is = template(helm, chart, namespace, "--set", f"profile={profile}")
        yield from differences(f"chart, {profile}", as_it_is, plain)
        root = os.path.relpath(ROOT / "k8s", scratch / profile)
        images = "\n".join(
            f"  - {{name: {FROM}/{image}, newName: {TO}/{image}, newTag: 1.2.3}}"
            for image in IMAGES
        )
        text = OVERLAY.format(root=root, profile=profile, namespace=namespace, images=images, hash=HASH)
        written = objects(run(kubectl, "kustomize", kustomization(scratch / profile, text)))
        values = scratch / f"{profile}.json"
        values.write_text(json.dumps(VALUES | {"profile": profile}))
        with_values = template(helm, chart, "bank", "--values", values)
        yield from differences(f"chart, {profile} with values", with_values, written)
