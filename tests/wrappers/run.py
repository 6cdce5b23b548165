#!/usr/bin/env python3
"""Runs the wrappers in runners that were not written here. Usage: see run.sh; names choose cases."""

import argparse
import os

from harness import CASES, Context

import azure_pipelines  # noqa: F401
import github  # noqa: F401
import gitlab  # noqa: F401
import suite


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--azfed", required=True, type=os.path.abspath)
    parser.add_argument("--emulator", required=True, type=os.path.abspath)
    parser.add_argument("--tools", required=True, type=os.path.abspath)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    suite.run(arguments, CASES, Context)


if __name__ == "__main__":
    main()
