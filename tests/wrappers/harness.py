"""What the wrappers' tests share."""

import os
import re
import sys

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(REPOSITORY, "tests", "clients"))
CASES = []


def case(function):
    CASES.append((function.__name__, function))
    return function


def documented(name, mark, **values):
    """The block of YAML in a document that has the mark in it, with what a user fills in."""
    with open(os.path.join(REPOSITORY, "docs", name), encoding="utf-8") as file:
        blocks = re.findall(r"```yaml\n(.*?)```", file.read(), re.DOTALL)
    (block,) = [block for block in blocks if mark in block]
    for what, value in values.items():
        what = f"<{what.replace('_', ' ')}>"
        assert what in block, f"{name}: {what}"
        block = block.replace(what, value)
    return block


def secrets_in(emulator, text):
    """The beginnings of the emulator's secrets that stand in a text."""
    return [secret[:20] for secret in emulator.secrets() if secret in text]


class Context:
    """What every case has at hand."""

    def __init__(self, arguments, emulator, root):
        self.azfed, self.tools, self.emulator, self.root = arguments.azfed, arguments.tools, emulator, root
        self.made = 0

    def directory(self):
        self.made += 1
        path = os.path.join(self.root, f"d{self.made}")
        os.makedirs(path)
        return path
