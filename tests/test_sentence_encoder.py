"""A published BERT sentence encoder becomes a text tower that computes the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from native_checkpoints import PIECES, padded, toy_captions

from crossmodal.errors import ModelError
from crossmodal.models.libraries import import_torchvision
from crossmodal.models.native.minilm import read_sentence_encoder
from crossmodal.models.native.vocabularies import SPECIAL_PIECES

# As in BERT's own vocabulary: padding first, then unused tokens, the special ones, and other scripts.
VOCABULARY = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u72d7", "##\u00e9", *PIECES)
TEXTS = ["", "dog", "a \u72d7 woman runs", "dog " * 100, *toy_captions()[:12]]
LONGEST = 20


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as sentence encoders are published, with a small random BERT."""
    import_torchvision()
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=70,
        # Much more than 0.02, so that the layers and the curve of GELU matter as in a trained model.
        initializer_range=0.2,
    )
    folder = tmp_path_factory.mktemp("published")
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


def reference(folder: Path, keep: list[int] | None = None) -> torch.Tensor:
    """The mean over all real pieces as sentence encoders take it, by transformers: (texts, width)."""
    from transformers import BertModel, BertTokenizer

    model: Any = BertModel.from_pretrained(folder).eval()
    if keep is not None:
        model.encoder.layer = torch.nn.ModuleList(model.encoder.layer[number] for number in keep)
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(VOCABULARY)})
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    real = batch["attention_mask"][:, :, None]
    pooled: torch.Tensor = (states * real).sum(dim=1) / real.sum(dim=1)
    return pooled


@pytest.mark.parametrize("layers", [None, [2], [0, 2]])
def test_it_computes_what_transformers_does(published: Path, layers: list[int] | None) -> None:
    tower, vocabulary = read_sentence_encoder(
        published, dimension=16, layers=layers, positions=LONGEST, trim=False
    )
    assert tower.config.layers == len(layers or [0, 1, 2])
    with torch.inference_mode():
        pooled = tower.eval().pool(*padded(vocabulary, TEXTS))
        vectors = tower(*padded(vocabulary, TEXTS))
        projected = torch.nn.functional.normalize(tower.projection(pooled), dim=-1)
    expected = reference(published, layers)
    assert torch.nn.functional.cosine_similarity(pooled, expected).min() > 0.9999
    torch.testing.assert_close(pooled, expected, atol=5e-3, rtol=0)
    torch.testing.assert_close(vectors, projected)
    # Other layers would not do: the check is sharp enough to tell them apart.
    others = reference(published, [1])
    assert torch.nn.functional.cosine_similarity(pooled, others).min() < 0.99


def test_trimming_drops_pieces_and_keeps_what_english_needs(published: Path) -> None:
    whole, all_pieces = read_sentence_encoder(published, dimension=16, positions=LONGEST, trim=False)
    tower, vocabulary = read_sentence_encoder(published, dimension=16, positions=LONGEST)
    assert vocabulary.pieces == PIECES
    assert set(all_pieces.pieces) - set(PIECES) == {"[unused0]", "[MASK]", "\u72d7", "##\u00e9"}
    assert "\u2019" in vocabulary.pieces
    english = [text for text in TEXTS if text.isascii()]
    with torch.inference_mode():
        kept, before = (
            model.eval().pool(*padded(pieces, english))
            for model, pieces in ((tower, vocabulary), (whole, all_pieces))
        )
    torch.testing.assert_close(kept, before)
    unknown = SPECIAL_PIECES.index("[UNK]")
    assert vocabulary.numbers_of("\u72d7")[1:-1] == [unknown]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": [0, 3]}, r"layers to keep are \[0, 3\]; .* has the layers 0 to 2"),
        ({"layers": []}, r"layers to keep are \[\]"),
        ({"positions": 71}, r"71 positions are requested; .* has 70"),
    ],
)
def test_more_than_there_is_cannot_be_asked_for(published: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_sentence_encoder(published, dimension=16, **options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "relu"}, "has hidden_act 'relu'; only 'gelu' can be read"),
        ({"model_type": "roberta"}, "has model_type 'roberta'; only 'bert' can be read"),
        ({"hidden_size": 64}, "don't fit its configuration"),
        ({"num_hidden_layers": 4}, r"don't fit its configuration: .*layer\.3"),
        ({"num_attention_heads": None}, "is not the configuration of a sentence encoder"),
    ],
)
def test_another_architecture_is_refused(
    published: Path, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(published, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        read_sentence_encoder(folder, dimension=16)


def test_missing_files_are_named(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incomplete"
    shutil.copytree(published, folder)
    (folder / "model.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        read_sentence_encoder(folder, dimension=16)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\ndog\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"vocab\.txt lacks \[SEP\]"):
        read_sentence_encoder(folder, dimension=16)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is not the configuration"):
        read_sentence_encoder(folder, dimension=16)
