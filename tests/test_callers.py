"""Who may call the pack's routes, judged by headers; tests/hosts/test_callers_served.py tests a server."""

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest

PLACE = Path(__file__).resolve().parents[1] / "nodes" / "routes" / "access.py"
MACHINE = "studio-3"
US, PAGE = "127.0.0.1:8188", "http://127.0.0.1:8188"
FILMS = "https://films.example"


@pytest.fixture(scope="module")
def callers():
    """nodes/routes/access.py alone, without ComfyUI, on a machine of that name."""
    spec = importlib.util.spec_from_file_location("longlive_callers", PLACE)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.socket, "gethostname", lambda: f"{MACHINE}.films.example")
        yield module
    del sys.modules[spec.name]


@pytest.fixture
def status(callers):
    """-> 200, or the status with which a call is refused."""

    def judge(host=US, origin=None, site=None, allowed="", cors=None, **more) -> int:
        as_often = {"hosts": host, "origins": origin, "sites": site}
        lists = {
            name: () if value is None else (value,) if isinstance(value, str) else value
            for name, value in as_often.items()
        }
        try:
            callers.check(callers.Call(**lists, **{"changes": True, **more}), callers.read_allowed(allowed), cors)
        except callers.Refused as refusal:
            return refusal.status
        return 200

    return judge


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        US,
        "127.0.0.1.",
        "192.168.1.5:8188",
        "10.0.0.7:80",
        "0.0.0.0:8188",
        "[::1]",
        "[::1]:8188",
        "[0:0:0:0:0:0:0:1]:8188",
        "[fd00::5]:8188",
        "[FE80::1%eth0]:8188",
        "[::ffff:127.0.0.1]:8188",
        "localhost",
        "localhost:8188",
        "LocalHost:8188",
        "localhost.:8188",
        "comfy.localhost:8188",
        MACHINE,
        f"{MACHINE}:8188",
        f"{MACHINE.upper()}.local:8188",
        f"{MACHINE}.films.example",
    ],
)
def test_addresses_and_own_names(status, host):
    """Forbids a list that every user must fill in: addresses cannot be rebound, and no third party has these names."""
    assert status(host) == 200
    assert status(host, f"http://{host}") == 200
    assert status(host, "http://evil.example") == status(host, "null") == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8188",
        "EVIL.example.",
        "localhost.evil.example",
        "evillocalhost",
        "localhost.evil",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io:8188",
        "xn--lcalhost-y9a:8188",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.1",
        "local",
        f"x.{MACHINE}",
        f"{MACHINE}.example",
        "films.example",
        "host.docker.internal:8188",
        "a_b.example",
        "-",
        "1",
    ],
)
def test_rebound_names(status, host):
    """Forbids pages whose owner points their name at this machine: all is of one origin then, reading included."""
    for changes, origin, site in itertools.product([True, False], [None, f"http://{host}"], [None, "same-origin"]):
        assert status(host, origin, site, changes=changes) == 403
    assert status(host, changes=False, cors="*") == 403


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        f"{US} evil.example",
        f"{US}, evil.example",
        "127.0.0.1:abc",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "127.0.0.1:-1",
        "127.0.0.1:８１８８",
        "１２７.0.0.1",
        ":8188",
        "::1",
        "[::1",
        "[::1]x",
        "[zz]",
        "[127.0.0.1]",
        "[]",
        f"x@{US}",
        f"{US}/",
        f"{US}/x",
        f"{US}?x",
        f"{US}#x",
        f"http://{US}",
        "127.0.0.1\\@evil",
        "a..b",
        ".a",
        "*",
        "*.films.example",
        "löcalhost",
        "localhost\u202e",
        "localhost\n",
        "a" * 400,
        "\udcff",
        (),
        (US, US),
        (US, "evil.example"),
        ("evil.example", US),
    ],
)
def test_hosts_that_are_none(status, host):
    """Forbids guessing what a request means that no browser sends."""
    assert status(host) == status(host, changes=False) == status(host, allowed="*") == status(host, cors="*") == 400


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (US, PAGE),
        (US, "https://127.0.0.1:8188"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("127.0.0.1", "https://127.0.0.1"),
        ("127.0.0.1:443", "https://127.0.0.1"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("LOCALHOST:8188", "HTTP://localhost:8188"),
        ("[::1]:8188", "http://[::1]:8188"),
        ("[0:0::1]:8188", "http://[::1]:8188"),
        ("localhost.:8188", "http://localhost.:8188"),
    ],
)
def test_pages_of_this_server(status, host, origin):
    """Forbids refusing the pack's own front end, on any port, behind TLS or not."""
    for site, changes in itertools.product([None, "same-origin"], [True, False]):
        assert status(host, origin, site, changes=changes) == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (US, "null"),
        (US, ""),
        (US, " "),
        (US, "file://"),
        (US, "data:"),
        (US, "evil"),
        (US, US),
        (US, "http://"),
        (US, "http://127.0.0.1"),
        (US, "https://127.0.0.1"),
        (US, "http://127.0.0.1:8189"),
        (US, "http://localhost:8188"),
        (US, "http://[::1]:8188"),
        (US, f"http://x@{US}"),
        (US, f"http://{US}@evil.example"),
        (US, f"http://{US}/"),
        (US, f"{PAGE}, {PAGE}"),
        (US, f"{PAGE} http://evil.example"),
        (US, "ftp://127.0.0.1:8188"),
        (US, "chrome-extension://abcdef"),
        (US, "http://[::1"),
        (US, "http://127.0.0.1:99999999"),
        (US, "http://*"),
        (US, f"http://{US}.evil.example"),
        (US, "http://127.0.0.1.evil.example:8188"),
        ("127.0.0.1", "http://127.0.0.1:9"),
        ("127.0.0.1", "https://127.0.0.1:8188"),
        ("127.0.0.1:443", "http://127.0.0.1"),
        ("localhost:8188", "http://localhost.:8188"),
        ("localhost:8188", "http://a.localhost:8188"),
        ("192.168.1.5:8188", "http://192.168.1.6:8188"),
        ("0.0.0.0:8188", PAGE),
        ("[::1]:8188", "http://[::2]:8188"),
    ],
)
def test_other_pages(status, host, origin):
    """Forbids other pages, also those of another port of this machine and those that have no address."""
    for site, changes in itertools.product([None, "cross-site", "same-origin"], [True, False]):
        assert status(host, origin, site, changes=changes) == 403


