#!/usr/bin/env python3
"""Makes docker/.env with secrets of your own: `python main.py init-env` for a machine without the product's packages.

python3 docker/init_env.py                     once; an existing file is never overwritten
python3 docker/init_env.py --rotate API_KEY    another value for one key of the API
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from commands.environment_file import main

if __name__ == "__main__":
    sys.exit(main())
