"""A pytest plug-in: packages of plug-ins get more folders: {package: folder} in DAREQ_PLUGIN_FOLDERS."""

from __future__ import annotations

import importlib
import json
import os

for package, folder in json.loads(os.environ.get("DAREQ_PLUGIN_FOLDERS", "{}")).items():
    importlib.import_module(package).__path__.append(folder)
