"""Options in a model's name: truncation and centring by hand, on real photos, and from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TOY_IMAGES, run_app
from hypothesis import given
from hypothesis import strategies as st
from photos import toy_photo

from crossmodal.engine.photo_index import PhotoIndex
from crossmodal.errors import ModelError, ModelMismatch, SettingsError
from crossmodal.models import (
    ModelIdentity,
    identify_model,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
    weights_size,
)
from crossmodal.models.adaptation import Adaptation, Centering, adapt_vectors, adapted_name, parse_adaptation
from crossmodal.models.native.checkpoint import SHIPPED
from crossmodal.models.registry import banks_of
from crossmodal.models.views import mean_over_views
from crossmodal.settings import VIEWS, Settings

PHOTOS = ("cat.jpg", "rocket.jpg", "astronaut.jpg")
SENTENCES = ["a cat looks at the camera", "a rocket stands on its launch pad", "a smiling astronaut"]
DIM = 128


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    preprocessing = load_preprocessing("vse")
    return np.stack([preprocessing.crop(np.asarray(toy_photo(name))) for name in PHOTOS])


@pytest.fixture(scope="module")
def plain(squares: np.ndarray) -> dict[str, np.ndarray]:
    """The shipped model's own vectors, in float64."""
    return {
        "image": load_image_encoder("vse", threads=1).encode(squares).astype(np.float64),
        "text": load_text_encoder("vse").encode(SENTENCES).astype(np.float64),
    }


@pytest.fixture
def centering(tmp_path: Path, plain: dict[str, np.ndarray]) -> Path:
    """The means of the truncated vectors, in a folder whose name needs encoding."""
    path = tmp_path / "means, a&b?" / "centering.safetensors"
    path.parent.mkdir()
    means = {name: unit(rows[:, :DIM]).mean(axis=0).astype(np.float32) for name, rows in plain.items()}
    Centering(identify_model(f"vse?dim={DIM}"), means["image"], means["text"], "three toy photos").save(path)
    return path


def test_truncated_vectors_are_the_first_components_at_unit_length(
    plain: dict[str, np.ndarray], squares: np.ndarray
) -> None:
    found = {
        "image": load_image_encoder(f"vse?dim={DIM}", threads=1).encode(squares),
        "text": load_text_encoder(f"vse?dim={DIM}").encode(SENTENCES),
    }
    for modality, vectors in found.items():
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, unit(plain[modality][:, :DIM]), atol=1e-6)


def test_centred_vectors_have_their_own_modality_s_mean_subtracted(
    plain: dict[str, np.ndarray], squares: np.ndarray, centering: Path
) -> None:
    name = adapted_name("vse", dim=DIM, centering=centering)
    found = {
        "image": load_image_encoder(name, threads=1).encode(squares),
        "text": load_text_encoder(name).encode(SENTENCES),
    }
    for modality, vectors in found.items():
        truncated = unit(plain[modality][:, :DIM])
        np.testing.assert_allclose(vectors, unit(truncated - truncated.mean(axis=0)), atol=1e-6)


def test_views_are_averaged_and_belong_to_what_the_index_knows(
    plain: dict[str, np.ndarray], squares: np.ndarray
) -> None:
    base = load_image_encoder("vse", threads=1)
    found = load_image_encoder("vse?views=2", threads=1).encode(squares)
    mirrored = base.encode(np.ascontiguousarray(squares[:, :, ::-1]))
    np.testing.assert_allclose(found, unit(plain["image"] + mirrored), atol=1e-6)
    for views in VIEWS:
        seen: list[np.ndarray] = []
        mean_over_views(lambda pixels, seen=seen: seen.append(pixels) or plain["image"], squares, int(views))
        assert [pixels.shape for pixels in seen] == [squares.shape] * int(views)
        assert len({pixels.tobytes() for pixels in seen}) == int(views)
    three, one = identify_model("vse?views=3"), identify_model("vse?views=1")
    assert (three.name, one) == ("vse?views=3", identify_model("vse"))
    assert three != one
    assert one.name == "vse"
    assert three.hubness == one.hubness
    assert banks_of(three) is not None
    assert adapted_name("vse?dim=64&views=3", views=1) == "vse?dim=64"
    with pytest.raises(ModelError, match="one of 1, 2, 3, 6"):
        identify_model("vse?views=4")


def test_no_photos_and_no_sentences_give_no_vectors() -> None:
    size = load_preprocessing("vse?dim=7").size
    images = load_image_encoder("vse?dim=7", threads=1)
    assert images.encode(np.empty((0, size, size, 3), np.uint8)).shape == (0, 7)
    assert load_text_encoder("vse?dim=7").encode([]).shape == (0, 7)


