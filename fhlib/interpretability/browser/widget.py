"""The explorer's page in a browser: its script, and what it asks of the kernel.

The script lies here as files of its own. It gets whole volumes as binary messages and cuts them itself, so a slice
needs no answer of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import traitlets

FOLDER = Path(__file__).parent
Message = dict[str, Any]
Answers = Callable[[Message, Callable[[float], None]], tuple[Message, list[bytes]]]
"""From a question, and what is told how much is done, to a message and its buffers."""


class ExplorerWidget(anywidget.AnyWidget):
    """The page's model. `view` is what is seen (`choices.View` as JSON), in either direction; `place` names where it stands."""

    _esm = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js")))
    _css = (FOLDER / "explorer.css").read_text(encoding="utf-8")
    view = traitlets.Dict().tag(sync=True)
    place = traitlets.Unicode().tag(sync=True)

    def __init__(self, answers: Answers, view: Message) -> None:
        super().__init__(view=view, place=uuid4().hex)
        self._answers = answers
        self.on_msg(self._asked)

    def _asked(self, _widget: Any, question: Message, _buffers: Sequence[Any]) -> None:
        """Answer a question under its number; what goes wrong is said in the answer."""
        number = question.get("number")
        if question.get("kind") == "ping":
            self.send({"kind": "pong", "number": number})
            return

        def progress(done: float) -> None:
            self.send({"kind": "progress", "number": number, "done": done})

        try:
            message, buffers = self._answers(question, progress)
        except Exception as error:  # the reader sees the sentence in the explorer; a traceback would go to a log
            message, buffers = {"kind": "error", "text": f"{error}" or type(error).__name__}, []
        self.send({"kind": "answer", **message, "number": number}, buffers)
