"""contents.py NAME VERSION TREE WHEELS: write what is in a package, as SBOM (CycloneDX) and with every licence.

Both go to usr/share/doc/NAME in TREE: `sbom.cdx.json`, and `copyright`, which is where Debian looks for licences. The
SBOM also has the hash of each unit, with which `tidegate qualify` finds one that was edited.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

LICENCE_FILES = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)
CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?")
name, version, tree, wheels = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])


def licence(found: Distribution) -> str:
    """What a library says of its licence, in the form that says most."""
    said = found.metadata
    classified = [CLASSIFIER.sub("", each) for each in said.get_all("Classifier", []) if each.startswith("License")]
    return said["License-Expression"] or (said["License"] or "").partition("\n")[0] or "; ".join(classified)


def texts(found: Distribution) -> Iterator[tuple[str, str]]:
    """The licence texts that it brings."""
    for file in found.files or ():
        if ".dist-info" in file.parts[0] and LICENCE_FILES.match(file.name):
            yield str(file), Path(str(file.locate())).read_text(encoding="utf-8", errors="replace").strip()


def component(found: Distribution) -> dict[str, object]:
    """A library in the SBOM, with the hash of the wheel that it came in."""
    canonical = re.sub(r"[-_.]+", "-", found.name).lower()
    (wheel,) = (path for path in wheels.iterdir() if path.name.lower().startswith(f"{canonical.replace('-', '_')}-"))
    return {
        "type": "library", "name": canonical, "version": found.version,
        "purl": f"pkg:pypi/{canonical}@{found.version}", "licenses": [{"license": {"name": licence(found)}}],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }  # fmt: skip


def unit(file: Path) -> dict[str, object]:
    """A file of systemd in the SBOM, by its place on the machine."""
    hashes = [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]
    return {"type": "file", "name": f"/{file.relative_to(tree)}", "hashes": hashes}


sites = [str(path) for path in tree.glob("opt/tidegate/lib/python*/site-packages")]
others = (each for each in distributions(path=sites) if each.name != "tidegate")
libraries = sorted(others, key=lambda each: each.name.lower())
folder = tree / "usr/share/doc" / name
units = sorted(file for kind in ("systemd/system", "sysusers.d", "tmpfiles.d")
               for file in (tree / "usr/lib" / kind).glob("*"))  # fmt: skip

sbom = {
    "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
    "metadata": {
        "timestamp": datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "component": {"type": "application", "name": name, "version": version, "purl": f"pkg:deb/{name}@{version}",
                      "licenses": [{"license": {"id": "Apache-2.0"}}]},
    },
    "components": [*map(component, libraries), *map(unit, units)],
}  # fmt: skip
(folder / "sbom.cdx.json").write_text(json.dumps(sbom, indent=1, ensure_ascii=False) + "\n")

parts = [f"{name} {version}\n\nTidegate is under the Apache License 2.0, which is at the end."]
if libraries:
    parts[0] += f" Of others are {len(libraries)} libraries:\n"
    parts[0] += "".join(f"\n  {each.name} {each.version}: {licence(each)}" for each in libraries)
for each in libraries:
    parts += [f"{each.name} {each.version}: {file}\n\n{text}" for file, text in texts(each)]
parts.append("Tidegate: LICENSE\n\n" + Path("LICENSE").read_text().strip())
(folder / "copyright").write_text(("\n\n" + 80 * "-" + "\n").join(parts) + "\n")