@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 24), centred=st.booleans())
def test_adapted_vectors_have_unit_length(seed: int, dim: int, centred: bool) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(random.standard_normal((5, 24))).astype(np.float32)
    mean = (random.standard_normal(dim) / (2 * dim)).astype(np.float32) if centred else None
    adapted = adapt_vectors(vectors, dim, mean)
    assert adapted.shape == (5, dim)
    np.testing.assert_allclose(np.linalg.norm(adapted.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_vector_that_is_exactly_the_mean_becomes_zero_and_never_not_a_number() -> None:
    vectors = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(adapt_vectors(vectors, 3, vectors[0])[0], [0, 0, 0])


def test_all_dimensions_are_the_plain_model(squares: np.ndarray, plain: dict[str, np.ndarray]) -> None:
    identity = identify_model("vse")
    whole = f"vse?dim={identity.dimension}"
    assert identify_model(whole) == identity
    np.testing.assert_array_equal(load_text_encoder(whole).encode(SENTENCES), plain["text"])


def test_identities_tell_adaptations_apart(centering: Path) -> None:
    plain = identify_model("vse")
    short = identify_model("vse?dim=128")
    centred = identify_model(adapted_name("vse", dim=DIM, centering=centering))
    assert (short.dimension, short.weights, short.preprocessing) == (128, plain.weights, plain.preprocessing)
    assert len({plain, short, identify_model("vse?dim=64"), centred}) == 4
    assert short.name == "vse?dim=128"
    assert identify_model(centred.name) == centred == load_text_encoder(centred.name).identity

    held = Centering.load(centering)
    replace(held, text=-held.text).save(centering)
    assert identify_model(centred.name) != centred


def test_weights_have_the_size_of_their_files() -> None:
    names = ("image.safetensors", "text.safetensors", "vocabulary.txt")
    size = sum((SHIPPED["vse"] / name).stat().st_size for name in names)
    assert weights_size("vse") == weights_size("vse?dim=3") == size


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("vse", None),
        ("vse?dim=128", Adaptation("vse", dim=128)),
        (
            "clip:ViT-B-32/openai?dim=64&centering=/a/b%3F.safetensors",
            Adaptation("clip:ViT-B-32/openai", 64, Path("/a/b?.safetensors")),
        ),
        # A path may hold a question mark, and only the last one starts options.
        ("/models/what?", None),
        ("/models/what?dims=3", None),
        ("/models/what?is=this?dim=3", Adaptation("/models/what?is=this", dim=3)),
        ("?dim=3", None),
    ],
)
def test_options_are_told_from_paths(name: str, parsed: Adaptation | None) -> None:
    assert parse_adaptation(name) == parsed


@given(
    path=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    dim=st.none() | st.integers(1, 9999),
)
def test_a_name_can_be_read_back(path: str, dim: int | None) -> None:
    wanted = Adaptation("vse", dim, Path("/folder") / path.lstrip("/"))
    assert parse_adaptation(wanted.name) == wanted


def test_options_replace_those_that_a_name_has() -> None:
    assert adapted_name("vse?dim=128", dim=64) == "vse?dim=64"
    assert adapted_name("vse?dim=128", centering=Path("/c")) == "vse?dim=128&centering=/c"
    assert adapted_name("vse") == "vse"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vse?dim=0", "dim=0; it must be a whole number, 1 or more"),
        ("vse?dim=many", "dim=many"),
        ("vse?dim=1&dim=2", "an option twice"),
        ("vse?centering=", "names no file"),
        ("vse?dim=9999", r"--dim 9999 is more than the \d+ dimensions of vse"),
        ("vse?centering=/nowhere/c.safetensors", "/nowhere/c.safetensors cannot be used"),
    ],
)
def test_what_cannot_be_adapted_is_said(name: str, words: str) -> None:
    for load in (identify_model, load_text_encoder):
        with pytest.raises(ModelError, match=words):
            load(name)


def test_a_centering_file_of_another_model_or_dimension_is_refused(centering: Path) -> None:
    for name in ("vse", "vse?dim=64"):
        with pytest.raises(ModelError, match=r"was made for vse\?dim=128 .* but the model is"):
            identify_model(adapted_name(name, centering=centering))
    held = Centering.load(centering)
    replace(held, model=replace(held.model, weights="0" * 16)).save(centering)
    with pytest.raises(ModelError, match="weights 0000000000000000"):
        identify_model(adapted_name("vse", dim=DIM, centering=centering))


