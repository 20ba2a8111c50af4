"""Invalid bodies, and the load of the routes on the server: each mistake gets an answer, no film changes."""

import gzip
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("aiohttp", reason="ComfyUI brings it")

from aiohttp.streams import StreamReader  # noqa: E402 - is it there?

from .. import made_takes  # noqa: E402
from . import fakes, serving  # noqa: E402
from .serving import FINISH, JSON, PATIENCE, PROMPT, STATUS, TAKES, TEXT, ask, request, send  # noqa: E402

pytestmark = pytest.mark.slow

MANY = 1000  # takes in a store
BALL = gzip.compress(TEXT)
SPACES = gzip.compress(b" " * 64_000_000)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """-> (Serving, its port)."""
    with fakes.Host(fakes.OLD, tmp_path_factory.mktemp("host")).pack() as package, serving.Serving(package) as running:
        comfy = serving.middleware()
        yield running, running.serve(*([comfy["compress_body"]] if comfy else []))


@pytest.fixture
def server(served, monkeypatch, caplog):
    """-> (Serving, port) with a new film. In the end the server has reported no error of its own: what aiohttp says
    of requests that it cannot read counts as none."""
    monkeypatch.delenv("LONGLIVE_ALLOWED_HOSTS", raising=False)
    served[0].new_film()
    yield served
    assert ask(served[1], "GET", STATUS).status == 200  # earlier requests have been answered
    failed = [record.exc_info[1] for record in caplog.get_records("call") if record.exc_info]
    assert not [error for error in failed if type(error).__module__ != "aiohttp.http_exceptions"]


def packed(kind: str) -> tuple:
    return (*JSON, ("Content-Encoding", kind))


