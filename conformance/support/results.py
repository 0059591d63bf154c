"""Runs one suite of unittest and keeps what became of each test: `python results.py SUITE.py`.

The file goes to the folder that WATCHFIRE_RESULTS names, if it does, where `compatibility.mjs` makes a table of it.
"""

import importlib.util
import json
import os
import pathlib
import sys
import unittest


class Kept(unittest.TextTestResult):
    """What became of each test, by its name."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.tests = {}

    def startTest(self, test):
        super().startTest(test)
        self.tests[name(test)] = "passed"

    def addError(self, test, err):
        super().addError(test, err)
        self.tests[name(test)] = "failed"

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.tests[name(test)] = "failed"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.tests[name(test)] = "skipped"

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.tests[name(test)] = "failed"


def name(test):
    return test.id().split(".", 1)[-1]


def main():
    suite = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(suite.resolve().parent))
    spec = importlib.util.spec_from_file_location(suite.stem, suite)
    module = importlib.util.module_from_spec(spec)
    sys.modules[suite.stem] = module
    spec.loader.exec_module(module)
    runner = unittest.TextTestRunner(verbosity=2, resultclass=Kept)
    result = runner.run(unittest.defaultTestLoader.loadTestsFromModule(module))
    folder = os.environ.get("WATCHFIRE_RESULTS")
    if folder:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        file = pathlib.Path(folder) / f"{str(suite).replace('/', '-')}.json"
        file.write_text(json.dumps({"suite": str(suite), "tests": result.tests}, indent=2) + "\n")
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
