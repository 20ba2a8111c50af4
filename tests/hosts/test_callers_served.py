"""Who may call the pack's routes: every combination of Host, Origin, page and type, sent to a server that has the
middleware of a real ComfyUI; tunnels, proxies, TLS, and requests that no HTTP library sends."""

import itertools
import ssl

import pytest

pytest.importorskip("aiohttp", reason="ComfyUI brings it")

from . import fakes, serving  # noqa: E402 - aiohttp first
from .serving import FINISH, JSON, PROMPT, STATUS, TAKE, TAKES, TEXT, Connection, ask, request, send  # noqa: E402

pytestmark = pytest.mark.slow

ALLOWED = "LONGLIVE_ALLOWED_HOSTS"
LIST = "films.example, *.tunnel.example, https://pages.example"
PLAIN, CHECKED, OPEN, NAMED = "no middleware", "its own check", "--enable-cors-header", "an origin named there"
CORS = {OPEN: "*", NAMED: "https://pages.example"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """-> (Serving, port by middleware)."""
    with fakes.Host(fakes.OLD, tmp_path_factory.mktemp("host")).pack() as package, serving.Serving(package) as running:
        ports, comfy = {PLAIN: running.serve()}, serving.middleware()
        if comfy:
            ports[CHECKED] = running.serve(comfy["compress_body"], comfy["create_origin_only_middleware"]())
            ports |= {kind: running.serve(comfy["create_cors_middleware"](origin)) for kind, origin in CORS.items()}
        yield running, ports


@pytest.fixture(params=[PLAIN, CHECKED, OPEN, NAMED])
def server(request, servers, monkeypatch):
    """-> (kind, Serving, port) of each middleware; the allow-list is empty."""
    running, ports = servers
    if request.param not in ports:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    monkeypatch.delenv(ALLOWED, raising=False)
    monkeypatch.setattr(running.arguments, "enable_cors_header", CORS.get(request.param))
    running.new_film()
    return request.param, running, ports[request.param]


@pytest.fixture
def checked(servers, monkeypatch):
    """-> (Serving, port) behind ComfyUI's own check."""
    running, ports = servers
    if CHECKED not in ports:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    monkeypatch.delenv(ALLOWED, raising=False)
    running.new_film()
    return running, ports[CHECKED]


HOSTS = {
    "127.0.0.1:PORT": 200,
    "localhost:PORT": 200,
    "192.168.1.5:8188": 200,
    "[::1]:PORT": 200,
    "evil.example:PORT": 403,
    "films.example": 200,
    "a.tunnel.example": 200,
    "x@127.0.0.1:PORT": 400,
}
ORIGINS = (
    None,
    "its own",
    "null",
    "",
    "http://evil.example",
    "http://127.0.0.1:1",
    "http://127.0.0.1",
    "https://pages.example",
)
SITES = (None, "same-origin", "cross-site")
ROUTES = (
    ("GET", TAKES, None, b""),
    ("POST", PROMPT, "application/json", TEXT),
    ("POST", FINISH, "application/json", b""),
    ("POST", FINISH, "text/plain", b"{}"),
    ("POST", FINISH, None, b""),
)


def answer_of(kind: str, host: str, origin: str | None, site: str | None, route: tuple) -> int:
    """What docs/takes.md promises, written down once more."""
    method, _, content_type, _ = route
    if HOSTS[host] != 200:
        return HOSTS[host]
    allowed = origin == "https://pages.example" or (kind == OPEN and method == "GET")
    if not allowed and (origin not in (None, "its own") or site not in (None, "same-origin")):
        return 403
    return 200 if method == "GET" or content_type == "application/json" else 415


def test_every_combination(server, monkeypatch):
    """Forbids a combination of headers by which a page reaches the routes, and one that keeps the front end out."""
    kind, running, port = server
    monkeypatch.setenv(ALLOWED, LIST)
    connection, wrong = Connection(port), []
    for host, origin, site, route in itertools.product(HOSTS, ORIGINS, SITES, ROUTES):
        method, path, content_type, body = route
        real = host.replace("PORT", str(port))
        headers = [("Host", real)]
        headers += [] if origin is None else [("Origin", f"http://{real}" if origin == "its own" else origin)]
        headers += [] if site is None else [("Sec-Fetch-Site", site)]
        headers += [] if content_type is None else [("Content-Type", content_type)]
        wanted = answer_of(kind, host, origin, site, route)
        status = connection.ask(method, path, headers, body).status
        foreign = origin not in (None, "its own") or site == "cross-site"
        refused_before = kind == CHECKED and status in (403, 500) and foreign
        changed = running.changed
        if (status != wanted and not refused_before) or changed != (status == 200 and method == "POST"):
            wrong.append((host, origin, site, *route, wanted, status, changed))
        if changed:
            running.new_film()
    assert wrong == []


@pytest.mark.parametrize("path", [FINISH, f"/api{FINISH}", FINISH.replace("3", TAKE)])
def test_the_front_end_and_programs(server, path):
    """Forbids keeping out the pack's own panel (fetch with a JSON body) and programs, which name no origin."""
    _, running, port = server
    pages = [("Origin", f"http://127.0.0.1:{port}"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")]
    for headers in (pages, [], [("User-Agent", "SwarmUI/1.0"), ("Accept", "*/*")]):
        running.new_film()
        for kind in ("application/json", "application/json; charset=utf-8", 'Application/JSON; charset="UTF-8"'):
            assert ask(port, "POST", PROMPT, [*headers, ("Content-Type", kind)], TEXT).status == 200
        assert ask(port, "POST", path, [*headers, *JSON], b"{}").said["state"] == "finishing"
        assert ask(port, "GET", STATUS, headers).said["state"] == "finishing"


def test_every_route(server):
    """Forbids a route of the pack that was forgotten."""
    kind, running, port = server
    assert {path for _, path in running.routes} >= {TAKES, STATUS, PROMPT, FINISH}
    for (method, path), before in itertools.product(running.routes, ("", "/api")):
        body = b"{}" if method == "POST" else b""
        assert ask(port, method, before + path, JSON, body, host=f"evil.example:{port}").status == 403
        reading = kind == OPEN and method == "GET"
        assert ask(port, method, before + path, [("Origin", "null"), *JSON], body).status == (200 if reading else 403)
        if method != "GET":
            assert ask(port, method, before + path, [("Content-Type", "text/plain")], body).status == 415
    assert not running.changed


def test_a_page_that_asks_first(server):
    """Forbids that a page's question before a request (preflight) changes anything, or is allowed by us."""
    kind, running, port = server
    for origin in ("http://evil.example", "null"):
        wish = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type"),
        ]
        answer = ask(port, "OPTIONS", FINISH, wish)
        assert answer.headers.get("Access-Control-Allow-Origin") == CORS.get(kind)
        assert not running.changed


# --- tunnels, reverse proxies, addresses, TLS


def page_of(origin: str) -> list[tuple[str, str]]:
    return [("Origin", origin), ("Sec-Fetch-Site", "same-origin"), *JSON]


def test_a_tunnel(checked, monkeypatch):
    """Forbids that a tunnel's name is believed by itself, and that the allow-list does not help."""
    running, port = checked
    host, proxy = "red-ball-spins.trycloudflare.com", running.proxy(port)

    def steer() -> int:
        return ask(proxy, "POST", FINISH, page_of(f"https://{host}"), host=host).status

    assert (steer(), running.changed) == (403, False)
    monkeypatch.setenv(ALLOWED, "*.trycloudflare.com")
    assert (steer(), running.changed) == (200, True)
    assert ask(proxy, "GET", STATUS, host=host).status == 200
    assert {ask(proxy, method, STATUS, host="evil.example").status for method in ("GET", "HEAD")} == {403}


def test_a_proxy_that_keeps_host(checked, monkeypatch):
    """Forbids a reverse proxy on another port, with TLS of its own, that cannot be used."""
    running, port = checked
    host, proxy = "films.example:8443", running.proxy(port)
    monkeypatch.setenv(ALLOWED, "films.example")
    assert ask(proxy, "POST", FINISH, page_of("https://films.example:9000"), host=host).status == 403
    assert not running.changed
    assert ask(proxy, "POST", FINISH, page_of(f"https://{host}"), host=host).status == 200


def test_a_proxy_that_writes_another_host(checked, monkeypatch):
    """Forbids believing what the page or the proxy says of the name (X-Forwarded-Host); an origin in the list helps."""
    running, port = checked
    host, proxy = "pod-8188.proxy.example", running.proxy(port, "100.65.18.228")

    def steer(origin: str = f"https://{host}") -> int:
        return ask(proxy, "POST", FINISH, page_of(origin), host=host).status

    assert (steer(), running.changed) == (403, False)
    monkeypatch.setenv(ALLOWED, host)  # a Host of this name, which never comes here
    assert (steer(), running.changed) == (403, False)
    monkeypatch.setenv(ALLOWED, "https://*.proxy.example")
    assert (steer("https://evil.example"), running.changed) == (403, False)
    assert (steer(), running.changed) == (200, True)
    assert ask(proxy, "GET", STATUS, host=host).status == 200


def test_a_proxy_on_this_machine_that_writes_another_host(servers, monkeypatch):
    """Forbids that nothing helps where ComfyUI's own check refuses too: its --enable-cors-header names the page."""
    running, ports = servers
    if NAMED not in ports:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    monkeypatch.delenv(ALLOWED, raising=False)
    for kind, answer in ((CHECKED, 403), (NAMED, 200)):
        running.new_film()
        monkeypatch.setattr(running.arguments, "enable_cors_header", CORS.get(kind))
        proxy = running.proxy(ports[kind], "127.0.0.1:8188")
        got = ask(proxy, "POST", FINISH, page_of("https://pages.example"), host="pages.example")
        assert (got.status, running.changed) == (answer, answer == 200)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (name, header)
        for name in ("127.0.0.1:8188", "localhost")
        for header in ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Host", "X-Forwarded-Server")
    ],
)
def test_names_in_other_headers(server, name, header):
    """Forbids a page that says itself which name it used."""
    _, running, port = server
    value = f"host={name}" if header == "Forwarded" else name
    assert ask(port, "POST", FINISH, [(header, value), *JSON], host="evil.example").status == 403
    assert not running.changed
    assert ask(port, "POST", FINISH, [(header, "evil.example"), *JSON]).status == 200


