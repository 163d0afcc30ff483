"""The resource ``operator:``: an instrument without a wire, reached through somebody who stands beside it."""

from __future__ import annotations

import json

from labctl.errors import ConnectionLost, InputError
from labctl.transport.session import Operator


class OperatorLink:
    """Carries questions to the operator and answers back, a line of JSON each.

    A question has ``ask``, what to do, and ``wants``, what is to be typed; the answer has ``said``.

    :param operator: Who is asked; None if nobody can be.
    """

    def __init__(self, operator: Operator | None) -> None:
        self._operator = operator
        self._questions: list[dict[str, str]] = []
        self._rest = b""
        self._closed = False

    def send(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._questions += [json.loads(line) for line in lines]

    def receive(self, timeout_s: float) -> bytes:
        """Ask what was sent and wait for the answer; how long an operator is given is not for the instrument to say.

        Raises Aborted when it is refused, InputError when nobody can be asked.
        """
        if self._closed:
            raise ConnectionLost("the link to the operator was closed")
        if not self._questions:
            return b""
        question = self._questions.pop(0)
        if self._operator is None:
            raise InputError(
                f"an operator is needed: {question['ask']}", todo="run it in a terminal or window where one can answer"
            )
        said = self._operator(question["ask"], question["wants"])
        return json.dumps({"said": said}).encode() + b"\n"

    def clear(self) -> None:
        self._questions.clear()

    def close(self) -> None:
        self._closed = True
