"""The scripts of projects/ import each other as siblings, as they do when run by path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'projects' / 'demo'))
