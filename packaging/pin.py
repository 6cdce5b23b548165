#!/usr/bin/env python3
"""Writes a release's checksums where the wrappers read them.

Usage: packaging/pin.py DIRECTORY   (which holds the release's files, azfed-<target>)

packaging/checksums.txt gets a line for each file of this version, the GitLab template a case; lines of earlier versions
stay. The Azure DevOps extension takes the table as it is.
"""

import hashlib
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "packaging", "checksums.txt")
TEMPLATE = os.path.join(ROOT, "gitlab", "templates", "azure-login.yml")
PLACE = re.compile(r"^( *)# checksums: the release workflow writes the lines\n", re.MULTILINE)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    (directory,) = sys.argv[1:] or sys.exit(__doc__)
    version = read(os.path.join(ROOT, "packaging", "version")).strip()
    rows = []
    for name in sorted(os.listdir(directory)):
        if re.fullmatch(r"azfed-[a-z0-9_]+-[a-z0-9_.-]+", name):
            with open(os.path.join(directory, name), "rb") as file:
                rows.append((f"{version}/{name}", hashlib.sha256(file.read()).hexdigest()))
    if not rows:
        sys.exit(f"no azfed-<target> in {directory}")
    known = {name for name, _ in rows}
    kept = [line for line in read(TABLE).splitlines() if line.split()[1:2] != [] and line.split()[1] not in known or line.startswith("#")]
    write(TABLE, "\n".join([*kept, *(f"{sum} {name}" for name, sum in rows)]) + "\n")
    template = read(TEMPLATE)
    for name, _ in rows:
        template = re.sub(rf"^ *{re.escape(name)}\) echo [0-9a-f]{{64}} ;;\n", "", template, flags=re.MULTILINE)
    found = PLACE.search(template) or sys.exit("the template has no place for checksums")
    lines = "".join(f"{found[1]}{name}) echo {sum} ;;\n" for name, sum in rows)
    write(TEMPLATE, template[: found.end()] + lines + template[found.end() :])
    print(f"pinned {len(rows)} files of {version}")


if __name__ == "__main__":
    main()
