#!/usr/bin/env python3
"""Writes the bill of materials (CycloneDX 1.6, JSON) of one built binary, from the list that is in the binary itself.

Usage: packaging/sbom.py BINARY TARGET FILE     (needs rust-audit-info; RUST_AUDIT_INFO names it where it is not on the PATH)

cargo-auditable writes into each binary which crates it was made of. Its list has a few too many: those that only a feature
of the tests brings (cargo metadata knows no other resolution); `cargo tree` tells which. Checksums come from Cargo.lock,
licences from the crates. Same binary, same file: no time, and a serial number made of the binary's own hash.
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


def tree(target, edges):
    """Names and versions of the crates that cargo builds for a target."""
    lines = output("cargo", "tree", "--locked", "--package", "azfed", "--target", target, "--edges", edges, "--prefix", "none", "--no-dedupe")
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines.splitlines()}


def main():
    binary, target, path = sys.argv[1:] if len(sys.argv) == 4 else sys.exit(__doc__)
    binary, path = os.path.abspath(binary), os.path.abspath(path)
    with open(binary, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    listed = json.loads(output(os.environ.get("RUST_AUDIT_INFO", "rust-audit-info"), binary))["packages"]
    with open(os.path.join(ROOT, "Cargo.lock"), "rb") as file:
        locked = {(one["name"], one["version"]): one for one in tomllib.load(file)["package"]}
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1"))
    licences = {(one["name"], one["version"]): one["license"] for one in metadata["packages"]}
    components, dependencies, root = [], [], None
    built, inside = tree(target, "normal,build"), tree(target, "normal,no-proc-macro")
    missing = inside - {(one["name"], one["version"]) for one in listed}
    if missing:
        sys.exit(f"the binary's list has not what cargo built it of: {missing}")
    references = [f"pkg:cargo/{one['name']}@{one['version']}" for one in listed]
    for number, one in enumerate(listed):
        key = (one["name"], one["version"])
        if key not in built:
            continue
        # what only the compiler ran (build scripts, macros) is in no binary, but could have changed it
        scope = "required" if key in inside else "excluded"
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
        needs = [listed[index] for index in one.get("dependencies", [])]
        needs = sorted(f"pkg:cargo/{one['name']}@{one['version']}" for one in needs if (one["name"], one["version"]) in built)
        dependencies.append({"ref": references[number], "dependsOn": needs})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}").urn, "version": 1,
        "metadata": {"component": root or sys.exit("the binary's list has no root"),
                     "properties": [{"name": "azfed:file", "value": os.path.basename(binary)}]},
        "components": components, "dependencies": dependencies,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    count = sum(one["scope"] == "required" for one in components)
    print(f"{os.path.basename(path)}: azfed, {count} crates in it, {len(components) - count} that only built it")


if __name__ == "__main__":
    main()
