"""What has to hold of rendered manifests. Each rule takes the objects of one render and yields what breaks it."""

import ipaddress
import re

from facts import BUNDLED, EDGES, PORTS, SERVICES, SETTINGS, STAGES, STORED

COMPONENT = "app.kubernetes.io/component"
ADMIN = 9464
WORKLOADS = ("Deployment", "StatefulSet")
# What the standard "restricted" lets pods mount.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
# Seconds that a process needs to end after its drain.
LAST_WORDS = 5
RULES = []


def rule(check):
    RULES.append(check)
    return check


def of(objects, *kinds):
    return [o for o in objects if o["kind"] in kinds]


def named(objects, kind, name):
    return next((o for o in of(objects, kind) if o["metadata"]["name"] == name), None)


def pods(objects):
    """Name and pod of all that starts one."""
    for o in of(objects, *WORKLOADS, "Job"):
        yield f'{o["kind"]} {o["metadata"]["name"]}', o["spec"]["template"]["spec"]


def containers(objects):
    """Place and container, those that run before the others included."""
    for place, pod in pods(objects):
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield f'{place}, container {container["name"]}', container


def stages(objects):
    """Stage, object and the container of the stage."""
    for o in of(objects, *WORKLOADS):
        yield o["metadata"]["name"], o, o["spec"]["template"]["spec"]["containers"][0]


def settings(objects, container):
    """The environment of a container that is written in the manifests."""
    found = {}
    for source in container.get("envFrom", []):
        found |= (named(objects, "ConfigMap", source["configMapRef"]["name"]) or {}).get("data", {})
    return found | {variable["name"]: variable.get("value") for variable in container.get("env", [])}


@rule
def all_stages_are_there(objects):
    for stage in STAGES:
        if sum(name == stage for name, *_ in stages(objects)) != 1:
            yield f"{stage} is not there once"


