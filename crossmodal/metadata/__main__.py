"""``python -m crossmodal.metadata`` writes the table of tags into docs/library.md."""

from __future__ import annotations

from pathlib import Path

from crossmodal.metadata.fields import tags_section

_PAGE = Path("docs/library.md")
_BEGIN, _END = "<!-- tags -->\n", "<!-- end of tags -->\n"


def main() -> None:
    """Writes the table between the two comments that enclose it."""
    before, _, rest = _PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text(before + _BEGIN + tags_section() + _END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
