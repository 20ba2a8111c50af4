"""Who may call the pack's routes, decided from a request's headers alone, before its body is read.

Every page open in a browser can send requests to this server. What a page cannot choose is the name under which it
reached the server (Host) and its own origin (Origin, Sec-Fetch-Site). So a request is answered if

- its Host is an IP address, localhost, this machine's own name, or a name that the user allowed. The owner of any other
  name could point it at this machine after the page was loaded (DNS rebinding);
- its Origin is that Host or one that the user allowed, or it has none (programs send none).

No name is resolved, and proxy headers (X-Forwarded-Host, Forwarded) are not trusted: a page can send those too.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import NamedTuple

ALLOWED = "LONGLIVE_ALLOWED_HOSTS"  # environment variable: names and origins, separated by commas
ANY = "*"
SHOWN = 120  # characters of a header that an error quotes
DEFAULT_PORTS = {"http": 80, "https": 443}
OWN_PAGES = {"same-origin", "none"}  # values of Sec-Fetch-Site; none: the user typed the address

_NAME = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?"
_PLACE = re.compile(
    rf"(?:\[(?P<six>[0-9a-f:.]+(?:%[\w.~-]+)?)\]|(?P<name>(?:\*\.)?{_NAME}))(?::(?P<port>\d{{1,5}}))?", re.ASCII
)
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<place>.*)", re.ASCII)


class Refused(Exception):
    """A request that is refused. status: the HTTP status code."""

    def __init__(self, status: int, message: str):
        self.status = status
        super().__init__(message)


class Place(NamedTuple):
    """A server's place. scheme: "" if unknown; host: a name or an address, in lower case; port: None if not given."""

    scheme: str
    host: str
    port: int | None

    @property
    def name(self) -> str:
        return self.host.removesuffix(".")

    @property
    def whole_port(self) -> int | None:
        return self.port or DEFAULT_PORTS.get(self.scheme)

    def holds(self, name: str) -> bool:
        """Return whether a name is this one or, for `*.name`, a subdomain of it."""
        return self.host == ANY or name == self.name or (self.host.startswith("*.") and name.endswith(self.name[1:]))


@dataclass(frozen=True)
class Call:
    """The headers that show where a request comes from; each header as often as it occurs.

    target: scheme and authority of an absolute request target, such as `http://host:8188`; "" without one.
    changes: whether the route changes anything. secure: whether the connection to this server is TLS.
    """

    hosts: tuple[str, ...]
    origins: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    target: str = ""
    changes: bool = False
    secure: bool = False


def read_allowed(text: str) -> tuple[Place, ...]:
    """Parse the allow-list: `name`, `name:port`, `*.name`, `*` (any name), `https://name`, `https://*.name`.

    Raises ValueError for anything else: an entry that is not understood must not seem to have an effect.
    """
    return tuple(_entry(word) for word in re.split(r"[\s,]+", text) if word)


def _entry(word: str) -> Place:
    if word == ANY:
        return Place("", ANY, None)
    place = _origin(word) if "://" in word else _place(word)
    if place is None:
        raise ValueError(
            f"{_shown(word)} is neither a name, such as films.example or *.trycloudflare.com, nor the "
            "origin of a page, such as https://films.example; commas separate several"
        )
    return place


def check(call: Call, allowed: tuple[Place, ...] = (), cors: str | None = None) -> None:
    """Raise Refused, with the reason, if a request must not be answered.

    allowed: from `read_allowed`. cors: the value of ComfyUI's --enable-cors-header. An origin there is allowed, since
    the user named it; `*` lets pages of any origin read, as in ComfyUI, but not change anything.
    """
    named = _origin(cors) if cors else None
    if named is not None and "*" not in named.host:
        allowed = (*allowed, named)
    host = _checked_host(call, allowed)
    if cors != ANY or call.changes:
        _check_origin(call, host, allowed)


