"""Record what the lesson prints as a picture: python docs/record_lesson.py docs/lesson.svg"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from workbench import cli
from workbench.commands import screen


def main() -> int:
    """Run the lesson for real and save its terminal output."""
    screen.console = Console(record=True, width=108, highlight=False, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["teach", "sample_data/zorbic.jsonl", "--beside-sft", "--runs", f"{folder}/runs"]
        status = cli.main(arguments)
        picture = screen.console.export_svg(title="make lesson")
    Path(sys.argv[1]).write_text(picture.replace(f"{folder}/", ""), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
