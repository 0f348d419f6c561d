"""VitalDB's own simulator of Vital Recorder, with files of this machine for those that it would download.

python vital_peer.py SERVER CODE BED=FILE...
"""

import shutil
import sys

from vitalrecorder import server

if __name__ == "__main__":
    address, code, *beds = sys.argv[1:]
    files = {f"local/{bed}.vital": path for bed, _, path in (text.partition("=") for text in beds)}
    server.VITAL_URLS = list(files)
    server.download_file = lambda url, dest: shutil.copyfile(files[url], dest)
    sys.argv = ["vitaldemo", address, "--vrcode", code]
    server.main()