def test_a_damaged_centering_file_is_an_error_and_not_a_traceback(centering: Path, tmp_path: Path) -> None:
    identity = ModelIdentity("vse", "w", "p", 4)
    whole = centering.read_bytes()
    for damaged in (b"", whole[:100], whole[:-8], b"\xff" * 64):
        centering.write_bytes(damaged)
        with pytest.raises(ModelError, match="cannot be used"):
            Centering.load(centering)
    for mean in (np.full(4, np.nan), np.full(4, 0.9), np.zeros(3)):
        Centering(identity, mean.astype(np.float32), np.zeros(4, np.float32)).save(tmp_path / "c")
        with pytest.raises(ModelError, match="the mean of image"):
            Centering.load(tmp_path / "c")
    with pytest.raises(ModelError, match="its format is None"):
        Centering.load(SHIPPED["vse"] / "text.safetensors")
    with pytest.raises(ModelError, match="cannot be written"):
        Centering(identity, np.zeros(4, np.float32), np.zeros(4, np.float32)).save(tmp_path / "c" / "d")


def test_an_index_keeps_its_dimension_from_the_command_line(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    done = run_app(
        *("-t", "index", "-d", "toy-data", "-m", "vse", "--dim", "128"), "--workspace", workspace, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "vse?dim=128"

    told = json.loads(run_app("-t", "status", "--workspace", workspace, "--json").stdout)
    assert (told["model"]["name"], told["model"]["dimension"]) == ("vse?dim=128", 128)

    query = ("-t", "query", "--query-text", SENTENCES[0], "-k", "15", "--workspace", workspace)
    without = run_app(*query, "--json")
    assert without.returncode == 0, without.stderr
    matches = json.loads(without.stdout)["results"][0]["matches"]
    expected, hubness = scores_by_hand(SENTENCES[0])
    assert [Path(match["uri"]).name for match in matches] == sorted(
        expected, key=lambda name: hubness[name] - expected[name]
    )
    for match in matches:
        assert match["cosine"] == pytest.approx(expected[Path(match["uri"]).name], abs=1e-5)

    refused = run_app(*query, "--dim", "64")
    assert refused.returncode == 1
    assert "was built by the model vse?dim=128" in refused.stderr
    with pytest.raises(ModelMismatch, match=r"vse\?dim=128"):
        PhotoIndex(workspace, "vse")


def scores_by_hand(sentence: str) -> tuple[dict[str, float], dict[str, float]]:
    """The cosine of each toy photo with ``sentence`` over the first 128 components, and its hubness."""
    images = load_image_encoder("vse", threads=1)
    names = sorted(path.name for path in TOY_IMAGES.iterdir())
    squares = np.stack([images.preprocessing.crop(np.asarray(toy_photo(name))) for name in names])
    photos = unit(images.encode(squares).astype(np.float64)[:, :DIM])
    asked = unit(load_text_encoder("vse").encode([sentence]).astype(np.float64)[:, :DIM])
    banks = banks_of(identify_model(f"vse?dim={DIM}"))
    assert banks is not None
    hubness = banks.hubness(photos, "image").tolist()
    return dict(zip(names, (photos @ asked[0]).tolist(), strict=True)), dict(zip(names, hubness, strict=True))


def test_an_index_with_centred_vectors_is_not_mixed_with_a_plain_one(
    tmp_path: Path, centering: Path, squares: np.ndarray
) -> None:
    workspace = tmp_path / "workspace"
    name = adapted_name("vse", dim=DIM, centering=centering)
    with PhotoIndex(workspace, name) as index:
        assert index.add("toy-data").failures == []
    with PhotoIndex(workspace) as index:
        assert index.model == name
        found = index.search_text(SENTENCES[1], top_k=15)
    photo = load_image_encoder(name, threads=1).encode(squares[1:2])[0]
    score = float(photo @ load_text_encoder(name).encode(SENTENCES[1:2])[0])
    (rocket,) = [match for match in found if Path(str(match.uri)).name == "rocket.jpg"]
    assert rocket.cosine == pytest.approx(score, abs=1e-5)
    with pytest.raises(ModelMismatch):
        PhotoIndex(workspace, f"vse?dim={DIM}")
    centering.unlink()
    with pytest.raises(ModelError, match="cannot be used"):
        PhotoIndex(workspace)


def test_contradictions_and_tasks_without_vectors_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from crossmodal.cli.arguments import read_settings
    from crossmodal.engine.opening import chosen_model

    with pytest.raises(SettingsError, match="contradict"):
        chosen_model(Settings(model="vse?dim=32", dim=64))
    assert chosen_model(Settings(model="vse?dim=32", dim=32)) == "vse?dim=32"
    assert chosen_model(Settings(dim=64), "vse?dim=32") == "vse?dim=64"
    for task in ("status", "train"):
        with pytest.raises(SystemExit):
            read_settings(["-t", task, "--dim", "64"], {})
        assert f"--dim has no meaning for -t {task}; it belongs to" in capsys.readouterr().err
