"""The guard: credentials, and what they allow."""

from __future__ import annotations

import asyncio
import base64
import threading

import bcrypt
import pytest

from ingest.runtime.auth.guard import Guard, require_write
from ingest.runtime.auth.tokens import Token, digest
from ingest.runtime.errors import Forbidden, QueueFull, Unauthorized

PASSWORD = "correct horse"
USERS = {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
SCOPES = {"scraper": ["metrics"], "reader": ["drift"], "team": ["write:a/b"], "root": ["admin"]}
TOKENS = [Token(name=name, sha256=digest(name), scopes=s) for name, s in SCOPES.items()]


def admit(guard: Guard, method: str, path: str, authorization: str | None) -> frozenset[str]:
    return asyncio.run(guard.admit(method, path, authorization))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_without_users_and_tokens_every_client_may_do_everything() -> None:
    assert admit(Guard(), "POST", "/-/reload", None) == {"admin"}


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_probes_need_no_credentials(path: str) -> None:
    assert admit(Guard(USERS, TOKENS), "GET", path, None)


@pytest.mark.parametrize(
    ("token", "method", "path"),
    [
        ("scraper", "GET", "/metrics"),
        ("reader", "GET", "/drift/m"),
        ("reader", "GET", "/"),
        ("reader", "POST", "/search"),
        ("team", "POST", "/embeddings"),
        ("root", "POST", "/-/reload"),
        ("root", "GET", "/metrics"),
    ],
)
def test_a_token_allows_what_its_scope_allows(token: str, method: str, path: str) -> None:
    assert admit(Guard({}, TOKENS), method, path, f"Bearer {token}") == set(SCOPES[token])


@pytest.mark.parametrize(
    ("token", "method", "path"),
    [
        ("scraper", "GET", "/drift"),
        ("scraper", "POST", "/embeddings"),
        ("reader", "GET", "/metrics"),
        ("reader", "POST", "/embeddings"),
        ("team", "POST", "/search"),
        ("team", "POST", "/-/reload"),
        ("reader", "DELETE", "/unknown"),
    ],
)
def test_a_token_allows_nothing_else(token: str, method: str, path: str) -> None:
    with pytest.raises(Forbidden, match="needs the scope"):
        admit(Guard({}, TOKENS), method, path, f"Bearer {token}")


def test_a_scope_for_one_model_does_not_allow_others() -> None:
    require_write(["write:a/b"], "a/b")
    require_write(["write"], "c")
    require_write(["admin"], "c")
    with pytest.raises(Forbidden, match="write:a/c"):
        require_write(["write:a/b", "metrics"], "a/c")


def test_a_user_with_the_right_password_may_do_everything() -> None:
    guard = Guard(USERS)
    for _ in range(2):
        assert admit(guard, "POST", "/embeddings", basic("prometheus", PASSWORD)) == {"admin"}


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Basic ???",
        "Basic \xe9",
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        basic("prometheus", "wrong"),
        basic("prometheus", ""),
        basic("nobody", PASSWORD),
        basic("prometheus", PASSWORD + "\0"),
        basic("prometheus", "x" * 100),
        "Digest prometheus",
    ],
)
def test_the_error_does_not_say_what_is_wrong_with_credentials(authorization: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        admit(Guard(USERS, TOKENS), "GET", "/metrics", authorization)
    assert str(refused.value) == "the request needs valid credentials"


def test_an_unknown_user_takes_as_long_as_the_slowest_known_one() -> None:
    checked: list[str] = []

    def check(password: bytes, hashed: str) -> bool:
        checked.append(hashed)
        return bcrypt.checkpw(password, hashed.encode())

    other = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(6)).decode()
    guard = Guard({**USERS, "slow": other, "old": other.replace("2b$06", "2y$05")}, check=check)
    for name in ("nobody", "slow"):
        with pytest.raises(Unauthorized):
            admit(guard, "GET", "/metrics", basic(name, "wrong"))
    assert [hashed[:7] for hashed in checked] == ["$2b$06$", "$2b$06$"]
    assert checked[0] != other


def test_few_wrong_passwords_wait_and_known_users_do_not() -> None:
    may_go_on = threading.Event()
    may_go_on.set()
    checked: list[bytes] = []

    def check(password: bytes, _: str) -> bool:
        may_go_on.wait(60)
        checked.append(password)
        return password == PASSWORD.encode()

    guard = Guard(USERS, check=check)

    async def ask(password: str) -> object:
        return await guard.admit("GET", "/metrics", basic("prometheus", password))

    async def run() -> list[object]:
        assert await ask(PASSWORD) == {"admin"}
        may_go_on.clear()
        flood = [asyncio.create_task(ask(f"wrong {n}")) for n in range(40)]
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert await ask(PASSWORD) == {"admin"}
        may_go_on.set()
        return await asyncio.gather(*flood, return_exceptions=True)

    answers = [type(answer) for answer in asyncio.run(run())]
    assert answers == [Unauthorized] * 8 + [QueueFull] * 32
    assert len(checked) == 1 + 8


def test_the_challenges_name_the_ways_to_authenticate() -> None:
    assert [c.split()[0] for c in Guard(USERS, TOKENS).challenges] == ["Basic", "Bearer"]
    assert [c.split()[0] for c in Guard({}, TOKENS).challenges] == ["Bearer"]
