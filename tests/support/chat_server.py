"""A small server of OpenAI's chat completions, streaming, with tool calls; it says what a script decides."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the model says: calls of tools, else text."""

    text: str = ""
    calls: tuple[tuple[str, Json], ...] = ()


Script = Callable[[list[Json]], Turn]


class ChatServer(ThreadingHTTPServer):
    """Remembers what it was asked."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.asked: list[Json] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked["authorization"] = self.headers.get("Authorization", "")
        self.server.asked.append(asked)
        turn = self.server.script(asked["messages"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if asked.get("stream") else "application/json")
        self.end_headers()
        if not asked.get("stream"):
            raise AssertionError("answers are streamed")
        for delta in _deltas(turn):
            self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        ended = "tool_calls" if turn.calls else "stop"
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": ended}]})
        usage = {"prompt_tokens": 500, "completion_tokens": 20, "total_tokens": 520}
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, body: Json) -> None:
        whole = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "small", **body}
        self.wfile.write(f"data: {json.dumps(whole)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _deltas(turn: Turn) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    for index, (name, arguments) in enumerate(turn.calls):
        text = json.dumps(arguments)
        call = {"index": index, "id": f"id-{index}-{name}", "type": "function"}
        yield {"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]}
        for part in (text[:10], text[10:]):  # arguments arrive in pieces
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
    for word in turn.text.split(" ") if turn.text else ():
        yield {"content": word + " "}


def answers_of_tools(messages: list[Json]) -> list[Any]:
    """What the tools answered so far, as the model reads it."""
    return [json.loads(message["content"]) for message in messages if message["role"] == "tool"]


@contextmanager
def chat_server(script: Script) -> Iterator[ChatServer]:
    """A server that answers by `script`."""
    server = ChatServer(script)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
