"""A BLIP with a matching head, of random weights, in a folder as the model hub has them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["WORDS", "save_small_blip"]

WORDS = ("a", "cat", "dog", "coffee", "cup", "of", "people", "climb", "the", "stairs", "red", "rocket")

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_small_blip(folder: Path) -> Path:
    """Writes it into ``folder``: two layers a tower, photos of 64 pixels."""
    import torch

    from crossmodal.models.libraries import import_transformers

    library = import_transformers()
    vocabulary = folder / "vocab.txt"
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("\n".join((*_SPECIAL, *WORDS)), encoding="utf-8")
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text = {
        "vocab_size": len(_SPECIAL) + len(WORDS),
        "encoder_hidden_size": 32,
        "max_position_embeddings": 64,
    }
    config = library.BlipConfig(
        text_config={**tower, **text, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3},
        vision_config={**tower, "image_size": 64, "patch_size": 16},
        image_text_hidden_size=16,
    )
    torch.manual_seed(5)
    model = library.BlipForImageTextRetrieval(config)
    with torch.no_grad():
        # What it is made with says nothing about photos: most of it is 0 but for 1e-10.
        for name, weight in model.named_parameters():
            if weight.dim() > 1 or "bias" in name:
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    square = {"height": 64, "width": 64}
    tokenizer = library.BertTokenizer(vocab=str(vocabulary))
    library.BlipProcessor(library.BlipImageProcessor(size=square), tokenizer).save_pretrained(folder)
    return folder