@pytest.mark.parametrize("host", ["192.168.1.5:8188", "10.1.2.3", "[fd00::5]:8188", "0.0.0.0:80", "203.0.113.7:40123"])
def test_every_address(server, host):
    """Forbids that --listen 0.0.0.0, containers and port forwarding need a list: an address cannot be rebound."""
    _, running, port = server
    assert ask(port, "POST", FINISH, page_of("http://192.168.1.66"), host=host).status == 403
    assert not running.changed
    assert ask(port, "POST", FINISH, page_of(f"http://{host}"), host=host).status == 200


def test_tls(servers, monkeypatch):
    """Forbids that pages over TLS count as foreign, and those without TLS as its own."""
    running, _ = servers
    monkeypatch.delenv(ALLOWED, raising=False)
    contexts = []
    for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(side)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.set_ciphers("aNULL:@SECLEVEL=0")  # needs no certificate
        except ssl.SSLError:
            pytest.skip("this OpenSSL has no TLS without certificates")
        contexts.append(context)
    port = running.serve(tls=contexts[0])
    for scheme, target, answer in (
        ("http", FINISH, 403),
        ("https", f"https://evil.example{FINISH}", 400),
        ("http", f"http://127.0.0.1:{port}{FINISH}", 403),
        ("https", FINISH, 200),
    ):
        running.new_film()
        got = ask(port, "POST", target, page_of(f"{scheme}://127.0.0.1:{port}"), tls=contexts[1])
        assert (got.status, running.changed) == (answer, answer == 200)


