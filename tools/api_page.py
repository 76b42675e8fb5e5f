# SPDX-License-Identifier: Apache-2.0
"""Write docs/api.md from the docstrings of the public Python API.

``python tools/api_page.py > docs/api.md``. Reads source files only: needs neither torch nor ROS.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
import re
import sys
import textwrap

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'dualfocus_ros'
WIDTH = 88
HEAD = """# Python API

<!-- Made by `python tools/api_page.py > docs/api.md`; do not edit. -->

`import dualfocus_ros as df` gives these names and no others; everything else in the package may
change without notice. The import itself loads neither torch nor ROS. A program that uses them is
[depth_without_ros.py](../examples/depth_without_ros.py).

```python
import dualfocus_ros as df

depth = df.estimate_depth(images, focus_distances=[0.35, 0.5, 0.9]).depth
```

Repeated estimates with one network and other settings:

```python
estimator = df.DepthEstimator(settings=df.EstimatorSettings(depth_max=3.0))
stack = df.load_stack('photos', focus='name')
result = estimator.estimate(stack, df.OutputRequest(sigma=True))
```
"""


def exports() -> dict[str, str]:
    """Return the module of each public name, functions first, then classes, then exceptions."""
    tree = ast.parse((PACKAGE / '__init__.py').read_text('utf-8'))
    (modules,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_MODULES'
    )
    return dict(sorted(modules.items(), key=lambda item: (_rank(item[0]), item[0].lower())))


def _rank(name: str) -> int:
    return 0 if name.islower() else 2 if name.endswith('Error') else 1


def sections() -> Iterator[str]:
    """Yield the section of each public name."""
    for name, module in exports().items():
        tree = ast.parse((PACKAGE / f'{module.replace(".", "/")}.py').read_text('utf-8'))
        (node,) = (
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
        )
        yield f'## `{name}`\n'
        if isinstance(node, ast.FunctionDef):
            yield _function(node)
        else:
            yield from _class(node)


def _class(node: ast.ClassDef) -> Iterator[str]:
    methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    made = next((method for method in methods if method.name == '__init__'), None)
    if any(decorator.startswith('dataclass') for decorator in decorators):
        fields = [child for child in node.body if isinstance(child, ast.AnnAssign)]
        parts = [_parameter(ast.unparse(f.target), f.annotation, f.value) for f in fields]
        yield _code(node.name, parts)
    elif made is not None:
        yield _code(node.name, _parameters(made.args)[1:])
    else:
        bases = ', '.join(ast.unparse(base) for base in node.bases)
        yield f'```python\nclass {node.name}({bases})\n```\n'
    yield _markdown(ast.get_docstring(node) or '')
    for method in methods:
        if method.name.startswith('_'):
            continue
        if any(ast.unparse(decorator) == 'property' for decorator in method.decorator_list):
            kind = f': {ast.unparse(method.returns)}' if method.returns else ''
            yield f'### `{node.name}.{method.name}{kind}`\n'
            yield _markdown(ast.get_docstring(method) or '')
        else:
            yield f'### `{node.name}.{method.name}`\n'
            yield _function(method, skip=1)


def _function(node: ast.FunctionDef, skip: int = 0) -> str:
    returns = f' -> {ast.unparse(node.returns)}' if node.returns else ''
    signature = _code(node.name, _parameters(node.args)[skip:], returns)
    return f'{signature}\n{_markdown(ast.get_docstring(node) or "")}'


def _parameters(arguments: ast.arguments) -> list[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    parts = [
        _parameter(argument.arg, argument.annotation, default)
        for argument, default in zip(positional, [*missing, *arguments.defaults], strict=True)
    ]
    if arguments.kwonlyargs:
        parts.append('*')
    return parts + [
        _parameter(argument.arg, argument.annotation, default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]


def _parameter(name: str, annotation: ast.expr | None, default: ast.expr | None) -> str:
    text = name if annotation is None else f'{name}: {ast.unparse(annotation)}'
    if default is None:
        return text
    value = ast.unparse(default)
    return f'{text} = {"..." if value.startswith("field(") else value}'


def _code(name: str, parts: list[str], returns: str = '') -> str:
    line = f'{name}({", ".join(parts)}){returns}'
    if len(line) > WIDTH:
        lines = ''.join(f'    {part},\n' for part in parts)
        line = f'{name}(\n{lines}){returns}'
    return f'```python\n{line}\n```\n'


def _markdown(docstring: str) -> str:
    """Convert a docstring with Sphinx fields and roles to Markdown."""
    text = re.sub(r':\w+:`~(?:\w+\.)*(\w+)`', r'`\1`', docstring)
    text = re.sub(r':\w+:`([^`]+)`', r'`\1`', text).replace('``', '`')
    body, *fields = re.split(r'^:(?=(?:param|returns?|raises)\b)', text, flags=re.M)
    items = []
    for field in fields:
        kind, words = re.match(r'(\w+)\s*([^:]*):', field).groups()  # type: ignore[union-attr]
        content = ' '.join(field.split(':', 1)[1].split())
        label = {'param': f'`{words}`', 'raises': f'raises `{words.replace(", ", "`, `")}`'}
        items.append(f'- {label.get(kind, "returns")}: {content}')
    wrapped = [
        textwrap.fill(
            item, 99, subsequent_indent='  ', break_long_words=False, break_on_hyphens=False
        )
        for item in items
    ]
    return '\n\n'.join([body.strip(), *(['\n'.join(wrapped)] if wrapped else [])]) + '\n'


def main() -> int:
    """Print the page."""
    sys.stdout.write('\n'.join([HEAD, *sections()]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
