"""Which ways the network policies of a render open, compared with the stage graph and the list of all others."""

from facts import BUNDLED, EDGES, PORTS, STAGES, STORED
from policies import ADMIN, COMPONENT, is_narrow, of, rule

EVERYWHERE = "everywhere"
# All that is open besides the edges: policy, direction, whose pods, to or from whom, ports.
OTHERS = {
    ("dns", "egress", EVERYWHERE, "kube-system k8s-app=kube-dns", "53/TCP 53/UDP"),
    ("callers-to-orchestrator", "ingress", frozenset({"orchestrator"}), "firstline.dev/caller=true", "7700/TCP"),
    ("bundle-store", "egress", BUNDLED, "a range", "443/TCP"),
    ("bundle-build-to-store", "egress", frozenset({"bundle-build"}), "a range", "443/TCP"),
    ("generator-to-model", "egress", frozenset({"generator"}), "the internet", "443/TCP"),
    ("generator-to-model", "egress", frozenset({"generator"}), "a range", "443/TCP"),
    ("generator-to-cache", "egress", frozenset({"generator"}), "a range", "6379/TCP"),
    ("workflow-to-targets", "egress", frozenset({"workflow"}), "a range", "443/TCP"),
    ("orchestrator-to-helpdesks", "egress", frozenset({"orchestrator"}), "a range", "443/TCP"),
    ("database", "egress", STORED | {"migrate"}, "a range", "5432/TCP"),
    ("prometheus-to-admin", "ingress", frozenset(STAGES),
     "monitoring app.kubernetes.io/name=prometheus", f"{ADMIN}/TCP"),
    ("stages-to-collector", "egress", frozenset(STAGES),
     "monitoring app.kubernetes.io/name=opentelemetry-collector", "4317/TCP"),
    ("gateway-to-orchestrator", "ingress", frozenset({"orchestrator"}),
     "envoy-gateway-system gateway.envoyproxy.io/owning-gateway-name=firstline", "7700/TCP"),
}
PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]


def whose(selector):
    """The components that a selector of this namespace finds, or what it is when it is anything else."""
    if not selector:
        return EVERYWHERE
    if set(selector) == {"matchLabels"} and set(selector["matchLabels"]) == {COMPONENT}:
        return frozenset(selector["matchLabels"].values())
    if set(selector) == {"matchExpressions"}:
        [first, *more] = selector["matchExpressions"]
        if not more and (first["key"], first["operator"]) == (COMPONENT, "In"):
            return frozenset(first["values"])
    return str(selector)


def who(peer):
    """The other end of a rule in words: a component, pods of another namespace, or addresses."""
    if set(peer) == {"ipBlock"}:
        block = peer["ipBlock"]
        if is_narrow(block["cidr"]):
            return "a range"
        is_public = block["cidr"] == "0.0.0.0/0" and sorted(block.get("except", [])) == PRIVATE
        return "the internet" if is_public else str(block)
    if set(peer) == {"podSelector"}:
        found = whose(peer["podSelector"])
        return next(iter(found)) if isinstance(found, frozenset) and len(found) == 1 else str(found)
    words = []
    for end in ("namespaceSelector", "podSelector"):
        selector = peer.get(end, {"matchLabels": {}})
        if set(selector) != {"matchLabels"}:
            return str(peer)
        for key, value in selector["matchLabels"].items():
            words.append(value if key == "kubernetes.io/metadata.name" else f"{key}={value}")
    return " ".join(words)


def port(allowed):
    return str(allowed) if "endPort" in allowed else f'{allowed.get("port")}/{allowed.get("protocol", "TCP")}'


def openings(objects):
    """Every way that is open, once for each peer of each rule of each policy."""
    for o in of(objects, "NetworkPolicy"):
        name, spec = o["metadata"]["name"], o["spec"]
        for direction, end in (("ingress", "from"), ("egress", "to")):
            for allowed in spec.get(direction) or []:
                ports = " ".join(sorted(port(p) for p in allowed.get("ports", [])))
                for peer in allowed.get(end) or [None]:
                    yield name, direction, whose(spec["podSelector"]), who(peer) if peer else "anybody", ports or "any"


@rule
def everything_is_denied_by_default(objects):
    denies = [
        o for o in of(objects, "NetworkPolicy")
        if o["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ]
    if len(denies) != 1:
        yield "no policy denies what is not allowed"
    for o in of(objects, "NetworkPolicy"):
        # Kubernetes takes a direction that is not named for allowed as it was, and its rules for void.
        directions = {direction.capitalize() for direction in ("ingress", "egress") if direction in o["spec"]}
        if o not in denies and directions != set(o["spec"].get("policyTypes", [])):
            yield f'{o["metadata"]["name"]}: has rules for {directions} and names {o["spec"].get("policyTypes")}'


@rule
def each_edge_has_one_policy_and_nothing_else_is_open(objects):
    expected = []
    for caller, callee in EDGES:
        port = f"{PORTS[callee]}/TCP"
        expected.append((f"{caller}-to-{callee}", "ingress", frozenset({callee}), caller, port))
        expected.append((caller, "egress", frozenset({caller}), callee, port))
    found = list(openings(objects))
    for edge in expected:
        if found.count(edge) != 1:
            yield f"edge {edge[0]}, {edge[1]}: {found.count(edge)} rules"
    for opening in found:
        if opening not in expected and opening not in OTHERS:
            yield "not to be open: {}, {} of {}, {}, {}".format(*opening)
        elif opening in OTHERS and found.count(opening) != 1:
            yield f"{opening[0]} is open twice"


@rule
def only_the_generator_reaches_the_internet(objects):
    for name, direction, pods, peer, _ in openings(objects):
        wide = peer not in ("a range",) and ("internet" in peer or "cidr" in peer or peer == "anybody")
        if wide and (direction == "ingress" or pods != frozenset({"generator"})):
            yield f"{name}: {peer} is open to {pods}"