def test_several_origins(status):
    """Forbids that of two one is believed."""
    for origins in ((PAGE, PAGE), (PAGE, "http://evil.example"), ("http://evil.example", PAGE)):
        assert status(US, origins) == 400


@pytest.mark.parametrize(
    ("site", "answer"),
    [
        (None, 200),
        ("same-origin", 200),
        ("none", 200),
        ("Same-Origin", 200),
        ("cross-site", 403),
        ("same-site", 403),
        ("", 403),
        ("anything", 403),
        (("none", "cross-site"), 403),
    ],
)
def test_what_browsers_say_of_the_page(status, site, answer):
    """Forbids links, pictures and forms of other pages, which have no Origin, also for reading."""
    for origin, changes in itertools.product([None, PAGE], [True, False]):
        assert status(US, origin, site, changes=changes) == answer


@pytest.mark.parametrize(
    ("target", "host", "answer"),
    [
        (PAGE, US, 200),
        ("http://localhost", "localhost", 200),
        ("http://LOCALHOST:80", "localhost", 200),
        ("http://evil.example", US, 400),
        (PAGE, "evil.example", 400),
        ("http://localhost:8188", US, 400),
        (f"http://x@{US}", US, 400),
        ("http://127.0.0.1", US, 400),
        ("http://127.0.0.1:9", "127.0.0.1", 400),
        ("http:", US, 400),
        ("*", US, 400),
        ("http://evil.example", "evil.example", 403),
    ],
)
def test_absolute_targets(status, target, host, answer):
    """Forbids one name in the request's first line and another in Host, of which this side and that take one each."""
    assert status(host, target=target) == answer


def test_tls(status):
    """Forbids pages loaded over plain http, which a third party may have changed on the way, if this server has TLS."""
    assert status(US, "https://127.0.0.1:8188", secure=True) == 200
    assert status(US, PAGE, secure=True) == 403
    assert status(US, PAGE, secure=True, allowed=PAGE) == 200
    assert status("127.0.0.1", "http://127.0.0.1", secure=True) == 403


# --- what the user allows