@rule
def namespace_is_restricted(objects):
    for o in of(objects, "Namespace"):
        if o["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "the namespace lets any pod in"


@rule
def pods_are_restricted(objects):
    for place, pod in pods(objects):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield f"{place}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{place}: no seccomp profile"
        if any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{place}: shares something with its node"
        for volume in pod.get("volumes", []):
            if not (set(volume) - {"name"}) <= VOLUMES:
                yield f'{place}: volume {volume["name"]} is of a kind that is not restricted'
    for place, container in containers(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{place}: may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{place}: keeps capabilities"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{place}: its root can be written to"
        if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(context):
            yield f"{place}: says otherwise than its pod"


@rule
def nothing_speaks_to_the_api_server(objects):
    for place, pod in pods(objects):
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{place}: mounts a token"
        for volume in pod.get("volumes", []):
            if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", [])):
                yield f"{place}: projects a token"
    for o in of(objects, "ServiceAccount"):
        if o.get("automountServiceAccountToken") is not False:
            yield f'ServiceAccount {o["metadata"]["name"]}: mounts its token'
    for o in of(objects, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f'{o["kind"]} {o["metadata"]["name"]}: no stage needs rights'


@rule
def containers_are_probed_by_their_service(objects):
    for stage, o, first in stages(objects):
        for container in o["spec"]["template"]["spec"]["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                grpc = container.get(probe, {}).get("grpc", {})
                if grpc.get("port") != ADMIN:
                    yield f"{stage}: {probe} does not ask the admin port"
                # Liveness asks for the process alone: a stage that does not serve is not mended by a restart.
                asks = None if probe == "livenessProbe" else SERVICES[stage]
                if grpc.get("service") != asks:
                    yield f'{stage}: {probe} asks for {grpc.get("service")!r} instead of {asks!r}'
        if {"name": "admin", "containerPort": ADMIN} not in first["ports"]:
            yield f"{stage}: its admin port has no name"
        if settings(objects, first).get(f"FIRSTLINE__SERVER__ADMIN__{stage.upper()}") != f"0.0.0.0:{ADMIN}":
            yield f"{stage}: it does not listen on its admin port"


def amount(text):
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]


@rule
def resources_are_bounded(objects):
    for place, container in containers(objects):
        requests, limits = (container.get("resources", {}).get(part, {}) for part in ("requests", "limits"))
        if not {"cpu", "memory"} <= set(requests) or "memory" not in limits:
            yield f"{place}: no request for CPU and memory, or no limit of memory"
        elif amount(requests["memory"]) > amount(limits["memory"]):
            yield f"{place}: requests more memory than its limit"
        if "cpu" in limits:
            yield f"{place}: a CPU limit throttles every turn"
    for place, pod in pods(objects):
        for volume in pod.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f'{place}: volume {volume["name"]} may fill the disk of its node'


@rule
def images_have_a_version(objects):
    for place, container in containers(objects):
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            yield f'{place}: {container["image"]} may be another one tomorrow'


def drain(objects, o, container):
    """Seconds of preStop, of a drain, and until the process is killed."""
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    after = int(settings(objects, container).get("FIRSTLINE__SERVER__DRAIN_MS", 10000)) / 1000
    return before, after, o["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)


@rule
def the_orchestrator_stops_before_what_it_calls(objects):
    drains = {stage: drain(objects, o, container) for stage, o, container in stages(objects)}
    first = sum(drains["orchestrator"][:2])
    for stage, (before, after, grace) in drains.items():
        # Requests in flight first, then the work behind them, each for the drain at most.
        if before == 0 or grace < before + 2 * after + LAST_WORDS:
            yield f"{stage}: has {grace} s to stop and needs {before} + 2 * {after} + {LAST_WORDS}"
        if ("orchestrator", stage) in EDGES and before < first:
            yield f"{stage}: stops after {before} s, while the orchestrator may need it for {first} s"


@rule
def pods_are_spread(objects):
    for stage, o, _ in stages(objects):
        spread = o["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        keys = {s["topologyKey"] for s in spread if s["labelSelector"]["matchLabels"] == {COMPONENT: stage}}
        if keys != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{stage}: not spread over zones and nodes"


@rule
def scaling_is_by_what_limits(objects):
    scalers = of(objects, "HorizontalPodAutoscaler")
    for o in scalers:
        stage, spec = o["metadata"]["name"], o["spec"]
        target = named(objects, spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
        if target is None or "replicas" in target["spec"]:
            yield f"{stage}: its autoscaler has no target, or one that says how many it wants"
        by = [m.get("resource", m.get("pods", {}).get("metric", {})).get("name") for m in spec["metrics"]]
        if by != (["firstline_generator_active"] if stage == "generator" else []) + ["cpu"]:
            yield f"{stage}: scaled by {by}"
        up, down = (spec.get("behavior", {}).get(way, {}) for way in ("scaleUp", "scaleDown"))
        if not up.get("stabilizationWindowSeconds", 300) == 0 < down.get("stabilizationWindowSeconds", 0):
            yield f"{stage}: not scaled up at once and down slowly"
    for o in of(objects, "ScaledObject"):
        if any(scaler["metadata"]["name"] == o["metadata"]["name"] for scaler in scalers):
            yield f'{o["metadata"]["name"]}: scaled twice'


@rule
def files_of_a_store_have_one_process(objects):
    scaled = {o["metadata"]["name"] for o in of(objects, "HorizontalPodAutoscaler", "ScaledObject")}
    for stage, o, container in stages(objects):
        shared = "FIRSTLINE__SERVER__DATABASE__URL_FILE" in settings(objects, container)
        if stage not in STORED:
            if shared:
                yield f"{stage}: has a way into a database that it does not use"
            continue
        if shared:
            continue
        alone = o["kind"] == "StatefulSet" or o["spec"].get("strategy", {}).get("type") == "Recreate"
        if o["spec"].get("replicas") != 1 or stage in scaled or not alone:
            yield f"{stage}: two processes may open its SQLite file"
        if "/data" not in [mount["mountPath"] for mount in container["volumeMounts"]]:
            yield f"{stage}: its SQLite file goes with the pod"


@rule
def secrets_are_for_their_group_alone(objects):
    for place, pod in pods(objects):
        for volume in pod.get("volumes", []):
            if "secret" in volume and volume["secret"].get("defaultMode") != 0o440:
                yield f'{place}: everyone may read {volume["name"]}, which stops the start'
        if not pod.get("securityContext", {}).get("fsGroup"):
            yield f"{place}: its secrets and volumes are of no group"


@rule
def names_lead_somewhere(objects):
    for place, pod in pods(objects):
        account = pod.get("serviceAccountName")
        if account and not named(objects, "ServiceAccount", account):
            yield f"{place}: no ServiceAccount {account}"
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                if not named(objects, "ConfigMap", source["configMapRef"]["name"]):
                    yield f'{place}: no ConfigMap {source["configMapRef"]["name"]}'
    labels = [o["spec"]["template"]["metadata"]["labels"] for o in of(objects, *WORKLOADS)]
    for o in of(objects, "Service", "PodDisruptionBudget"):
        selector = o["spec"]["selector"].get("matchLabels", o["spec"]["selector"])
        if sum(selector.items() <= label.items() for label in labels) != 1:
            yield f'{o["kind"]} {o["metadata"]["name"]}: its selector finds not one workload'


@rule
def stages_find_each_other(objects):
    for stage, o, container in stages(objects):
        has = settings(objects, container)
        service = named(objects, "Service", stage)
        if service is None or service["spec"].get("clusterIP") != "None":
            yield f"{stage}: no headless Service"
        elif [port["port"] for port in service["spec"]["ports"]] != [PORTS[stage]]:
            yield f"{stage}: its Service has not the one port {PORTS[stage]}"
        if has.get(f"FIRSTLINE__SERVER__LISTEN__{stage.upper()}") != f"0.0.0.0:{PORTS[stage]}":
            yield f"{stage}: it does not listen on {PORTS[stage]}"
        scheme = "https" if "FIRSTLINE__SERVER__TLS__CERT" in has else "http"
        found = {key: value for key, value in has.items() if key.startswith("FIRSTLINE__SERVER__ENDPOINTS__")}
        wanted = {f"FIRSTLINE__SERVER__ENDPOINTS__{to.upper()}": f"{scheme}://{to}:{PORTS[to]}" for _, to in EDGES}
        if found != wanted:
            yield f"{stage}: endpoints {found}"
        volumes = {v["name"]: v for v in o["spec"]["template"]["spec"].get("volumes", [])}
        if scheme == "https" and volumes.get("tls", {}).get("secret", {}).get("secretName") != f"{stage}-tls":
            yield f"{stage}: it has not its own certificate"
    for o in of(objects, "Certificate"):
        name, own = o["metadata"]["name"], set(o["spec"]["dnsNames"])
        namespace = o["metadata"].get("namespace")
        elsewhere = {f"{name}.{namespace}{end}" for end in ("", ".svc", ".svc.cluster.local")} if namespace else set()
        if own - elsewhere - {"localhost"} != {name} or "client auth" not in o["spec"]["usages"]:
            yield f"Certificate {name}: says somebody else's name"
        if name == "orchestrator" and not elsewhere <= own:
            yield f"Certificate {name}: who calls from another namespace does not find its name there"
        if name in ("orchestrator", "workflow", "telemetry") and "localhost" not in own:
            yield f"Certificate {name}: an operator who comes by port-forward does not find its name there"


@rule
def bundles_are_there_before_their_stage(objects):
    for stage, o, container in stages(objects):
        pulls = [c for c in o["spec"]["template"]["spec"].get("initContainers", []) if c["args"][:2] == ["bundle", "pull"]]
        if len(pulls) != (stage in BUNDLED):
            yield f"{stage}: pulls {len(pulls)} bundles"
        mounts = {"name": "bundle", "mountPath": "/bundle", "readOnly": True} in container.get("volumeMounts", [])
        if mounts != (stage in BUNDLED):
            yield f"{stage}: its bundle is not mounted read-only"


@rule
def settings_are_those_of_the_code(objects):
    for place, pod in pods(objects):
        for container in pod["containers"]:
            for name in settings(objects, container):
                # One that is not known stops the start.
                if name.startswith("FIRSTLINE__") and name.removesuffix("_FILE") not in SETTINGS:
                    yield f"{place}: firstline.toml has no {name}"


def is_narrow(cidr):
    network = ipaddress.ip_network(cidr)
    return network.prefixlen >= (16 if network.version == 4 else 48)