BROKEN = {
    "gzip that is none": ("gzip", TEXT),
    "deflate that is none": ("deflate", b"\xff\xff" + TEXT),
    "a wrong checksum": ("gzip", BALL[:-6] + b"123456"),
    "one byte": ("gzip", BALL[:20] + b"\x00" + BALL[21:]),
    "half of it": ("gzip", gzip.compress(TEXT * 50)[:-40]),
    "half of deflate": ("deflate", zlib.compress(TEXT)[:-5]),
    "half of noise": ("deflate", zlib.compress(os.urandom(500))[:-50]),
    "no bytes": ("gzip", b""),
    "only a header": ("gzip", BALL[:10]),
    "deflate as gzip": ("gzip", zlib.compress(TEXT)),
    "packed twice": ("gzip", gzip.compress(BALL)),
    "no JSON in it": ("gzip", gzip.compress(b"{")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_packed_bodies(server, name):
    """Forbids an error of the server's own for a mistake of the client's, for finish as for prompts."""
    running, port = server
    kind, body = BROKEN[name]
    for path in (PROMPT, FINISH) if body else (PROMPT,):
        assert ask(port, "POST", path, packed(kind), body).status == 400
        assert not running.changed


@pytest.mark.parametrize(
    ("kind", "body"), [("gzip", BALL), ("GZIP", BALL), ("deflate", zlib.compress(TEXT)), ("identity", TEXT), ("", TEXT)]
)
def test_packed_bodies(server, kind, body):
    """Forbids refusing clients that pack what they send."""
    running, port = server
    assert ask(port, "POST", PROMPT, packed(kind), body).status == 200 and running.changed


@pytest.mark.parametrize(
    "headers",
    [packed("rot13"), packed("gzip, gzip"), packed("x-gzip"), (*packed("gzip"), ("Content-Encoding", "gzip"))],
)
def test_other_encodings(server, headers):
    """Forbids taking a body as it is that says it is something else."""
    running, port = server
    for body in (TEXT, BALL):
        assert ask(port, "POST", PROMPT, headers, body).status in (400, 415) and not running.changed


@pytest.mark.parametrize(
    ("path", "headers", "answer"),
    [
        (PROMPT, packed("gzip"), 413),
        (FINISH, packed("gzip"), 413),
        (FINISH, (*packed("gzip"), ("Origin", "null")), 403),
        (FINISH, (("Content-Encoding", "gzip"), ("Content-Type", "text/plain")), 415),
        (FINISH.replace("3", "4"), packed("gzip"), 413),
    ],
)
def test_a_bomb(server, monkeypatch, path, headers, answer):
    """Forbids unpacking it to the end on the server's only thread, as a body or to be rid of it after a refusal."""
    running, port = server
    unpacked, feed = [], StreamReader.feed_data

    def count(self, data, *size):
        unpacked.append(len(data))
        return feed(self, data, *size)

    monkeypatch.setattr(StreamReader, "feed_data", count)
    assert ask(port, "POST", path, headers, SPACES).status == answer
    assert ask(port, "GET", STATUS).status == 200  # anything that is still being unpacked comes before this
    assert not running.changed
    assert sum(unpacked) < 2**21 or len(list(filter(None, unpacked))) == 1  # older aiohttp unpacks at once what came


@pytest.mark.parametrize("path", [PROMPT, FINISH])
def test_large_bodies(server, path):
    """Forbids keeping what is too large, and waiting for what says that it will be."""
    running, port = server
    text, sent = b'{"text": "' + b"a" * 70_000 + b'"}', [("Host", f"127.0.0.1:{port}"), *JSON]
    assert ask(port, "POST", path, JSON, text).status == 413
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (text[:40_000], text[40_000:])) + b"0\r\n\r\n"
    assert send(port, request("POST", path, [*sent, ("Transfer-Encoding", "chunked")], chunks)).status == 413
    assert send(port, request("POST", path, [*sent, ("Content-Length", "70000")])).status == 413
    assert not running.changed


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Length", "300")], b""),
        ([("Content-Length", "300")], TEXT),
        ([("Transfer-Encoding", "chunked")], b"ff\r\n" + TEXT[:5]),
        ([("Transfer-Encoding", "chunked")], b"%x\r\n%s\r\n" % (len(TEXT), TEXT)),
        ([("Content-Length", "300"), ("Content-Encoding", "gzip")], BALL[:20]),
    ],
    ids=["nothing", "less", "half a chunk", "no last chunk", "packed"],
)
def test_bodies_that_do_not_come(server, monkeypatch, headers, body):
    """Forbids waiting forever, accepting a part as the whole, and a traceback for a client that disconnected."""
    running, port = server
    sent = request("POST", PROMPT, [("Host", f"127.0.0.1:{port}"), *JSON, *headers], body)
    assert send(port, sent, hang_up=True).status in (0, 400)
    assert not running.changed
    monkeypatch.setattr(running.bodies, "BODY_SECONDS", 0.0)
    assert send(port, sent).status == 408
    assert not running.changed


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ([("Content-Length", "3")], 400),
        ([("Content-Length", "-3")], 400),
        ([("Content-Length", "abc")], 400),
        ([("Content-Length", "9" * 30)], 400),
        ([("Content-Length", "44"), ("Content-Length", "3")], 400),
        ([("Content-Length", "44"), ("Transfer-Encoding", "chunked")], 400),
        ([("Transfer-Encoding", "gzip")], 400),
        ([("Content-Length", "44"), ("Expect", "100-continue")], 200),
        ([("Content-Length", "44"), ("Expect", "a")], 417),
        ([("Content-Length", "44"), ("Expect", "100-continue"), ("Origin", "null")], 403),
    ],
)
def test_lengths_that_lie(server, headers, answer):
    """Forbids a request in the rest of another one's body, and what the client did not mean as a whole."""
    running, port = server
    sent = request("POST", PROMPT, [("Host", f"127.0.0.1:{port}"), *JSON, *headers], TEXT)
    assert len(TEXT) == 44
    assert send(port, sent).status == answer
    assert running.changed == (answer == 200)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"text": "a ball", "text": "a blue star"}', "'text' occurs twice"),
        (b'{"text": "a blue ball", "at": "now", "at": "0c"}', "'at' occurs twice"),
        (b'{"text": {"a": 1, "a": 2}}', "'a' occurs twice"),
        (b'[{"a": 1, "a": 2}]', "'a' occurs twice"),
        (b'{"text": "blue", "te\\u0078t": "b"}', "'text' occurs twice"),
        (b'{"text": "blue", "\\ud800": 1}', r"unknown field '\ud800'"),
        ('{"text": "blue", "\u202etxet": 1}'.encode(), r"unknown field '\u202etxet'"),
        (
            ('{"text": "blue", ' + ",".join(f'"{n}": 1' for n in range(6000)) + "}").encode(),
            "unknown field '0', '1', '10'",
        ),
        (b'{"text": "blue", ' + b'"a": 1,' * 6000 + b'"a": 1}', "'a' occurs twice"),
        (b'{"text": "blue \\ud800"}', "surrogate"),
        (b'{"text": "blue", "at": "\\ud800"}', "not a time"),
        (b'{"text": "a blue\\u0000 ball"}', "NUL"),
        (b'{"text": "a blue\\n0s ball"}', "one line"),
        ('{"text": "a blue ball"}'.encode("utf-16"), "valid JSON"),
        ('{"text": "blue"}'.encode("utf-32"), "valid JSON"),
        ('{"text": "ein Bär, blue"}'.encode("latin-1"), "valid JSON"),
        (b"\0" * 100, "valid JSON"),
        (b'{"text": "blue"} {"text": "blue"}', "valid JSON"),
        (b'{"text": "blue",}', "valid JSON"),
        (b"{'text': 'blue'}", "valid JSON"),
        (b'{"text": "blue\n"}', "valid JSON"),
        (b"[" * 60_000, "valid JSON"),
        (b'{"a":' * 12_000, "valid JSON"),
        (b'{"text": "blue", "at": ' + b"9" * 5000 + b"}", "valid JSON"),
        (b"null", "an object"),
        (b"3", "an object"),
    ],
    ids=range(26),
)
def test_texts_that_are_no_prompt(server, body, words):
    """Forbids a prompt that one program reads so and another otherwise, and errors that print what they refuse."""
    running, port = server
    answer = ask(port, "POST", PROMPT, JSON, body)
    assert answer.status == 400 and words in answer.said["error"] and len(answer.said["error"]) < 600
    assert not set(answer.said["error"]) & set("\u202e\n\0") and not running.changed


