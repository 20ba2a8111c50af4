"""Pages in a real browser that try to steer a film, and the server's own page, where a Chromium and playwright are."""

import os
import queue
import shutil

import pytest

pytest.importorskip("aiohttp", reason="ComfyUI brings it")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

from aiohttp import web  # noqa: E402 - is it there?

from . import fakes, serving  # noqa: E402
from .serving import FINISH, PATIENCE, PROMPT, TAKES, TEXT  # noqa: E402

pytestmark = pytest.mark.slow

REBOUND = "evil.example"
FETCH = """async ([address, body]) => {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  return (await fetch(address, body ? post : {})).status;
}"""
FORM = """<form method="post" enctype="text/plain" action="ADDRESS"><input name="a" value="b"></form>
<script>document.forms[0].submit()</script>"""
FRAME = """<iframe sandbox="allow-forms allow-scripts" srcdoc='FORM'></iframe>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """-> (Serving, port, (Origin, status) of the requests, browser); the name REBOUND leads to this machine."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    answered = queue.Queue()

    @web.middleware
    async def watch(request, handler):
        if request.path == "/":
            return web.Response(text="<html><body></body></html>", content_type="text/html")
        answer = await handler(request)
        answered.put((request.headers.get("Origin"), answer.status))
        return answer

    comfy = serving.middleware()
    own = [comfy["create_origin_only_middleware"]()] if comfy else []
    arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
    with (
        fakes.Host(fakes.OLD, tmp_path_factory.mktemp("host")).pack() as package,
        serving.Serving(package) as running,
        playwright.sync_playwright() as started,
    ):
        browser = started.chromium.launch(executable_path=chromium, args=arguments)
        yield running, running.serve(watch, *own), answered, browser
        browser.close()


@pytest.fixture
def steering(site):
    """As `site`, with a new film and a new page."""
    running, port, answered, browser = site
    running.new_film()
    page = browser.new_page()
    yield running, port, answered, page
    page.close()
    answered.queue.clear()


@pytest.mark.parametrize(("name", "status"), [("127.0.0.1", 200), ("localhost", 200), (REBOUND, 403)])
def test_pages_of_a_name(steering, name, status):
    """Forbids a rebound name, which a browser takes for one site with its page, and refusing the server's own."""
    running, port, _, page = steering
    page.goto(f"http://{name}:{port}/")
    assert page.evaluate(FETCH, [TAKES, ""]) == status
    assert page.evaluate(FETCH, [PROMPT, TEXT.decode()]) == status
    assert running.changed == (status == 200)
    running.new_film()
    assert page.evaluate(FETCH, [FINISH, "{}"]) == status
    assert running.changed == (status == 200)


@pytest.mark.parametrize("where", ["a frame", "a file", "another name", "nowhere"])
def test_forms(steering, tmp_path, where):
    """Forbids what needs no script that reads an answer: a form of a page without an origin, or of another one."""
    running, port, answered, page = steering
    form = FORM.replace("ADDRESS", f"http://127.0.0.1:{port}{FINISH}")
    (tmp_path / "page.html").write_text(form, encoding="utf-8")
    if where == "a file":
        page.goto((tmp_path / "page.html").as_uri(), wait_until="commit")
    else:
        page.goto("about:blank" if where == "nowhere" else f"http://{REBOUND}:{port}/")
        page.set_content(FRAME.replace("FORM", form) if where == "a frame" else form, wait_until="commit")
    origin, status = answered.get(timeout=PATIENCE)
    assert (status, running.changed) == (403, False)
    assert origin == (f"http://{REBOUND}:{port}" if where == "another name" else "null")
