"""A person at the portal, without a browser: pages, forms, cookies, WebSockets. For the walk of `bin/up --check`."""

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser

SECONDS = 20.0  # for a page; none of them waits for a hypervisor


class Surprise(Exception):
    """The portal answered otherwise than it should; the message says how."""


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Page:
    url: str
    status: int
    html: str

    @property
    def text(self) -> str:
        """What people read: without tags, white space made single."""
        reader = _Reader()
        reader.feed(self.html)
        return " ".join("".join(reader.text).split())

    @property
    def forms(self) -> list[Form]:
        reader = _Reader()
        reader.feed(self.html)
        return reader.forms

    def form(self, action: str) -> Form:
        """The form whose action matches the pattern; an empty action is the page's own address. Raises Surprise."""
        for form in self.forms:
            if form.method == "post" and re.search(action, form.action or urllib.parse.urlsplit(self.url).path):
                return form
        raise Surprise(f"{self.url} offers no form for {action}")

    def find(self, pattern: str) -> str:
        """The first group of the pattern in the page's source. Raises Surprise."""
        found = re.search(pattern, self.html)
        if not found:
            raise Surprise(f"{self.url} has nothing like {pattern}")
        return found[1]


class Visitor:
    """One person's session."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> Page:
        """Raises Surprise on an error page."""
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.base, path)))  # noqa: S310 - our own loopback address

    def submit(self, page: Page, action: str, **values: str) -> Page:
        """Send the form of `page` whose action matches, its own values kept where none is given. Raises Surprise."""
        form = page.form(action)
        return self.post(urllib.parse.urljoin(page.url, form.action or page.url), form.fields | values)

    def post(self, url: str, values: dict[str, str]) -> Page:
        data = urllib.parse.urlencode(values).encode()
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.base, url), data, {"Referer": self.base}))  # noqa: S310

    @property
    def cookie_header(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)

    def _open(self, request: urllib.request.Request) -> Page:
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return Page(answer.url, answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            page = Page(request.full_url, error.code, error.read().decode(errors="replace"))
            raise Surprise(f"{request.full_url} answered {error.code}: {page.text[:300]}") from None
        except OSError as error:
            raise Surprise(f"{request.full_url}: {error}") from None


def _is_sent(given: dict[str, str]) -> bool:
    """Whether a browser sends this input without anybody touching it."""
    kind = given.get("type", "text")
    return "checked" in given if kind in ("checkbox", "radio") else kind not in ("submit", "button", "image")


class _Reader(HTMLParser):
    """Collects text and forms."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._select = ""
        self._silent = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self._silent = tag in ("script", "style")
        if tag == "form":
            self._form = Form(given.get("action", ""), given.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form is not None:
            self._field(tag, given)

    def _field(self, tag: str, given: dict[str, str]) -> None:
        assert self._form is not None
        name = given.get("name", "")
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in given or self._select not in self._form.fields):
            self._form.fields[self._select] = given.get("value", "")
        elif tag == "textarea" and name:
            self._form.fields[name] = ""
        elif tag == "input" and name and _is_sent(given):
            self._form.fields[name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)
