"""Renders of kustomize: the overlays, and the base with every combination of components."""

import concurrent.futures
import itertools
import os
import pathlib
import shutil
import subprocess

import yaml

from facts import ROOT

# In the order in which a kustomization lists them: what deletes comes after what adds.
COMPONENTS = ["postgres-external", "model", "systems", "mtls", "monitoring", "gateway", "keda", "bundle-build"]
OVERLAYS = ["dev", "staging", "production"]
# The gateway's way to the orchestrator is encrypted.
NEEDS = {"gateway": "mtls"}
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def objects(text):
    return [o for o in yaml.load_all(text, Loader) if o]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"k8s-check: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def combinations():
    for size in range(len(COMPONENTS) + 1):
        for chosen in itertools.combinations(COMPONENTS, size):
            if all(needed in chosen for component, needed in NEEDS.items() if component in chosen):
                yield chosen


def kustomization(folder, text):
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text(text)
    return folder


def combined(scratch, chosen):
    """A folder with the base and these components."""
    folder = scratch / "-".join(chosen or ("base",))
    root = os.path.relpath(ROOT / "k8s", folder)
    lines = [f"resources: [{root}/base]", "components:"] + [f"  - {root}/components/{name}" for name in chosen]
    return kustomization(folder, "\n".join(lines if chosen else lines[:1]) + "\n")


def renders(kubectl, scratch):
    """Name and objects of every render."""
    shutil.rmtree(scratch, ignore_errors=True)
    folders = {f"overlay {name}": ROOT / "k8s/overlays" / name for name in OVERLAYS}
    folders |= {" + ".join(("base", *chosen)): combined(scratch, chosen) for chosen in combinations()}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        texts = threads.map(lambda folder: run(kubectl, "kustomize", folder), folders.values())
        return {name: objects(text) for name, text in zip(folders, texts)}


def listed():
    """Components that lie there and are in no combination."""
    return {path.name for path in pathlib.Path(ROOT / "k8s/components").iterdir()} - set(COMPONENTS)
