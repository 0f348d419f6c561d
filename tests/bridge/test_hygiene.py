"""The bridge is standard library only, and importing it does no work."""

import subprocess
import sys

PROBE = """
import sys
before = set(sys.modules)
import ecgedge_bridge, ecgedge_bridge.crc as crc
assert crc._table.cache_info().currsize == 0, "the CRC table was built at import"
roots = {name.split(".")[0] for name in set(sys.modules) - before} - {"ecgedge_bridge"}
print(sorted(roots - set(sys.stdlib_module_names)))
"""


def test_only_the_standard_library_and_nothing_done_at_import():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_is_what_the_package_offers():
    import ecgedge_bridge

    assert all(hasattr(ecgedge_bridge, name) for name in ecgedge_bridge.__all__)
    assert sorted(ecgedge_bridge.__all__) == ecgedge_bridge.__all__
