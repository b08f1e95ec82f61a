"""Reading ``config.yaml`` of anyone's run: YAML that is nothing but keys, lists and plain values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cache_zoo import UsageError
from cache_zoo.errors import require, short
from evaluation.storage.readers import MAX_DEPTH, check_values, decode_utf8, read_bytes

MAX_YAML_BYTES = 64 << 10
"""Size of a configuration, which has 2 KB; the parser reads some 100 KB per second."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file as plain data; ``${...}`` is text.

    Raises:
        UsageError: as in `evaluation.storage.readers.read_json`; or it has anchors, aliases or tags.
    """
    text = decode_utf8(str(path), read_bytes(path, MAX_YAML_BYTES))
    try:
        content = yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line} is not plain YAML: {short(str(error.problem))}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} is not valid YAML") from error
    require(isinstance(content, dict), f"{path} must hold keys and values, not {type(content).__name__}")
    check_values(str(path), content)
    return dict(content)


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc] # yaml has no annotations
    """YAML without anchors, tags and repeated keys; numbers are spelled as Hydra writes and reads them."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge", ":value"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        for key in ("anchor", "tag"):
            if getattr(event, key, None) is not None:
                raise yaml.composer.ComposerError(None, None, "it has anchors, aliases or tags", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"it has more than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value) or len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key appears twice", node.start_mark)
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        if not all(isinstance(key, str) for key in content):
            raise yaml.constructor.ConstructorError(None, None, "a key is not text", node.start_mark)
        return content


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)
