"""Run alone (make k8s-rules), writes the rules of deploy/alerts/ as an object of the Prometheus operator, for kustomize."""

import yaml

from facts import ROOT

OUT = ROOT / "k8s/components/monitoring/rules.yaml"
HEAD = "# Made by tools/k8s/rules.py of deploy/alerts/, where the rules are written, explained and tested.\n"


class Dumper(yaml.SafeDumper):
    """Expressions of several lines stay readable."""


def text(dumper, value):
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, text)


def made():
    groups = []
    for source in sorted((ROOT / "deploy/alerts").glob("*.yaml")):
        groups += yaml.safe_load(source.read_text()).get("groups", [])
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "firstline"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.dump(rule, Dumper=Dumper, sort_keys=False, width=1000)


def stale():
    if OUT.read_text() != made():
        yield "components/monitoring/rules.yaml is not what deploy/alerts/ says: make k8s-rules"


if __name__ == "__main__":
    OUT.write_text(made())
