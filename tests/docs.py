"""Every relative link of the documentation leads somewhere: `python -m tests.docs`, part of `make check`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every Markdown page that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def broken_links(page: Path) -> list[str]:
    """`page: target` for each link to a file that is not there."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = (target.split("#")[0] for target in LINK.findall(text) if "://" not in target)
    return [
        f"{page.relative_to(ROOT)}: {target}"
        for target in targets
        if target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]


def main() -> int:
    """1 where a link is broken, each on a line."""
    broken = [line for page in pages() for line in broken_links(page)]
    print("\n".join(broken) or f"{len(pages())} pages, no broken link")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
