"""Chat templates, which come with models and so are not trusted: they run in jinja2's sandbox, as in transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any


def rendered(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special: Mapping[str, str],
    *,
    add_generation_prompt: bool,
) -> str:
    """The text of a conversation.

    Args:
        template: by jinja2.
        messages: roles and contents.
        special: tokens by the names that templates know them by, such as ``bos_token``.
        add_generation_prompt: whether the text ends where the model is to answer.

    Raises:
        ImportError: jinja2 is not installed.
        jinja2.TemplateError: the template is none, or refuses the conversation.
    """
    text: str = _compiled(template).render(
        messages=[dict(message) for message in messages],
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        **special,
    )
    return text


@lru_cache(maxsize=1)
def _compiled(template: str) -> Any:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}``, around what a model said, which is of interest to those who train it alone."""

        tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> str:
            text: str = caller()
            return text

    class Names(jinja2.utils.Namespace):
        """Without names that begin with an underscore, which lead out of the sandbox."""

        def __init__(*arguments: Any, **names: Any) -> None:
            self, *given = arguments
            wanted = dict(*given, **names)
            for name in wanted:
                _check_name(name)
            jinja2.utils.Namespace.__init__(self, wanted)

        def __setitem__(self, name: str, value: Any) -> None:
            _check_name(name)
            super().__setitem__(name, value)

    def _check_name(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"chat templates cannot set {name!r}: it begins with an underscore")

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _json
    environment.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": lambda *given, **names: dict(*given, **names),
        "namespace": Names,
    }
    return environment.from_string(template)


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As it is; jinja2's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
