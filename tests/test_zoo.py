"""The zoo: records that agree with the libraries, names that find their models, and the list of them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, clean_environment

from crossmodal.errors import ModelError
from crossmodal.models import identify_model, load_preprocessing
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.libraries import import_open_clip
from crossmodal.models.native.checkpoint import SHIPPED
from crossmodal.models.registry import find_published
from crossmodal.models.zoo import ModelRecord, is_cached, near_names, split_name, zoo
from crossmodal.models.zoo.document import replaced

ZOO = {record.name: record for record in zoo()}
OPEN_CLIP = [record for record in ZOO.values() if record.library == "open_clip"]

# XLM-RoBERTa base as its authors published it; open_clip would ask the model hub for these numbers.
XLM_ROBERTA_BASE: dict[str, Any] = {
    "vocab_size": 250_002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}


def count_parameters(record: ModelRecord) -> int:
    """The parameters of the network as open_clip builds it, without the memory for them."""
    import torch

    open_clip = import_open_clip()
    config = open_clip.get_model_config(record.architecture)
    custom_text = config.pop("custom_text", False)
    name = config["text_cfg"].get("hf_model_name")
    with torch.device("meta"):
        if name is None:
            network = (open_clip.model.CustomTextCLIP if custom_text else open_clip.model.CLIP)(**config)
        else:
            from open_clip.hf_model import HFTextEncoder
            from transformers import XLMRobertaConfig

            text = HFTextEncoder(
                name,
                config["embed_dim"],
                config=XLMRobertaConfig(**XLM_ROBERTA_BASE),
                pooler_type=config["text_cfg"]["hf_pooler_type"],
                proj_type="mlp",
                pretrained=False,
            )
            # Only here does open_clip leave the pooler away, which no text uses.
            text.transformer.pooler = None
            network = open_clip.model.CLIP(config["embed_dim"], config["vision_cfg"], {"layers": 1})
            unused = sum(value.numel() for name, value in network.named_parameters() if "visual" not in name)
            # A temperature belongs to the model as well.
            return int(sum(v.numel() for m in (network, text) for v in m.parameters()) - unused + 1)
    return int(sum(value.numel() for value in network.parameters()))


@pytest.mark.parametrize("record", OPEN_CLIP, ids=lambda record: record.name)
def test_records_agree_with_open_clip(record: ModelRecord) -> None:
    open_clip = import_open_clip()
    assert record.pretrained is not None
    assert (record.architecture, record.pretrained) in open_clip.list_pretrained()
    published = open_clip.pretrained.get_pretrained_cfg(record.architecture, record.pretrained)
    config = open_clip.get_model_config(record.architecture)
    assert published["hf_hub"].rstrip("/") == record.repository
    assert config["embed_dim"] == record.dimension
    assert config["text_cfg"].get("context_length", 77) == record.text_length
    derived = ClipSource("tag", record.architecture, tag=record.pretrained).preprocessing
    assert derived == record.preprocessing
    assert bool(published.get("quick_gelu")) == bool(config.get("quick_gelu"))
    assert count_parameters(record) == record.parameters


def test_records_are_complete() -> None:
    assert len(ZOO) == len(zoo())
    for record in ZOO.values():
        assert all((record.licence, record.languages, record.source, record.results_source)), record.name
        assert record.dimension >= 256
        assert record.parameters > 1_000_000
        for result in record.results:
            # All of them find a caption more easily than a photo: five captions a photo may be found.
            assert 0 < result.text_to_image < result.image_to_text < 100, record.name
    assert not [name for name, record in ZOO.items() if not record.results and name != "jina-clip-v2"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_models_tell_what_their_folders_say(name: str) -> None:
    config = json.loads((SHIPPED[name] / "config.json").read_text(encoding="utf-8"))
    record = ZOO[name]
    assert record.shipped
    assert record.dimension == config["dimension"] == identify_model(name).dimension
    assert record.preprocessing == load_preprocessing(name)
    measured = config["training"]["metrics"]["text2image"]["hit@10"]
    assert record.results[0].text_to_image == pytest.approx(100 * measured, abs=0.05)
    assert record.results[0].data_set == "flickr8k dev"


@pytest.mark.parametrize(
    "record", [r for r in ZOO.values() if r.repository is not None], ids=lambda record: record.name
)
def test_a_name_finds_its_model_without_weights(record: ModelRecord, tmp_path: Path) -> None:
    model = find_published(record.name, tmp_path)
    assert model.name == record.name
    assert model.preprocessing == record.preprocessing
    if record.library == "open_clip":
        assert isinstance(model, ClipSource)
        assert (model.architecture, model.tag) == (record.architecture, record.pretrained)
        assert model.dimension == record.dimension
    assert list(tmp_path.iterdir()) == []


def test_names_with_local_files(tmp_path: Path) -> None:
    file = tmp_path / "with:colon.safetensors"
    file.write_bytes(b"")
    found = split_name(f"siglip2-b-16:{file}")
    assert found is not None
    assert (found[0].name, found[1]) == ("siglip2-b-16", file)
    assert split_name("clip:ViT-B-32/openai") is None
    assert split_name("vse") is None
    for name in (f"siglip2-b-16:{tmp_path / 'gone'}", "siglip2-b-16:"):
        with pytest.raises(
            ModelError, match=r"no file or folder '.*', from which siglip2-b-16 should be read"
        ):
            split_name(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("clip-vit-b32", "clip-vit-b-32"),
        ("SigLIP2-B16", "siglip2-b-16"),
        ("jinaclip-v2", "jina-clip-v2"),
        ("mobileclip2_s0", "mobileclip2-s0"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_the_right_one(name: str, near: str) -> None:
    assert near_names(name)[0] == near
    with pytest.raises(ModelError, match=rf"There is no model '{name}'\. Did you mean {near}"):
        identify_model(name)


def test_a_name_like_no_other_is_told_where_the_names_are() -> None:
    with pytest.raises(ModelError, match=r"no model 'xyzzy'\. Known are: .*`crossmodal models`"):
        identify_model("xyzzy")


def test_vsepp_checkpoints_need_local_files() -> None:
    with pytest.raises(ModelError, match=r"vse\+\+-f30k-resnet:PATH_OF_THE_CHECKPOINT.*runs\.tar"):
        identify_model("vse++-f30k-resnet")


def test_weights_in_the_cache_are_noticed(tmp_path: Path) -> None:
    record = ZOO["siglip2-b-16"]
    snapshot = tmp_path / "models--timm--ViT-B-16-SigLIP2" / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_config.json").write_text("{}", encoding="utf-8")
    assert not is_cached(record, tmp_path)
    (snapshot / "open_clip_model.safetensors").symlink_to(tmp_path / "not yet there")
    assert not is_cached(record, tmp_path)
    (tmp_path / "not yet there").write_bytes(b"weights")
    assert is_cached(record, tmp_path)
    assert not is_cached(ZOO["vse++-f30k-resnet"], tmp_path)


def list_models(*arguments: str) -> str:
    """What ``-t models`` prints, and that it needed neither torch nor a library of models."""
    script = (
        "import sys\n"
        "from app import main\n"
        "code = main(sys.argv[1:])\n"
        "slow = {'torch', 'open_clip', 'transformers', 'timm', 'huggingface_hub', 'PIL'} & set(sys.modules)\n"
        "assert not slow, slow\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "-t", "models", *arguments],
        cwd=REPOSITORY,
        env={**clean_environment(), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_list_as_json(tmp_path: Path) -> None:
    weights = (
        tmp_path / "models--apple--DFN2B-CLIP-ViT-B-16" / "snapshots" / "2" / "open_clip_pytorch_model.bin"
    )
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    listed = {
        model["name"]: model
        for model in json.loads(list_models("--json", "--model-cache", str(tmp_path)))["models"]
    }
    assert list(listed) == list(ZOO)
    available = {name: model["available"] for name, model in listed.items()}
    assert available["vse"] == "shipped"
    assert available["dfn-b-16"] == "cached"
    assert available["dfn-l-14"] == "download"
    assert available["vse++-coco-resnet"] == "files"
    assert listed["clip-vit-b-32"]["results"][0] == {
        "data_set": "flickr30k",
        "metric": "recall@1",
        "text_to_image": 58.78,
        "image_to_text": 78.9,
    }
    assert listed["jina-clip-v2"]["preprocessing"].startswith("crop 512 bicubic")


def test_the_list_as_a_table(tmp_path: Path) -> None:
    lines = list_models("--model-cache", str(tmp_path)).splitlines()
    row = next(line for line in lines if line.startswith("siglip-b-16 "))
    assert row.split() == [
        *("siglip-b-16", "download", "775", "MiB", "768", "224", "64", "74.7/89.1", "47.8/65.7"),
        *("English", "Apache-2.0"),
    ]
    assert max(map(len, lines[: len(ZOO) + 2])) <= 120
    assert any("--trust-remote-code" in line for line in lines)


def test_the_table_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossmodal.cli.present.tables import print_models

    monkeypatch.setenv("COLUMNS", "80")
    file = io.StringIO()
    print_models([(record, "download") for record in ZOO.values()], Path("cache"), file)
    table = file.getvalue().splitlines()[: len(ZOO) + 2]
    assert max(map(len, table)) <= 80
    assert all(len(line.split()) >= 4 for line in table[2:])
    assert table[3].split()[0] == list(ZOO)[1]


def test_the_document_is_what_the_records_say() -> None:
    path = REPOSITORY / "docs" / "models.md"
    text = path.read_text(encoding="utf-8")
    assert replaced(text, zoo()) == text, "run python -m crossmodal.models.zoo.document"
    with pytest.raises(ValueError, match="has no part between"):
        replaced("no marks", zoo())
