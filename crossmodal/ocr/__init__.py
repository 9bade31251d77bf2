"""The text in photos: signs, receipts, screenshots and documents, read by rapidocr (the extra ``ocr``).

``reader`` is a process that reads one photo after the other. Its models come with rapidocr.
"""

from __future__ import annotations

from crossmodal.ocr.reader import TextReader, can_read_texts

__all__ = ["TextReader", "can_read_texts"]