@pytest.mark.parametrize(
    ("allowed", "host", "answer"),
    [
        ("films.example", "films.example", 200),
        ("films.example", "films.example:8188", 200),
        ("films.example", "FILMS.example.", 200),
        ("FILMS.Example.", "films.example", 200),
        ("films.example", "a.films.example", 403),
        ("films.example", "evilfilms.example", 403),
        ("films.example", "films.example.evil", 403),
        ("*.trycloudflare.com", "a-b-c.trycloudflare.com", 200),
        ("*.trycloudflare.com", "a.b.trycloudflare.com", 200),
        ("*.trycloudflare.com", "trycloudflare.com", 403),
        ("*.trycloudflare.com", "eviltrycloudflare.com", 403),
        ("*.trycloudflare.com", "a.trycloudflare.com.evil.example", 403),
        ("*.trycloudflare.com", ".trycloudflare.com", 400),
        ("a.example,b.example", "b.example", 200),
        (" a.example ,\n b.example ", "b.example", 200),
        (",", "b.example", 403),
        ("films.example:8443", "films.example:8443", 200),
        ("films.example:8443", "films.example", 403),
        ("https://films.example", "films.example", 200),
        ("https://films.example:8443", "films.example", 200),
        ("https://*.proxy.example", "a.proxy.example", 200),
        ("https://films.example", "a.films.example", 403),
        ("*", "anything.example:8188", 200),
        ("comfyui", "comfyui:8188", 200),
        ("comfyui", "evil", 403),
    ],
)
def test_names_that_the_user_allows(status, allowed, host, answer):
    """Forbids tunnels and proxies that cannot be used, and a list that holds for more than it says."""
    for changes in (True, False):
        assert status(host, allowed=allowed, changes=changes) == answer
        assert status(host, f"https://{host}", "same-origin", allowed=allowed, changes=changes) == answer
        assert answer != 200 or status(host, "http://evil.example", allowed=allowed, changes=changes) == 403


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        (FILMS, FILMS, 200),
        (FILMS, "https://films.example:443", 200),
        ("https://films.example:443", FILMS, 200),
        ("HTTPS://Films.example", FILMS, 200),
        (FILMS, "http://films.example", 403),
        (FILMS, "https://films.example:8443", 403),
        ("https://films.example:8443", "https://films.example:8443", 200),
        (FILMS, "https://a.films.example", 403),
        ("films.example", FILMS, 403),
        ("*", FILMS, 403),
        ("*.example", FILMS, 403),
        ("*", "null", 403),
        ("https://*.proxy.example", "https://pod-8188.proxy.example", 200),
        ("https://*.proxy.example", "https://proxy.example", 403),
        ("https://*.proxy.example", "http://a.proxy.example", 403),
        ("http://localhost:3000", "http://localhost:3000", 200),
        ("tauri://localhost", "tauri://localhost", 200),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", 200),
    ],
)
def test_pages_that_the_user_allows(status, allowed, origin, answer):
    """Forbids that a name for Host opens the server to pages, and proxies that write another Host out of reach."""
    for host, site in itertools.product([US, "100.65.18.228:8188"], [None, "cross-site", "same-origin"]):
        assert status(host, origin, site, allowed=allowed) == answer


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "https://*",
        "https://films.example/",
        "films.example/path",
        "fi*ms.example",
        "*films.example",
        "*.",
        "**",
        "*.*",
        "a;b",
        "::1",
        "[::1",
        "films.example:",
        "films.example:0",
        "films.example:x",
        "x@films.example",
        "https://x@films.example",
        "://films.example",
        "a..b",
        "a.example, b example!",
    ],
)
def test_a_list_that_is_none(callers, text):
    """Forbids an entry that seems to hold and does not, and one that holds for more than its writer thought."""
    with pytest.raises(ValueError, match="commas separate several"):
        callers.read_allowed(text)


@pytest.mark.parametrize(
    ("cors", "origin", "changing", "reading"),
    [
        (None, FILMS, 403, 403),
        ("*", FILMS, 403, 200),
        ("*", "null", 403, 200),
        ("*", PAGE, 200, 200),
        ("*", None, 200, 200),
        (FILMS, FILMS, 200, 200),
        (FILMS, "https://other.example", 403, 403),
        (FILMS, "null", 403, 403),
        ("null", "null", 403, 403),
        ("", FILMS, 403, 403),
        ("https://*.example", FILMS, 403, 403),
        ("films.example", FILMS, 403, 403),
        ("https://films.example/", FILMS, 403, 403),
    ],
)
def test_enable_cors_header(status, cors, origin, changing, reading):
    """Forbids that `*`, which ComfyUI's users set for one program, lets every page change films; and that an origin
    which the user named is refused."""
    assert status(US, origin, cors=cors) == changing
    assert status(US, origin, cors=cors, changes=False) == reading


def test_errors_say_what_to_do(callers):
    """Forbids a 403 without advice, and control characters in it."""
    cases = {
        ("films.example:8188", None): ["'films.example'", "put films.example into", callers.ALLOWED],
        (US, "https://Films.example"): ["'https://Films.example'", US, f"put {FILMS} into", callers.ALLOWED],
        (US, "null"): ["'null'", "cannot be allowed"],
        (US, "\u202e\x1b[31m"): [r"'\u202e\x1b[31m'"],
        ("a" * 1000 + "\n", None): ["a" * 100, "..."],
    }
    for (host, origin), words in cases.items():
        with pytest.raises(callers.Refused) as refusal:
            callers.check(callers.Call((host,), (origin,) if origin else ()))
        message = str(refusal.value)
        assert all(word in message for word in words), message
        assert message.isprintable() and len(message) < 600
