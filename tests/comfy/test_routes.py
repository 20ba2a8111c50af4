"""The pack's routes against invalid requests: each is refused, the film continues, no file appears.

These are the ones that a whole server has to show; tests/hosts has every combination of headers and bodies.
"""

import gzip
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest

from longlive_core.takes import TakeStore
from scripts.harness.client import CHUNK_EVENT, PATIENCE, ComfyClient
from scripts.harness.graphs import SAMPLER

from .. import made_takes
from .gate import at
from .takes import report, story

pytestmark = pytest.mark.comfy
LIVE = "/longlive/live"
PROMPT, FINISH = f"{LIVE}/{SAMPLER}/prompt", f"{LIVE}/{SAMPLER}/finish"
JSON = {"Content-Type": "application/json"}
SEED, SECONDS = 71, 60.0


def ask(url: str, path: str, body: bytes | None = None, method: str | None = None, headers: dict = JSON):
    """-> (status, the answer's JSON, or its text). With a body it is a POST, without one a GET."""
    request = urllib.request.Request(url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            status, content = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode(errors="replace")


def prompt(**fields) -> bytes:
    return json.dumps({"text": "A star spins on a meadow.", **fields}).encode()


UNKNOWN_IDS = {
    "no such node": "99",
    "upwards": "..%2F..",
    "upwards twice": "..%2F..%2F..%2Fetc%2Fpasswd",
    "backwards": "..%5C..",
    "absolute": "%2Fetc%2Fpasswd",
    "long": "a" * 4000,
    "unicode": urllib.parse.quote("Фильм 🎬"),
    "NUL": "%00",
    "no such take": "0" * 12,
    "a take in capitals": "ABCDEF012345",
    "a line break": "3%0A",
    "dots": "...",
}

BODIES = {
    "no JSON": (b"{text", 400, "not valid JSON"),
    "no text in it": (b"", 400, "not valid JSON"),
    "not UTF-8": (b'{"text": "\xff"}', 400, "not valid JSON"),
    "deep": (b"[" * 60_000, 400, "not valid JSON"),
    "a number of many digits": (b'{"text": "a", "at": ' + b"9" * 6000 + b"}", 400, "not valid JSON"),
    "array": (b'[{"text": "a"}]', 400, "the body must be an object"),
    "word": (b'"finish"', 400, "the body must be an object"),
    "too large": (prompt(text="a" * 65536), 413, "larger than 65536"),
    "100 KB of text": (prompt(text="A red ball. " * 9000), 413, "larger than 65536"),
    "unknown field": (prompt(path="/etc/passwd"), 400, "unknown field 'path'"),
    "no prompt": (b"{}", 400, '"text" must be the new prompt'),
    "number for text": (prompt(text=5), 400, '"text" must be the new prompt'),
    "list for text": (prompt(text=["a"]), 400, '"text" must be the new prompt'),
    "null for text": (prompt(text=None), 400, '"text" must be the new prompt'),
    "blank text": (prompt(text=" \t"), 400, '"text" must be the new prompt'),
    "line break": (prompt(text="a ball\n0s a star"), 400, "one line"),
    "carriage return": (prompt(text="a ball\r0s a star"), 400, "one line"),
    "brace": (prompt(text="a ball {"), 400, "no closing brace"),
    "unknown option": (prompt(text="a ball {loop}"), 400, "unknown option {loop}"),
    "NUL": (prompt(text="a\0ball"), 400, "NUL"),
    "half a character": (b'{"text": "\\ud800"}', 400, "surrogate"),
    "two segments": (prompt(text="a ball | 5s a star"), 400, "second segment"),
    "past": (prompt(at="0c"), 409, "made already"),
    "past in seconds": (prompt(at=0), 409, "made already"),
    "beyond the end": (prompt(at="10000c"), 409, "past the end of the film"),
    "beyond the end in seconds": (prompt(at=86399), 409, "past the end of the film"),
    "far beyond": (prompt(at="99999999999999999999c"), 409, "past the end of the film"),
    "1e300": (prompt(at=1e300), 400, "is not in the film"),
    "negative": (prompt(at=-5), 400, "is not in the film"),
    "NaN": (prompt(at=float("nan")), 400, "is not in the film"),
    "infinity": (prompt(at=float("inf")), 400, "is not in the film"),
    "soon": (prompt(at="soon"), 400, "not a time"),
    "no time": (prompt(at=""), 400, "not a time"),
    "true": (prompt(at=True), 400, '"at" must be "now"'),
    "null": (prompt(at=None), 400, '"at" must be "now"'),
    "a list of times": (prompt(at=["now"]), 400, '"at" must be "now"'),
    "a time of 1000 digits": (prompt(at="1" * 1000 + "s"), 400, "too many digits"),
    "transition": (prompt(transition="fade"), 400, "fade"),
    "number for transition": (prompt(transition=1), 400, '"transition" must be'),
    "transition and option": (prompt(text="a {keep}", transition="cut"), 400, "contradict"),
}
TYPES = {
    "form": "application/x-www-form-urlencoded",
    "text": "text/plain",
    "files": "multipart/form-data; boundary=x",
    "none": "",
    "JSON of another kind": "application/ld+json",
    "Latin 1": "application/json; charset=latin-1",
}
CALLERS = {
    "another page": ({"Origin": "http://evil.example"}, 403),
    "no origin": ({"Origin": "null"}, 403),
    "a file": ({"Origin": "file://"}, 403),
    "another port": ({"Origin": "http://127.0.0.1:1"}, 403),
    "no port": ({"Origin": "http://127.0.0.1"}, 403),
    "a form or a link": ({"Sec-Fetch-Site": "cross-site"}, 403),
    "a rebound name": ({"Host": "evil.example"}, 403),
    "a rebound name's own page": ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
    "a forwarded name": ({"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1"}, 403),
    "an address of the network": ({"Host": "192.168.1.5:8188", "Origin": "http://evil.example"}, 403),
    "no name": ({"Host": "x@127.0.0.1"}, 400),
    "a broken body": ({"Content-Encoding": "gzip"}, 400),
}
BOMB = gzip.compress(b" " * 30_000_000)
METHODS = {
    "GET prompt": ("GET", PROMPT),
    "GET finish": ("GET", FINISH),
    "POST status": ("POST", f"{LIVE}/{SAMPLER}/status"),
    "POST takes": ("POST", "/longlive/takes"),
    "DELETE takes": ("DELETE", "/longlive/takes"),
    "PUT prompt": ("PUT", PROMPT),
    "DELETE prompt": ("DELETE", PROMPT),
}


def hostile(url: str) -> dict:
    """Every request once, to a film that is being rendered: answers by what and name."""
    answers = {("body", name): ask(url, PROMPT, body) for name, (body, _, _) in BODIES.items()}
    for name, kind in TYPES.items():
        answers["type", name] = [
            ask(url, PROMPT, prompt(), headers={"Content-Type": kind}),
            ask(url, FINISH, b"{}", headers={"Content-Type": kind}),
        ]
    for name, (method, path) in METHODS.items():
        answers["method", name] = ask(url, path, b"{}" if method != "GET" else None, method)
    for name, film in UNKNOWN_IDS.items():
        answers["id", name] = [
            ask(url, f"{LIVE}/{film}/status"),
            ask(url, f"{LIVE}/{film}/prompt", prompt()),
            ask(url, f"{LIVE}/{film}/finish", b"{}"),
        ]
    for name, (headers, _) in CALLERS.items():
        answers["caller", name] = [
            ask(url, PROMPT, prompt(), headers={**JSON, **headers}),
            ask(url, f"/api{FINISH}", b"{}", headers={**JSON, **headers}),
        ]
    answers["bomb", ""] = ask(url, PROMPT, BOMB, headers={**JSON, "Content-Encoding": "gzip"})
    page = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    answers["own page", ""] = ask(url, f"/api{LIVE}/{SAMPLER}/status", headers=page)
    answers["after", "all"] = ask(url, f"{LIVE}/{SAMPLER}/status")
    return answers


def files_of(server) -> set:
    """All files of the server's, but for the films and logs that it writes itself."""
    own = (server.base / "temp", server.base / "output" / "longlive", server.base / "user")
    return {
        path
        for path in server.base.rglob("*")
        if not path.is_symlink()
        and not path.is_relative_to(own[0])
        and not path.is_relative_to(own[1])
        and not path.is_relative_to(own[2])
        and "custom_nodes" not in path.parts
    }


@pytest.fixture(scope="module")
def steered_film(server):
    """-> (answers, run, files that appeared, what was logged). All requests are sent to one film, which is then
    finished."""
    answers, before, logged = {}, files_of(server), server.log.stat().st_size

    def act(run):
        answers.update(hostile(server.url))
        answers["finish", "good"] = ask(server.url, f"{LIVE}/{answers['after', 'all'][1]['take']}/finish", b"{}")
        answers["finish", "again"] = ask(server.url, FINISH, b"{}")

    with ComfyClient(server.url) as connection:
        run = connection.run(story(SEED, duration=SECONDS), on_event=at(connection, CHUNK_EVENT, act, chunk=1))
    return answers, run, files_of(server) - before, server.log.read_bytes()[logged:].decode(errors="replace")


@pytest.mark.parametrize("name", BODIES)
def test_bodies(steered_film, name):
    """Forbids errors of the server's own (500), and an unintended prompt in the film."""
    status, answer = steered_film[0]["body", name]
    _, wanted, words = BODIES[name]
    assert (status, list(answer)) == (wanted, ["error"]), answer
    assert words in answer["error"]


@pytest.mark.parametrize("name", TYPES)
def test_types(steered_film, name):
    """Forbids bodies that a page of another origin may send without asking first."""
    assert steered_film[0]["type", name] == [(415, {"error": "send the body as application/json, in UTF-8"})] * 2


@pytest.mark.parametrize("name", METHODS)
def test_methods(steered_film, name):
    """Forbids changing a film by a link. (A GET that no route takes, ComfyUI looks up among its own pages.)"""
    assert steered_film[0]["method", name][0] == (404 if METHODS[name][0] == "GET" else 405)


@pytest.mark.parametrize("name", UNKNOWN_IDS)
def test_unknown_ids(steered_film, name):
    """Forbids opening files by names that a client invented."""
    for status, answer in steered_film[0]["id", name]:
        assert status == 404, answer
        assert "no film with this name" in answer["error"]


@pytest.mark.parametrize("name", CALLERS)
def test_callers(steered_film, name):
    """Forbids steering films from any page that is open in the browser, under any name."""
    assert [status for status, _ in steered_film[0]["caller", name]] == [CALLERS[name][1]] * 2


def test_the_own_page_and_a_bomb(steered_film):
    """Forbids keeping out the panel, and unpacking a body that has no end."""
    status, state = steered_film[0]["own page", ""]
    assert (status, state["state"]) == (200, "rendering")
    assert steered_film[0]["bomb", ""][0] == 413


def test_the_film_continues_unchanged(steered_film):
    """Forbids that one of all these requests changed the film, ended it, or left a file."""
    answers, run, appeared, logged = steered_film
    status, state = answers["after", "all"]
    assert (status, state["state"]) == (200, "rendering")
    status, state = answers["finish", "good"]
    assert (status, state["state"]) == (200, "finishing")
    assert answers["finish", "again"][0] == 409
    reported = report(run)
    assert reported["partial"] and len(reported["segments"]) == 3 and reported["take"] == state["take"]
    assert appeared == set()
    assert "Traceback" not in logged and "Error handling request" not in logged


def test_a_finished_film(steered_film, client, server):
    """Forbids promising a prompt to a film that is over; its status is still reported."""
    take = report(steered_film[1])["take"]
    for name in (SAMPLER, take):
        status, state = ask(server.url, f"{LIVE}/{name}/status")
        assert (status, state["state"], state["take"]) == (200, "finished", take)
        for path, body in ((f"{LIVE}/{name}/prompt", prompt()), (f"{LIVE}/{name}/finish", b"{}")):
            status, answer = ask(server.url, path, body)
            assert status == 409 and "finished" in answer["error"]


def test_a_take_that_is_not_rendered_here(steered_film, server):
    """Forbids a 404 for a take that is there, and a film that begins because of a request."""
    listed = ask(server.url, "/longlive/takes")[1]["takes"]
    assert report(steered_film[1])["take"] in {take["take"] for take in listed}
    store, foreign = TakeStore(server.base / "output" / "longlive"), made_takes.manifest(77, "0s A ball", 1.5)
    made_takes.place(store, foreign, rendered=0)
    try:
        for path, body in (("status", None), ("prompt", prompt()), ("finish", b"{}")):
            status, answer = ask(server.url, f"{LIVE}/{foreign.id}/{path}", body)
            assert status == 409 and "is not being rendered here" in answer["error"]
    finally:
        store.remove(foreign.id)


def test_the_server_still_renders(steered_film, client):
    """Forbids trouble that lasts."""
    assert report(client.run(story(SEED + 1, duration=1.5, text="0s A ball")))["partial"] is False
