#!/usr/bin/env python3
"""Writes the bill of materials (CycloneDX 1.6, JSON) of one built binary, from the list that is in the binary itself.

Usage: packaging/sbom.py BINARY FILE     (needs rust-audit-info; RUST_AUDIT_INFO names it where it is not on the PATH)

cargo-auditable writes into each binary which crates it was made of, with this target and these features. Checksums come
from Cargo.lock, licences from the crates. Same binary, same file: no time, and a serial number made of the binary's own hash.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def expression(licence):
    """An SPDX expression: older crates write `/` for OR."""
    return re.sub(r"\s*/\s*", " OR ", licence)


def main():
    binary, target = map(os.path.abspath, sys.argv[1:]) if len(sys.argv) == 3 else sys.exit(__doc__)
    with open(binary, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    listed = json.loads(output(os.environ.get("RUST_AUDIT_INFO", "rust-audit-info"), binary))["packages"]
    with open(os.path.join(ROOT, "Cargo.lock"), "rb") as file:
        locked = {(one["name"], one["version"]): one for one in tomllib.load(file)["package"]}
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1"))
    licences = {(one["name"], one["version"]): one["license"] for one in metadata["packages"]}
    components, dependencies, root = [], [], None
    references = [f"pkg:cargo/{one['name']}@{one['version']}" for one in listed]
    for number, one in enumerate(listed):
        key = (one["name"], one["version"])
        # what only the compiler ran (build scripts, macros) is in no binary, but could have changed it
        scope = "excluded" if one.get("kind") == "build" else "required"
        component = {
            "type": "library", "bom-ref": references[number], "name": one["name"], "version": one["version"], "scope": scope,
            "licenses": [{"expression": expression(licences[key])}], "purl": references[number],
        }
        if one.get("root"):
            component |= {"type": "application", "hashes": [{"alg": "SHA-256", "content": digest}]}
            del component["scope"]
            root = component
        else:
            component["hashes"] = [{"alg": "SHA-256", "content": locked[key]["checksum"]}]
            components.append(component)
        needs = sorted(references[index] for index in one.get("dependencies", []))
        dependencies.append({"ref": references[number], "dependsOn": needs})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}").urn, "version": 1,
        "metadata": {"component": root or sys.exit("the binary's list has no root"),
                     "properties": [{"name": "azfed:file", "value": os.path.basename(binary)}]},
        "components": components, "dependencies": dependencies,
    }
    with open(target, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    inside = sum(one["scope"] == "required" for one in components)
    print(f"{os.path.basename(target)}: azfed, {inside} crates in it, {len(components) - inside} that only built it")


if __name__ == "__main__":
    main()
