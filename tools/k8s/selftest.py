"""Breaks every rule on purpose: a rule that lets its mutation pass is worth nothing."""

import copy

from network import PRIVATE
from policies import RULES, named, of

STAGE = "classifier"


def pod(objects, name=STAGE, kind="Deployment"):
    return named(objects, kind, name)["spec"]["template"]["spec"]


def first(objects, name=STAGE, kind="Deployment"):
    return pod(objects, name, kind)["containers"][0]


def policy(objects, name):
    return named(objects, "NetworkPolicy", name)


def block(objects, name):
    return policy(objects, name)["spec"]["egress"][0]["to"][0]["ipBlock"]


def opening(name, component, **rules):
    labels = {"matchLabels": {"app.kubernetes.io/component": component}}
    spec = {"podSelector": labels, "policyTypes": [kind.capitalize() for kind in rules], **rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def to_classifier(objects):
    return policy(objects, "orchestrator-to-classifier")["spec"]["ingress"][0]


def scaler(objects, name=STAGE):
    return named(objects, "HorizontalPodAutoscaler", name)["spec"]


# Name of the rule, overlay, what breaks it.
MUTATIONS = [
    ("all_stages_are_there", "production", lambda o: o.remove(named(o, "Deployment", STAGE))),
    ("namespace_is_restricted", "production", lambda o: of(o, "Namespace")[0]["metadata"]["labels"].clear()),
    ("pods_are_restricted", "production", lambda o: pod(o)["securityContext"].pop("runAsNonRoot")),
    ("pods_are_restricted", "production", lambda o: pod(o)["securityContext"].update(runAsUser=0)),
    ("pods_are_restricted", "production", lambda o: pod(o)["securityContext"].pop("seccompProfile")),
    ("pods_are_restricted", "production", lambda o: pod(o).update(hostNetwork=True)),
    ("pods_are_restricted", "production",
     lambda o: pod(o)["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ("pods_are_restricted", "production", lambda o: first(o)["securityContext"].pop("readOnlyRootFilesystem")),
    ("pods_are_restricted", "production",
     lambda o: first(o)["securityContext"]["capabilities"].update(add=["NET_ADMIN"])),
    ("pods_are_restricted", "production", lambda o: first(o)["securityContext"].update(runAsUser=0)),
    ("pods_are_restricted", "production",
     lambda o: pod(o)["initContainers"][0]["securityContext"].update(allowPrivilegeEscalation=True)),
    ("nothing_speaks_to_the_api_server", "production", lambda o: pod(o).pop("automountServiceAccountToken")),
    ("nothing_speaks_to_the_api_server", "production",
     lambda o: pod(o, "migrate", "Job").update(automountServiceAccountToken=True)),
    ("nothing_speaks_to_the_api_server", "production", lambda o: pod(o)["volumes"].append(
        {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}})),
    ("nothing_speaks_to_the_api_server", "production",
     lambda o: named(o, "ServiceAccount", STAGE).pop("automountServiceAccountToken")),
    ("nothing_speaks_to_the_api_server", "production",
     lambda o: o.append({"kind": "Role", "metadata": {"name": "x"}})),
    ("containers_are_probed_by_their_service", "production", lambda o: first(o).pop("startupProbe")),
    ("containers_are_probed_by_their_service", "production",
     lambda o: first(o)["readinessProbe"]["grpc"].pop("service")),
    ("containers_are_probed_by_their_service", "production",
     lambda o: first(o)["livenessProbe"]["grpc"].update(port=7701)),
    ("containers_are_probed_by_their_service", "production",
     lambda o: pod(o)["containers"].append({"name": "sidecar", "image": "x:1"})),
    ("resources_are_bounded", "production", lambda o: first(o)["resources"].pop("limits")),
    ("resources_are_bounded", "production", lambda o: first(o)["resources"]["requests"].pop("cpu")),
    ("resources_are_bounded", "production", lambda o: first(o)["resources"]["requests"].update(memory="9Gi")),
    ("resources_are_bounded", "production", lambda o: first(o)["resources"]["limits"].update(cpu="1")),
    ("resources_are_bounded", "production", lambda o: pod(o)["volumes"].append({"name": "x", "emptyDir": {}})),
    ("images_have_a_version", "production", lambda o: first(o).update(image="registry.example.com:5000/classifier")),
    ("images_have_a_version", "production", lambda o: pod(o)["initContainers"][0].update(image="firstline:latest")),
    ("the_orchestrator_stops_before_what_it_calls", "production", lambda o: first(o).pop("lifecycle")),
    ("the_orchestrator_stops_before_what_it_calls", "production",
     lambda o: first(o)["lifecycle"]["preStop"]["sleep"].update(seconds=5)),
    ("the_orchestrator_stops_before_what_it_calls", "production",
     lambda o: pod(o, "orchestrator", "StatefulSet").update(terminationGracePeriodSeconds=30)),
    ("pods_are_spread", "production", lambda o: pod(o)["topologySpreadConstraints"].pop()),
    ("scaling_is_by_what_limits", "production",
     lambda o: scaler(o, "generator").update(metrics=scaler(o)["metrics"])),
    ("scaling_is_by_what_limits", "production",
     lambda o: scaler(o)["behavior"]["scaleDown"].update(stabilizationWindowSeconds=0)),
    ("scaling_is_by_what_limits", "production", lambda o: named(o, "Deployment", STAGE)["spec"].update(replicas=2)),
    ("scaling_is_by_what_limits", "production", lambda o: scaler(o)["scaleTargetRef"].update(name="other")),
    ("scaling_is_by_what_limits", "production",
     lambda o: o.append({"kind": "ScaledObject", "metadata": {"name": STAGE}, "spec": {}})),
    ("files_of_a_store_have_one_process", "dev",
     lambda o: named(o, "Deployment", "workflow")["spec"].update(replicas=2)),
    ("files_of_a_store_have_one_process", "dev",
     lambda o: named(o, "Deployment", "workflow")["spec"].pop("strategy")),
    ("files_of_a_store_have_one_process", "dev", lambda o: first(o, "telemetry").update(volumeMounts=[])),
    ("files_of_a_store_have_one_process", "production",
     lambda o: first(o, "orchestrator", "StatefulSet").update(env=[])),
    ("files_of_a_store_have_one_process", "production",
     lambda o: first(o).update(env=first(o, "workflow")["env"])),
    ("settings_are_those_of_the_code", "production",
     lambda o: of(o, "ConfigMap")[0]["data"].update(FIRSTLINE__SERVER__DRAIN="1")),
    ("bundles_are_there_before_their_stage", "production", lambda o: pod(o).pop("initContainers")),
    ("bundles_are_there_before_their_stage", "production", lambda o: first(o)["volumeMounts"][-1].pop("readOnly")),
    ("secrets_are_for_their_group_alone", "production",
     lambda o: next(v for v in pod(o)["volumes"] if "secret" in v)["secret"].pop("defaultMode")),
    ("secrets_are_for_their_group_alone", "production", lambda o: pod(o)["securityContext"].pop("fsGroup")),
    ("names_lead_somewhere", "production", lambda o: o.remove(named(o, "ServiceAccount", STAGE))),
    ("names_lead_somewhere", "production", lambda o: o.remove(of(o, "ConfigMap")[0])),
    ("names_lead_somewhere", "production", lambda o: named(o, "Service", STAGE)["spec"]["selector"].update(x="y")),
    ("stages_find_each_other", "production", lambda o: named(o, "Service", STAGE)["spec"].pop("clusterIP")),
    ("stages_find_each_other", "production",
     lambda o: named(o, "Service", STAGE)["spec"]["ports"][0].update(port=7702)),
    ("stages_find_each_other", "production", lambda o: of(o, "ConfigMap")[0]["data"].update(
        FIRSTLINE__SERVER__ENDPOINTS__SAFETY="http://safety:7702")),
    ("stages_find_each_other", "production",
     lambda o: next(v for v in pod(o)["volumes"] if v["name"] == "tls")["secret"].update(secretName="safety-tls")),
    ("stages_find_each_other", "production",
     lambda o: named(o, "Certificate", STAGE)["spec"].update(dnsNames=["orchestrator"])),
    ("stages_find_each_other", "production",
     lambda o: named(o, "Certificate", "orchestrator")["spec"]["dnsNames"].remove("orchestrator.firstline.svc")),
    ("stages_find_each_other", "production",
     lambda o: named(o, "Certificate", "telemetry")["spec"]["dnsNames"].remove("localhost")),
    ("everything_is_denied_by_default", "production", lambda o: o.remove(policy(o, "default-deny"))),
    ("everything_is_denied_by_default", "production",
     lambda o: policy(o, "default-deny")["spec"].update(policyTypes=["Ingress"])),
    ("everything_is_denied_by_default", "production",
     lambda o: policy(o, "orchestrator")["spec"].update(policyTypes=["Ingress"])),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: o.remove(policy(o, "orchestrator-to-classifier"))),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: o.append(copy.deepcopy(policy(o, "orchestrator-to-classifier")))),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: policy(o, "orchestrator")["spec"]["egress"].pop()),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production", lambda o: to_classifier(o).pop("from")),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production", lambda o: to_classifier(o).pop("ports")),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: to_classifier(o)["ports"][0].update(endPort=65535)),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: to_classifier(o)["from"].append({"podSelector": {}})),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: to_classifier(o)["from"].append({"namespaceSelector": {}})),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: o.append(opening("more", "safety", ingress=[{}]))),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: policy(o, "generator-to-model")["spec"].update(podSelector={})),
    ("each_edge_has_one_policy_and_nothing_else_is_open", "production",
     lambda o: block(o, "generator-to-model")["except"].remove("169.254.0.0/16")),
    ("only_the_generator_reaches_the_internet", "production",
     lambda o: policy(o, "workflow-to-targets")["spec"]["egress"][0].update(
         to=[{"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE}}])),
    ("only_the_generator_reaches_the_internet", "production",
     lambda o: block(o, "database").update(cidr="10.0.0.0/8")),
    ("only_the_generator_reaches_the_internet", "production",
     lambda o: o.append(opening("more", "safety", egress=[{}]))),
]


def failures(renders):
    """What went unnoticed, and rules without a mutation."""
    rules = {check.__name__: check for check in RULES}
    for name in sorted(set(rules) - {rule for rule, _, _ in MUTATIONS}):
        yield f"{name}: nothing breaks it on purpose"
    for number, (name, overlay, mutate) in enumerate(MUTATIONS):
        mutated = copy.deepcopy(renders[f"overlay {overlay}"])
        mutate(mutated)
        if mutated == renders[f"overlay {overlay}"]:
            yield f"mutation {number} of {name} changes nothing"
        elif not list(rules[name](mutated)):
            yield f"{name}: mutation {number} is not noticed"