def _checked_host(call: Call, allowed: tuple[Place, ...]) -> Place:
    if len(call.hosts) != 1:
        raise Refused(400, f"a request must have one Host, this one has {len(call.hosts)}")
    host = _place(call.hosts[0], pattern=False)
    if host is None:
        raise Refused(400, f"Host is {_shown(call.hosts[0])}; expected a name or an address, and optionally a port")
    if call.target:
        target = _origin(call.target)
        if target is None or not _agree(target, host):
            target_text, host_text = _shown(call.target), _shown(call.hosts[0])
            raise Refused(400, f"the request is addressed to {target_text}, but its Host is {host_text}")
    if not (_is_ours(host.name) or any(_holds_host(entry, host) for entry in allowed)):
        raise Refused(
            403,
            f"this server does not answer under the name {_shown(host.name)}: use its IP address, "
            f"localhost or this machine's own name; for a tunnel or a reverse proxy put {host.name} "
            f"into the environment variable {ALLOWED} and start ComfyUI again",
        )
    return host


def _holds_host(entry: Place, host: Place) -> bool:
    """Return whether an entry allows a Host. Its port counts, unless the entry is an origin: that port is the
    proxy's."""
    return entry.holds(host.name) and (entry.scheme != "" or entry.port in (None, host.port))


def _check_origin(call: Call, host: Place, allowed: tuple[Place, ...]) -> None:
    if len(call.origins) > 1:
        raise Refused(400, f"a request must have one Origin, this one has {len(call.origins)}")
    origin = _origin(call.origins[0], pattern=False) if call.origins else None
    if origin is not None and any(_holds_origin(entry, origin) for entry in allowed):
        return
    if call.origins and (origin is None or not _same(origin, host, call.secure)):
        raise Refused(403, _foreign(call.origins[0], origin, call.hosts[0]))
    if not OWN_PAGES.issuperset(site.lower() for site in call.sites):
        raise Refused(
            403,
            f"this request comes from another page (Sec-Fetch-Site is {_shown(call.sites[0])}); "
            "only pages of this server and programs may send it",
        )


def _holds_origin(entry: Place, origin: Place) -> bool:
    return (entry.scheme, entry.whole_port) == (origin.scheme, origin.whole_port) and entry.holds(origin.name)


def _same(origin: Place, host: Place, secure: bool) -> bool:
    """Return whether a page was loaded from the server that it now calls. A proxy in front may do the TLS, so https is
    always possible; an http page calling a server with TLS is another server's."""
    return origin.scheme in ({"https"} if secure else DEFAULT_PORTS) and _agree(origin, host)


def _agree(place: Place, host: Place) -> bool:
    """Return whether a Host, which has no scheme, is this place."""
    return (place.host, place.whole_port) == (host.host, host._replace(scheme=place.scheme).whole_port)


def _foreign(text: str, origin: Place | None, host: str) -> str:
    if origin is None:
        return (
            f"this request comes from a page without an address (Origin is {_shown(text)}), such as a file or a "
            "sandboxed frame, which cannot be allowed; open the page from a server"
        )
    return (
        f"this request comes from a page of {_shown(text)}, but only pages of {_shown(host)} may send it; if that "
        f"page is yours, or a proxy writes another Host, put {text.lower()} into the environment variable "
        f"{ALLOWED} and start ComfyUI again"
    )


# --- parsing


def _place(text: str, scheme: str = "", pattern: bool = True) -> Place | None:
    """Parse `name:8188`, `127.0.0.1`, `[::1]:8188`; None for anything else. pattern: accept `*.name` too."""
    found = _PLACE.fullmatch(text.lower())
    if found is None or len(text) > 300 or (text.startswith(ANY) and not pattern):
        return None
    host, port = found["name"], found["port"] and int(found["port"])
    if found["six"] is not None:
        try:
            host = str(ipaddress.IPv6Address(found["six"]))
        except ValueError:
            return None
    return None if port is not None and not 0 < port < 65536 else Place(scheme, host, port)


def _origin(text: str, pattern: bool = True) -> Place | None:
    """Parse `https://name:8188`; None for anything else, `null` included."""
    found = _ORIGIN.fullmatch(text.lower())
    return found and _place(found["place"], found["scheme"], pattern)


def _is_ours(name: str) -> bool:
    """Return whether this is a name that no third party can redirect, or an address."""
    if name == "localhost" or name.endswith(".localhost") or name in own_names():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@functools.cache
def own_names() -> frozenset[str]:
    """Return this machine's names: the full name, its first part, and that name in the local network (mDNS)."""
    whole = socket.gethostname().lower().removesuffix(".")
    first = whole.partition(".")[0]
    return frozenset({whole, first, f"{first}.local"} if first else ())


def _shown(text: str) -> str:
    """Return a header for an error message: without control characters and not too long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
