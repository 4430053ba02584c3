"""What the manifests are compared with, read from the code, the contracts and what tests see."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Ports by stage, as firstline.toml has them.
PORTS = {
    stage: int(address.rpartition(":")[2])
    for stage, address in tomllib.loads((ROOT / "firstline.toml").read_text())["server"]["listen"].items()
}
STAGES = list(PORTS)


def found(pattern):
    """Stage and match of everything in the code of the stages that a pattern finds."""
    for stage in STAGES:
        for source in (ROOT / "crates" / stage / "src").rglob("*.rs"):
            for match in re.findall(pattern, source.read_text()):
                yield stage, match


# Caller and callee of every connection, which tests/tests/rolling.rs sees opened by the running processes.
OPENED = [tuple(line.split()) for line in (ROOT / "k8s/edges.txt").read_text().splitlines() if line[:1] != "#"]
EDGES = [(caller, callee) for caller, callee in OPENED if callee in STAGES]
# Stages that read the bundle, and those that own a store.
BUNDLED = frozenset(stage for stage, _ in found(r"\bserver\.bundle\b"))
STORED = frozenset(caller for caller, callee in OPENED if callee == "database")


def services():
    """The health name of every stage: of its services the one that is named as it, or as the assistant."""
    contracts = set()
    for contract in (ROOT / "proto/firstline/v1").glob("*.proto"):
        contracts |= set(re.findall(r"^service (\w+)", contract.read_text(), re.MULTILINE))
    for stage in STAGES:
        name = "AssistantService" if stage == "orchestrator" else f"{stage.capitalize()}Service"
        if name not in contracts:
            raise SystemExit(f"k8s-check: proto/ has no {name}")
        yield stage, f"firstline.v1.{name}"


SERVICES = dict(services())


def written():
    """Every setting of firstline.toml, those in comments too, as the variable that sets it."""
    table = ""
    for line in (ROOT / "firstline.toml").read_text().splitlines():
        if header := re.match(r"(?:# )?\[([a-z_.]+)\]", line):
            table = header[1]
        elif key := re.match(r"(?:# )?([a-z_]+) = ", line):
            yield f"FIRSTLINE__{table}__{key[1]}".replace(".", "__").upper()


SETTINGS = set(written())