def test_finish_takes_nothing(server):
    """Forbids that a body which was meant for another route ends a film; empty ones are fine."""
    running, port = server
    for body in (TEXT, b"[]", b'"finish"', b"{", b'{"\\ud800": 1}'):
        assert ask(port, "POST", FINISH, JSON, body).status == 400 and not running.changed
    for body in (b"", b"{}", b" {} ", b"\xef\xbb\xbf{}"):
        running.new_film()
        assert ask(port, "POST", FINISH, JSON, body).status == 200 and running.changed
    running.new_film()
    assert send(port, request("POST", FINISH, [("Host", f"127.0.0.1:{port}"), *JSON])).status == 200  # curl -X POST


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ("",),
        ("text/plain",),
        ("application/x-www-form-urlencoded",),
        ("multipart/form-data; boundary=x",),
        ("application/ld+json",),
        ("application/json+x",),
        ("application/jsonp",),
        ("text/json",),
        ("*/*",),
        ("json",),
        ("text/plain; application/json",),
        ("text/plain; a=application/json",),
        ("text/plain, application/json",),
        ("application/json, text/plain",),
        ("application/json text/plain",),
        ("application/json; charset=latin-1",),
        ("application/json; charset=utf-16",),
        ("application/json", "text/plain"),
        ("text/plain", "application/json"),
        ("application/json", "application/json"),
    ],
)
def test_types(server, kinds):
    """Forbids bodies that a page of another origin may send without asking first."""
    running, port = server
    for path, body in ((PROMPT, TEXT), (FINISH, b"{}"), (FINISH, b"")):
        answer = ask(port, "POST", path, [("Content-Type", kind) for kind in kinds], body)
        assert answer.status == 415 or (len(kinds) > 1 and answer.status == 400)  # newer aiohttp wants one alone
        assert not running.changed


# --- how often, how much, and who waits for it


