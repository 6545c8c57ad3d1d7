"""The command ``event-hooks``, from its parser."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, _HelpAction, _SubParsersAction
from collections.abc import Iterator, Mapping

from event_hooks.cli.main import build_parser
from tools.reference.markdown import format_code, format_table, join_blocks


def render_common_options() -> str:
    """Return the options that each command has."""
    return _format_options(action for action in build_parser()._actions if action.option_strings)


def render_commands() -> str:
    """Return a section for each command."""
    parser = build_parser()
    common = {option for action in parser._actions for option in action.option_strings}
    sections = []
    for name, command in _commands(parser).items():
        actions = [action for action in command._actions if not common & set(action.option_strings)]
        arguments = "".join(f" {_format_argument(action)}" for action in actions if not action.option_strings)
        usage = format_code(f"event-hooks {name} [OPTIONS]{arguments}", "text")
        text = (command.description or "").strip()
        sections += [f"### {name}", _unindent(text), usage, _format_options(actions)]
    return join_blocks(sections)


def _commands(parser: ArgumentParser) -> Mapping[str, ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            return dict(action.choices)
    raise ValueError("build_parser: expected a parser with commands")


def _unindent(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def _format_options(actions: Iterator[Action] | list[Action]) -> str:
    rows = [(f"`{_format_name(action)}`", _describe(action)) for action in actions]
    return format_table(("Argument or option", "Meaning"), rows) if rows else ""


def _format_name(action: Action) -> str:
    if not action.option_strings:
        return _format_argument(action)
    name = ", ".join(action.option_strings)
    return name if action.nargs == 0 else f"{name} {_format_value(action)}"


def _format_argument(action: Action) -> str:
    value = _format_value(action)
    return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)


def _format_value(action: Action) -> str:
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _describe(action: Action) -> str:
    """Return the help text of an argument, with its default."""
    if isinstance(action, _HelpAction):
        return "show the help text of the program or of a command"
    if action.help in (None, SUPPRESS):
        return ""
    return str(action.help).replace("%(default)s", str(action.default)).replace("%(prog)s", "event-hooks")
