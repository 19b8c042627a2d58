"""The inbox for people: a list, and each message as HTML, text, source or links, with a button for its code."""

from __future__ import annotations

import secrets
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from socle_auth.inbox import search
from socle_auth.inbox.reading import find_code, find_links
from socle_auth.store import inbox

if TYPE_CHECKING:
    from starlette.requests import Request

    from socle_auth.context import AuthService
    from socle_auth.store.inbox import StoredMessage

_SHOWN = 200
_VIEWS = ("html", "text", "source", "links")
_MESSAGE_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src http: https: data:; "
    "style-src 'unsafe-inline'; font-src https: data:"
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem;color:#222;background:#fafaf8}
a{color:#1f6f4a}header{display:flex;gap:1rem;align-items:center;flex-wrap:wrap}h1{font-size:1.3rem;margin:0;flex:1}
table{width:100%;border-collapse:collapse;margin-top:1rem;table-layout:fixed}
td{padding:.5rem;border-bottom:1px solid #ddd;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
td:last-child{width:9rem;text-align:right;color:#666}.new{font-weight:600}.empty{color:#666;margin-top:3rem}
button,input,.button{font:inherit;padding:.3rem .8rem;border:1px solid #bbb;border-radius:5px;background:#fff}
.button{text-decoration:none}nav{margin:1rem 0;display:flex;gap:1rem}nav a[aria-current]{font-weight:600;color:#222}
iframe,pre{width:100%;min-height:60vh;border:1px solid #ddd;background:#fff;box-sizing:border-box}
pre{padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}dl{display:grid;grid-template-columns:auto 1fr;gap:0 1rem}
dt{color:#666}dd{margin:0;overflow-wrap:anywhere}li{overflow-wrap:anywhere;margin:.5rem 0}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1c1c1a}a{color:#7fcfa5}nav a[aria-current]{color:#fff}
button,input,.button,pre{background:#2a2a28;color:#ddd;border-color:#555}td{border-color:#444}}
"""
_LIST_SCRIPT = """
const shown = document.body.dataset.newest, api = 'api/v1/messages';
setInterval(async () => {
  if (document.hidden) return;
  const answer = await fetch(api + '?limit=1');
  const list = answer.ok ? (await answer.json()).messages : null;
  if (list && (list[0] ? list[0].ID : '') !== shown) location.reload();
}, 3000);
document.getElementById('clear').addEventListener('click', async () => {
  await fetch(api, {method: 'DELETE'}); location.reload();
});
"""
_MESSAGE_SCRIPT = """
const copy = document.getElementById('copy');
if (copy) copy.addEventListener('click', async () => {
  await navigator.clipboard.writeText(copy.dataset.code); copy.textContent = 'Copied';
});
document.getElementById('delete').addEventListener('click', async event => {
  await fetch('../api/v1/messages', {method: 'DELETE', body: JSON.stringify({IDs: [event.target.dataset.id]})});
  location.href = '../';
});
"""


class Pages:
    """The routes that a browser opens; every address in them is relative, wherever they are mounted."""

    def __init__(self, service: AuthService) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        return [
            Route("/", self.messages, methods=["GET"]),
            Route("/view/{id}.html", self.html, methods=["GET"]),
            Route("/view/{id}.txt", self.text, methods=["GET"]),
            Route("/view/{id}", self.message, methods=["GET"]),
        ]

    async def messages(self, request: Request) -> Response:
        query = request.query_params.get("query", "")
        async with self._service.connect() as connection:
            found, total = await inbox.page(connection, search.parse_search(query), 0, _SHOWN)
            newest, _ = await inbox.page(connection, inbox.Filter(), 0, 1)
        rows = "".join(_row(message) for message in found)
        content = f"<table>{rows}</table>" if rows else '<p class="empty">Nothing here yet.</p>'
        body = (
            f'<header><h1>Inbox ({total})</h1><form><input name="query" value="{escape(query)}" placeholder="Search" '
            f'aria-label="Search"></form><button id="clear">Delete all</button></header>{content}'
        )
        return _page("Inbox", body, _LIST_SCRIPT, f' data-newest="{newest[0].id if newest else ""}"')

    async def message(self, request: Request) -> Response:
        found = await self._find(request)
        if found is None:
            return PlainTextResponse("message not found", 404)
        if request.path_params["id"] != found.id:
            return RedirectResponse(found.id, 303)
        async with self._service.connect() as connection:
            await inbox.mark(connection, [found.id], is_read=True)
        views = _VIEWS if found.html else _VIEWS[1:]
        chosen = request.query_params.get("view", "")
        view = chosen if chosen in views else views[0]
        return _page(found.subject, _message(found, view, views), _MESSAGE_SCRIPT)

    async def html(self, request: Request) -> Response:
        """The message's own HTML, which may run nothing; its links open beside the inbox."""
        found = await self._find(request)
        if found is None or not found.html:
            return PlainTextResponse("message not found", 404)
        return HTMLResponse(
            f'<base target="_blank">{found.html}',
            headers={"content-security-policy": _MESSAGE_POLICY, "referrer-policy": "no-referrer"},
        )

    async def text(self, request: Request) -> Response:
        found = await self._find(request)
        return PlainTextResponse("message not found", 404) if found is None else PlainTextResponse(found.body)

    async def _find(self, request: Request) -> StoredMessage | None:
        async with self._service.connect() as connection:
            return await inbox.find(connection, request.path_params["id"])


def _row(message: StoredMessage) -> str:
    mark = "" if message.is_read else ' class="new"'
    kind = "✉" if message.kind == "mail" else "✆"
    return (
        f"<tr{mark}><td>{kind} {escape(message.recipient)}</td>"
        f'<td><a href="view/{message.id}">{escape(message.subject) or "(no subject)"}</a></td>'
        f"<td>{message.created_at:%d %b %H:%M:%S}</td></tr>"
    )


def _message(message: StoredMessage, view: str, views: tuple[str, ...]) -> str:
    code = find_code(message)
    links = find_links(message)
    confirming = next((link for link in links if "token=" in link), "")
    tools = [f'<button id="copy" data-code="{code}">Copy the code {code}</button>'] if code else []
    if confirming:
        tools.append(f'<a class="button" href="{escape(_safe(confirming))}" rel="noreferrer">Open the link</a>')
    tools.append(f'<button id="delete" data-id="{message.id}">Delete</button>')
    tabs = "".join(f'<a href="?view={name}"{" aria-current=page" if name == view else ""}>{name}</a>' for name in views)
    shown = {
        "html": f'<iframe sandbox="allow-popups allow-popups-to-escape-sandbox" src="{quote(message.id)}.html" '
        'title="Message"></iframe>',
        "text": f"<pre>{escape(message.body)}</pre>",
        "source": f"<pre>{escape(message.source)}</pre>",
        "links": "<ul>"
        + "".join(f'<li><a href="{escape(_safe(link))}" rel="noreferrer">{escape(link)}</a></li>' for link in links)
        + "</ul>",
    }[view]
    return (
        f"<header><h1>{escape(message.subject)}</h1>{''.join(tools)}</header>"
        f"<dl><dt>From</dt><dd>{escape(message.sender)}</dd><dt>To</dt><dd>{escape(message.recipient)}</dd>"
        f"<dt>Date</dt><dd>{message.created_at:%d %b %Y %H:%M:%S}</dd></dl>"
        f'<nav><a href="../">← Inbox</a>{tabs}</nav>{shown}'
    )


def _safe(link: str) -> str:
    scheme = link.partition(":")[0].lower()
    return "about:blank" if scheme in ("javascript", "data", "vbscript") else link


def _page(title: str, body: str, script: str, attributes: str = "") -> Response:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "frame-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="robots" content="noindex"><title>{escape(title)}</title><style nonce="{nonce}">{_STYLE}</style>'
        f'</head><body{attributes}>{body}<script nonce="{nonce}">{script}</script></body></html>'
    )
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
    return HTMLResponse(page, headers=headers)
