"""A real ComfyUI server with this pack in it, in folders of its own, and what a test needs to talk to it."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import websocket
from PIL import Image

PACK = Path(__file__).parents[2]
START_LIMIT = 300  # seconds; a busy machine takes a while to import everything

Prompt = Mapping[str, Mapping[str, Any]]

# Kinds of binary messages, from ComfyUI's protocol.py.
PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4


@dataclass(frozen=True)
class Event:
    """One websocket message: ComfyUI's own type with its data, or "text" {node, text}, or "preview" {node, image}."""

    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """What went wrong: ComfyUI's type (an exception's full name, when one was raised), its message and its details."""

    node_id: str | None
    type: str
    message: str
    details: str


@dataclass(frozen=True)
class Result:
    """What became of one prompt.

    Attributes:
        prompt_id: None when the server refused the prompt (HTTP 400).
        outputs: what each output node handed the front end, by node id, such as {"9": {"images": [...]}}.
        error: the exception that a node raised.
        interrupted: whether it was cancelled.
        refusal: why the server refused it, and
        node_errors: which inputs of which nodes were to blame; also filled when only some outputs were refused.
        executed: the nodes that ran (and were not taken from the cache), in order.
        events: the websocket messages from its beginning to its end.
    """

    prompt_id: str | None
    outputs: dict[str, dict[str, Any]]
    error: Problem | None
    interrupted: bool
    refusal: Problem | None
    node_errors: dict[str, list[Problem]]
    executed: list[str]
    events: list[Event] = field(repr=False)

    def check(self) -> Result:
        """This result, or AssertionError when not everything went well."""
        trouble = [self.refusal, *self.node_errors.values(), self.error, *(["interrupted"] if self.interrupted else [])]
        assert not any(trouble), [part for part in trouble if part]
        return self

    def texts(self, node_id: str) -> list[str]:
        """The lines that a node wrote on itself, in order."""
        return [event.data["text"] for event in self.events if event.type == "text" and event.data["node"] == node_id]

    def progress(self, node_id: str) -> list[tuple[float, float]]:
        """(value, maximum) of every step of a node's progress bar."""
        return [
            (event.data["value"], event.data["max"]) for event in self.events if event.type == "progress" and event.data["node"] == node_id
        ]

    def previews(self, node_id: str) -> list[Image.Image]:
        """The pictures that a node showed of its unfinished work."""
        return [event.data["image"] for event in self.events if event.type == "preview" and event.data["node"] == node_id]


class Refused(Exception):
    """The server did not take a prompt; `result` says why."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{result.refusal}, {result.node_errors}")
        self.result = result


def decode(message: str | bytes) -> Event:
    """A websocket message as an Event."""
    if isinstance(message, str):
        entry = json.loads(message)
        return Event(entry["type"], entry.get("data") or {})
    kind, length = struct.unpack(">II", message[:8])
    if kind == TEXT:
        return Event("text", {"node": message[8 : 8 + length].decode(), "text": message[8 + length :].decode()})
    if kind == PREVIEW_WITH_METADATA:
        metadata = json.loads(message[8 : 8 + length])
        return Event("preview", {"node": metadata["node_id"], "image": Image.open(io.BytesIO(message[8 + length :]))})
    if kind == PREVIEW:
        return Event("preview", {"node": None, "image": Image.open(io.BytesIO(message[8:]))})
    raise AssertionError(f"a binary message of unknown kind {kind}")


def node_problems(errors: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Problem]]:
    """ComfyUI's "node_errors", by node id."""
    return {
        node_id: [Problem(node_id, error["type"], error["message"], error["details"]) for error in entry["errors"]]
        for node_id, entry in errors.items()
    }


