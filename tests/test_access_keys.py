"""Keys: what their file holds, who may read it, and whom they let in."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest

from crossmodal.access.keys import KEYS_FILE, KeyFile
from crossmodal.access.policy import Access, mark_public
from crossmodal.errors import CrossmodalError, RequestError, SettingsError, StoreError
from crossmodal.settings import Settings

OWN_KEY = "a-key-of-the-environment"


def status_of(access: Access, secret: str | None, scope: str) -> int:
    """200 where the key may do what needs the scope, else the status that says why not."""
    try:
        access.check(secret, scope)  # type: ignore[arg-type]
    except RequestError as error:
        return error.status
    return 200


def test_a_key_is_stored_as_a_hash_in_a_file_of_its_owner(tmp_path: Path) -> None:
    secret = KeyFile(tmp_path).add("laptop", "write")
    file = tmp_path / KEYS_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert secret not in text
    (stored,) = json.loads(text)["keys"]
    assert stored["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert (stored["name"], stored["scope"]) == ("laptop", "write")
    # 256 random bits take 43 characters of base64.
    assert len(secret.removeprefix("crossmodal_")) == 43
    assert [path.name for path in tmp_path.iterdir()] == [KEYS_FILE]


def test_each_scope_includes_those_before_it(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    secrets = {scope: keys.add(scope, scope) for scope in ("read", "write", "admin")}  # type: ignore[arg-type]
    access = Access(Settings(workspace=tmp_path))
    allowed = {
        held: [scope for scope in secrets if status_of(access, secret, scope) == 200]
        for held, secret in secrets.items()
    }
    assert allowed == {
        "read": ["read"],
        "write": ["read", "write"],
        "admin": ["read", "write", "admin"],
    }
    assert status_of(access, secrets["read"], "write") == 403
    assert status_of(access, secrets["read"][:-1], "read") == 401
    assert status_of(access, "", "read") == 401
    assert status_of(access, None, "read") == 401


def test_a_running_server_sees_what_is_added_and_revoked(tmp_path: Path) -> None:
    access = Access(Settings(workspace=tmp_path))
    assert status_of(access, None, "admin") == 200
    keys = KeyFile(tmp_path)
    first = keys.add("first", "read")
    assert status_of(access, None, "read") == 401
    assert status_of(access, first, "read") == 200
    second = keys.add("second", "read")
    keys.revoke("first")
    assert (status_of(access, first, "read"), status_of(access, second, "read")) == (401, 200)
    digest = hashlib.sha256(second.encode()).hexdigest()
    assert access.by_digest(digest) is not None
    keys.revoke("second")
    assert access.by_digest(digest) is None
    # Without a key left nobody gets in, also not those who need none where there never was one.
    assert status_of(access, None, "read") == 401
    assert status_of(Access(Settings(workspace=tmp_path)), None, "read") == 401


def test_a_file_that_is_damaged_or_removed_lets_nobody_in(tmp_path: Path) -> None:
    secret = KeyFile(tmp_path).add("only", "admin")
    access = Access(Settings(workspace=tmp_path))
    assert status_of(access, secret, "admin") == 200
    file = tmp_path / KEYS_FILE
    for content in ("", "{}", '{"format": 1, "keys": [{"name": "x"}]}', '{"format": 2, "keys": []}'):
        file.write_text(content)
        with pytest.raises(StoreError, match="nobody is let in"):
            access.check(secret, "read")
        with pytest.raises(StoreError, match="nobody is let in"):
            Access(Settings(workspace=tmp_path)).check(None, "read")
    file.unlink()
    assert status_of(access, None, "read") == 401


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "admin"),
        ({"host": "::1"}, "admin"),
        ({"host": "0.0.0.0"}, None),
        ({"host": "192.168.1.7"}, None),
        ({"trusted_proxy": ("127.0.0.1",)}, None),
        ({"host": "0.0.0.0", "insecure_no_auth": True}, "admin"),
        ({"host": "0.0.0.0", "insecure_no_auth": True, "key": OWN_KEY}, None),
        ({"key": OWN_KEY}, None),
    ],
)
def test_what_is_open_without_a_key(
    tmp_path: Path, settings: dict[str, object], expected: str | None
) -> None:
    access = Access(Settings(workspace=tmp_path, **settings))  # type: ignore[arg-type]
    assert access.without_key() == expected
    assert status_of(access, None, "read") == (200 if expected else 401)


def test_the_key_of_the_environment_may_do_everything_and_is_shown_nowhere(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path, key=OWN_KEY)
    access = Access(settings)
    assert status_of(access, OWN_KEY, "admin") == 200
    assert status_of(access, OWN_KEY + "x", "read") == 401
    assert OWN_KEY not in repr(settings)
    for unusable in ("short", "with spaces in its middle", "ümlaut-ümlaut-ümlaut", "x" * 300):
        with pytest.raises(SettingsError, match="CROSSMODAL_KEY") as raised:
            Access(Settings(workspace=tmp_path, key=unusable))
        assert unusable not in str(raised.value)


def test_a_marked_index_can_be_read_by_everybody_until_it_changes(tmp_path: Path) -> None:
    state = ("an index", 7)
    access = Access(Settings(workspace=tmp_path, host="0.0.0.0"), lambda: state)
    assert access.without_key() is None
    mark_public(tmp_path, state)
    assert (status_of(access, None, "read"), status_of(access, None, "write")) == (200, 403)
    state = ("an index", 8)
    assert status_of(access, None, "read") == 401
    state = ("another index", 7)
    assert status_of(access, None, "read") == 401
    state = ("an index", 7)
    KeyFile(tmp_path).add("x", "read")
    assert status_of(access, None, "read") == 401


def test_names_are_told_apart(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.add("one", "read")
    with pytest.raises(CrossmodalError, match="There is a key 'one' already"):
        keys.add("one", "admin")
    with pytest.raises(CrossmodalError, match="There is no key 'two'; there are: 'one'"):
        keys.revoke("two")
    for name in ("", " ", "a\nb", "x" * 81):
        with pytest.raises(CrossmodalError, match="is no name for a key"):
            keys.add(name, "read")
