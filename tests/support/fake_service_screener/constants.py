import pathlib

ROOT_DIR = str(pathlib.Path.cwd())