class Server:
    """ComfyUI with the pack in `folder`/custom_nodes; everything it writes is below `folder`. `arguments` are further ones of its own.

    Attributes:
        folder: the base directory, with `models`, `input`, `output`, `temp` and `user` in it.
        url: where it listens; another one after `restart`.
    """

    def __init__(self, root: Path, python: Path, folder: Path, arguments: Sequence[str] = ()) -> None:
        self.root, self.python, self.folder = root, python, folder
        self._arguments = arguments
        self.models, self.input, self.output = folder / "models", folder / "input", folder / "output"
        self.temp, self.user = folder / "temp", folder / "user"
        self.url = ""
        self._log_file = folder / "server.log"
        self._client_id = uuid.uuid4().hex
        self._refused_parts: dict[str, dict[str, list[Problem]]] = {}
        self._ended: dict[str, list[Event]] = {}
        self._events: list[Event] = []
        for part in (self.input, self.output, self.temp, self.user, *(self.models / name for name in ("checkpoints", "loras"))):
            part.mkdir(parents=True)
        place = folder / "custom_nodes" / "ComfyUI-CAD"
        place.parent.mkdir()
        try:
            place.symlink_to(PACK, target_is_directory=True)
        except OSError:  # Windows lets only some users make links
            shutil.copytree(PACK, place, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "docs"))

    # Starting and stopping

    def start(self) -> None:
        """Start it and wait until it answers; AssertionError with the end of its log when it does not."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        paths = [os.environ.get("COMFYUI_PYTHONPATH"), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
        }
        arguments = [
            *("--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(self.folder)),
            *("--database-url", f"sqlite:///{self.user / 'comfyui.db'}", "--preview-method", "latent2rgb"),
            *self._arguments,
        ]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.python), str(self.root / "main.py"), *arguments],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_it_answers()
            self._socket = websocket.create_connection(f"ws://127.0.0.1:{port}/ws?clientId={self._client_id}", timeout=60)
            self._socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        except BaseException:
            self._kill()
            raise

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                requests.get(f"{self.url}/system_stats", timeout=10).raise_for_status()
                return
            except requests.RequestException:
                time.sleep(0.2)
        raise AssertionError(f"ComfyUI did not start (exit code {self._process.poll()}): {self.log()[-3000:]}")

    def _kill(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._socket.close()
        self._kill()

    def restart(self) -> None:
        """A new process over the same folders, as after closing and opening ComfyUI."""
        self.stop()
        self._ended, self._events, self._refused_parts = {}, [], {}
        self.start()

    def log(self) -> str:
        """Everything that it printed, of all its processes."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    # Talking to it

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at `path`, such as "/models/loras"."""
        answer = requests.get(self.url + path, params=query, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _post(self, path: str, **body: Any) -> None:
        requests.post(self.url + path, json=body, timeout=60).raise_for_status()

    def object_info(self) -> dict[str, Any]:
        """What the front end knows of every node, by node id."""
        return self.get("/object_info")  # type: ignore[no-any-return]

    def queue(self, prompt: Prompt) -> str:
        """Put a prompt at the end of the queue and return its id; Refused when the server does not take it."""
        answer = requests.post(f"{self.url}/prompt", json={"prompt": prompt, "client_id": self._client_id}, timeout=60)
        body = answer.json()
        if answer.status_code == 400:
            error = body["error"]
            refusal = Problem(None, error["type"], error["message"], error["details"])
            raise Refused(Result(None, {}, None, False, refusal, node_problems(body["node_errors"]), [], []))
        answer.raise_for_status()
        prompt_id: str = body["prompt_id"]
        self._refused_parts[prompt_id] = node_problems(body["node_errors"])
        return prompt_id

    def wait(self, prompt_id: str, timeout: float = 300, on_event: Callable[[Event], object] | None = None) -> Result:
        """The result of a queued prompt; `on_event` is called with every message that comes meanwhile.

        TimeoutError, with the end of the log, when it takes longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while prompt_id not in self._ended:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                event = decode(self._socket.recv())
            except (websocket.WebSocketException, OSError) as error:
                raise TimeoutError(f"prompt {prompt_id} did not end ({error!r}): {self.log()[-3000:]}") from error
            self._events.append(event)
            if on_event is not None:
                on_event(event)
            if event.type == "executing" and event.data["node"] is None:
                self._ended[event.data["prompt_id"]], self._events = self._events, []
        return self._result(prompt_id, self._ended[prompt_id])

    def run(self, prompt: Prompt, timeout: float = 300, on_event: Callable[[Event], object] | None = None) -> Result:
        """Queue a prompt and wait for its result, which also tells of refusals, errors and interruptions; see `Result.check`."""
        try:
            prompt_id = self.queue(prompt)
        except Refused as refused:
            return refused.result
        return self.wait(prompt_id, timeout, on_event)

    def _result(self, prompt_id: str, events: list[Event]) -> Result:
        history = self.get(f"/history/{prompt_id}")[prompt_id]
        messages = dict(history["status"]["messages"])
        error = None
        if "execution_error" in messages:
            data = messages["execution_error"]
            error = Problem(data["node_id"], data["exception_type"], data["exception_message"].strip(), "".join(data["traceback"]))
        executed = [event.data["node"] for event in events if event.type == "executing" and event.data["node"] is not None]
        return Result(
            prompt_id,
            history["outputs"],
            error,
            "execution_interrupted" in messages,
            None,
            self._refused_parts[prompt_id],
            executed,
            events,
        )

    def images(self, result: Result, node_id: str | None = None) -> list[Image.Image]:
        """The pictures of all output nodes of a result (SaveImage, PreviewImage, ...), or of one of them."""
        nodes = result.outputs.values() if node_id is None else [result.outputs[node_id]]
        pictures = []
        for entry in (entry for node in nodes for entry in node.get("images", [])):
            answer = requests.get(f"{self.url}/view", params=entry, timeout=60)
            answer.raise_for_status()
            pictures.append(Image.open(io.BytesIO(answer.content)).convert("RGB"))
        return pictures

    def interrupt(self) -> None:
        """Cancel the prompt that is running, as the front end's button does."""
        self._post("/interrupt")

    def forget(self) -> None:
        """Clear the list of jobs: ComfyUI's answer about it is no valid JSON once a NaN was among a failed prompt's inputs."""
        self._post("/history", clear=True)

    def free(self, cache: bool = False) -> None:
        """Unload all models, and with `cache` forget the results of earlier prompts, too, before the next prompt runs."""
        self._post("/free", unload_models=True, free_memory=cache)
        time.sleep(1.5)  # the worker, which is idle now, is woken up by it; nothing tells when it is done, on a busy machine late

    def upload_image(self, picture: Image.Image, name: str) -> str:
        """Put `picture` into the input folder as a PNG and return the name that LoadImage knows it by."""
        content = io.BytesIO()
        picture.save(content, "PNG")
        answer = requests.post(f"{self.url}/upload/image", files={"image": (name, content.getvalue(), "image/png")}, timeout=60)
        answer.raise_for_status()
        name_given: str = answer.json()["name"]
        return name_given