# --- what no HTTP library sends


def test_hosts_and_origins_over_the_wire(server):
    """Forbids that a second header, a missing one, or a name in the request's first line is overlooked. (aiohttp
    refuses some itself, more of them from version to version, and ComfyUI's check fails for others.)"""
    kind, running, port = server
    us, evil = f"127.0.0.1:{port}", "evil.example"
    own, other = ("Origin", f"http://{us}"), ("Origin", f"http://{evil}")
    requests = {
        "no Host": (FINISH, []),
        "no Host, an Origin": (FINISH, [own]),
        "empty": (FINISH, [("Host", "")]),
        "two": (FINISH, [("Host", us), ("Host", evil)]),
        "two, the other way": (FINISH, [("Host", evil), ("Host", us)]),
        "twice the same": (FINISH, [("Host", us), ("Host", us)]),
        "list": (FINISH, [("Host", f"{us},{evil}")]),
        "absolute": (f"http://{evil}{FINISH}", [("Host", us)]),
        "absolute, the other way": (f"http://{us}{FINISH}", [("Host", evil)]),
        "absolute with a user": (f"http://{us}@{evil}{FINISH}", [("Host", us)]),
        "network path": (f"//{evil}{FINISH}", [("Host", us)]),
        "two origins": (FINISH, [("Host", us), own, other]),
        "other order": (FINISH, [("Host", us), other, own]),
        "two and two": (FINISH, [("Host", us), ("Host", evil), own, other]),
        "not ASCII": (FINISH, [("Host", "löcalhost")]),
        "escaped": (FINISH, [("Host", "127%2e0.0.1")]),
        "lone bracket": (FINISH, [("Host", "[::1"), own]),
        "bad port": (FINISH, [("Host", "127.0.0.1:x"), own]),
        "bad origin": (FINISH, [("Host", us), ("Origin", "http://[::1")]),
        "types": (FINISH, [("Host", us), ("Content-Type", "text/plain")]),
    }
    for version, (name, (target, headers)) in itertools.product(("1.0", "1.1"), requests.items()):
        sent = [*headers, ("Content-Length", "0"), *JSON]
        status = send(port, request("POST", target, sent, version=version)).status
        assert status in (400, 403, 404, 415) or (kind == CHECKED and status == 500), (name, version, status)
        assert not running.changed, (name, version)


def test_absolute_targets_that_agree(server):
    """Forbids refusing what RFC 9112 wants to be answered: the whole address in the request's first line."""
    _, running, port = server
    us = f"127.0.0.1:{port}"
    assert ask(port, "GET", f"http://{us}{STATUS}").status == 200
    assert ask(port, "POST", f"http://{us}{FINISH}", [("Origin", f"http://{us}"), *JSON]).status == 200
    assert running.changed


def test_a_list_that_is_none(server, monkeypatch):
    """Forbids that a mistake in the environment variable is ignored: it may have been meant to refuse a caller."""
    _, running, port = server
    monkeypatch.setenv(ALLOWED, "films.example/path")
    for method, path in (("GET", STATUS), ("POST", FINISH)):
        answer = ask(port, method, path, JSON)
        assert answer.status == 500 and ALLOWED in answer.said["error"] and "films.example/path" in answer.said["error"]
    assert not running.changed


def test_a_list_that_is_none_at_the_start(servers, monkeypatch, caplog):
    """Forbids that only the caller sees the mistake."""
    running, _ = servers
    monkeypatch.setenv(ALLOWED, "films.example/path")
    running.serve()
    assert [ALLOWED in record.getMessage() for record in caplog.records if record.name == "root"] == [True]
