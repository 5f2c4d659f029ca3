"""A single-file plugin as a package: what registers it apart from what computes, so that listing it imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

OPTIONS, HOOK = "Options", "hookimpl"


def split(source: str, package: str) -> tuple[str, str]:
    """`__init__.py` and `component.py` of a package: options and hooks; everything else, which takes its options from there.

    The source is a plugin whose hook names the component's class. Its imports go where they are used.
    """
    tree = ast.parse(source)
    parts = _texts(source, tree.body)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    docstring, rest = tree.body[0], [node for node in tree.body[1:] if node not in imports]
    light = [node for node in rest if _registers(node)]
    heavy = [node for node in rest if node not in light]
    options = sorted(node.name for node in light if isinstance(node, ast.ClassDef) and node.name in _names(heavy))
    classes = {node.name for node in heavy if isinstance(node, ast.ClassDef)}
    own = [f"from {package} import {', '.join(options)}"] if options else []
    first = "\n\n\n".join(_with_target(parts[node], node, classes, package) for node in light)
    second = "\n\n\n".join(parts[node] for node in heavy)
    title = parts[docstring]
    return _file(title, imports, light, [], first), _file(title, imports, heavy, own, second)


def _registers(node: ast.stmt) -> bool:
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == OPTIONS for base in node.bases)
    return isinstance(node, ast.FunctionDef) and any(isinstance(d, ast.Name) and d.id == HOOK for d in node.decorator_list)


def _texts(source: str, nodes: Sequence[ast.stmt]) -> dict[ast.stmt, str]:
    """The lines of each statement, with its decorators."""
    lines = source.splitlines()
    first = {node: min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) for node in nodes}
    return {node: "\n".join(lines[first[node] - 1 : node.end_lineno]) for node in nodes}


def _with_target(text: str, node: ast.stmt, classes: Iterable[str], package: str) -> str:
    """A hook in which the component's class is named, and not there."""
    if isinstance(node, ast.FunctionDef):
        for name in classes:
            text = text.replace(f" {name},", f' "{package}.component:{name}",')
    return text


def _file(docstring: str, imports: Iterable[ast.stmt], nodes: Sequence[ast.stmt], own: Sequence[str], body: str) -> str:
    """A module of these statements, with the imports that they need in the order of the source."""
    used = _names(nodes)
    groups: list[list[str]] = [[]]
    last = 0
    for node in imports:
        if last and node.lineno > last + 1:
            groups.append([])
        last = node.end_lineno or node.lineno
        if wanted := _narrowed(node, used):
            groups[-1].append(wanted)
    blocks = ["\n".join(group) for group in (*groups[:-1], [*groups[-1], *own]) if group]
    return "\n\n".join([docstring, *blocks]) + f"\n\n\n{body}\n"


def _narrowed(node: ast.stmt, used: set[str]) -> str:
    """An import without the names that are not used; "" if none is."""
    assert isinstance(node, ast.Import | ast.ImportFrom)
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return ast.unparse(node)
    names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in used]
    if not names:
        return ""
    narrowed = ast.ImportFrom(node.module, names, node.level) if isinstance(node, ast.ImportFrom) else ast.Import(names)
    return ast.unparse(narrowed)


def _names(nodes: Iterable[ast.stmt]) -> set[str]:
    return {inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)}