@pytest.mark.parametrize("status", [429, 409, 400])
def test_too_often(server, monkeypatch, status):
    """Forbids that a limit of the film's looks like a mistake in the prompt, or like a film that is over."""
    running, port = server
    too_fast, too_late = running.core.takes.TooFast("30 a minute", 1.2), running.core.takes.TooLate("over")
    error = {429: too_fast, 409: too_late, 400: ValueError("the film has 4000 prompts")}[status]

    def prompt(*given):
        raise error

    monkeypatch.setattr(running.live, "prompt", prompt)
    answer = ask(port, "POST", PROMPT, JSON, TEXT)
    assert (answer.status, answer.said) == (status, {"error": str(error)})
    assert answer.headers.get("Retry-After") == ("2" if status == 429 else None)


class Held:
    """A function in whose place all callers wait until `open` is set. most: how many did at the same time."""

    def __init__(self, result):
        self.result, self.open, self.entered = result, threading.Event(), threading.Semaphore(0)
        self.now = self.most = 0

    def __call__(self, *given):
        self.now += 1
        self.most = max(self.most, self.now)
        self.entered.release()
        assert self.open.wait(PATIENCE)
        self.now -= 1
        return self.result


@pytest.mark.parametrize(
    ("owner", "name", "result", "method", "path"),
    [
        ("nodes", "_all_takes", '{"takes": []}', "GET", TAKES),
        ("live", "prompt", 1, "POST", PROMPT),
        ("nodes", "_is_stored", False, "GET", STATUS.replace("3", "4")),
    ],
)
def test_nobody_waits_for_a_slow_one(server, monkeypatch, owner, name, result, method, path):
    """Forbids reading a store, or changing a plan, where ComfyUI's whole server waits for it; and that many who ask
    for the store at once take all threads."""
    running, port = server
    held = Held(result)
    monkeypatch.setattr(getattr(running, owner), name, held)
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(ask, port, method, path, JSON, TEXT if method == "POST" else b"") for _ in range(4)]
        try:
            assert held.entered.acquire(timeout=PATIENCE)
            assert ask(port, "GET", STATUS).status == 200
        finally:
            held.open.set()
        assert {each.result(PATIENCE).status for each in answers} <= {200, 404}
    assert held.most == 1 or path != TAKES


def test_status_reads_no_file(server, monkeypatch):
    """Forbids that a program which looks every second keeps the disk busy."""
    running, port = server
    monkeypatch.setattr(running.nodes, "TakeStore", None)
    assert ask(port, "GET", STATUS).said["state"] == "rendering"


def test_many_takes_and_damaged_ones(server):
    """Forbids a list that one damaged take keeps away, and one that does not say which it is."""
    running, port = server
    store = running.core.takes.TakeStore(running.nodes.store_folder())
    ids = []
    for number in range(MANY):
        take = made_takes.manifest(number, "0s A red ball bounces on a meadow.", 0.5, float(number))
        made_takes.place(store, take, number % 2)
        ids.append(take.id)
    damage = {1: b"", 2: b"{", 3: b"[]", 4: b"[" * 100_000, 5: b'{"format": NaN}', 6: b"\xff\xfe", 7: None}
    for number, content in damage.items():
        path = store.take_folder(ids[number]) / "take.json"
        path.unlink()
        path.mkdir() if content is None else path.write_bytes(content)
    (store.take_folder(ids[8]) / "film.mp4").write_bytes(b"")
    answer = ask(port, "GET", TAKES, [("Accept-Encoding", "identity")])
    assert answer.status == 200
    takes = {take["take"]: take for take in answer.said["takes"]}
    assert len(answer.said["takes"]) == MANY and takes.keys() == set(ids)
    damaged = {name: take["error"] for name, take in takes.items() if "error" in take}
    assert set(damaged) == {ids[number] for number in damage}
    assert all(len(error.splitlines()) == 1 and error.isprintable() for error in damaged.values())
    whole = [take for take in answer.said["takes"] if "error" not in take]
    assert [take["created"] for take in whole] == sorted((take["created"] for take in whole), reverse=True)
    assert all(take["rendered"] == ids.index(take["take"]) % 2 for take in whole)
    assert [take["take"] for take in whole if take["film"]] == [ids[8]]
    assert ask(port, "GET", f"/longlive/live/{ids[1]}/status").status == 404
    assert ask(port, "GET", f"/longlive/live/{ids[9]}/status").status == 409
