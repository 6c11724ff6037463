"""Renders the Helm chart where there is no Helm: the part of its templates that the chart uses, and an error for all else.

What it cannot show is that Helm itself takes the chart. It shows that each value is there that a template names, and what comes
out for a set of values.
"""

import hashlib
import json
import re
from pathlib import Path

import yaml

TAG = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')


class ChartError(Exception):
    """A template says what is not there, or is not known here."""


def split(text):
    """Text and tags in turn, with the white space gone that `{{-` and `-}}` take."""
    pieces, at, trims = [], 0, False
    for tag in TAG.finditer(text):
        plain = text[at:tag.start()]
        plain = plain.lstrip() if trims else plain
        pieces.append(("text", plain.rstrip() if tag[1] else plain))
        pieces.append(("tag", tag[2]))
        at, trims = tag.end(), bool(tag[3])
    pieces.append(("text", text[at:].lstrip() if trims else text[at:]))
    return pieces


def parse(pieces, named, ends=()):
    """A tree of what is left of `pieces`, up to one of `ends`, which is given too."""
    nodes = []
    while pieces:
        kind, text = pieces.pop(0)
        if kind == "text":
            nodes.append(("text", text))
            continue
        first, _, rest = text.partition(" ")
        if first in ends:
            return nodes, first
        if first in ("if", "range"):
            body, end = parse(pieces, named, ("else", "end"))
            other = parse(pieces, named, ("end",))[0] if end == "else" else []
            nodes.append((first, rest, body, other))
        elif first == "define":
            named[json.loads(rest)] = parse(pieces, named, ("end",))[0]
        else:
            nodes.append(("show", text))
    if ends:
        raise ChartError(f"{ends} is missing")
    return nodes, None


class Renderer:
    def __init__(self, root, named):
        self.root, self.named = root, named
        self.functions = {
            "default": lambda other, value: value or other,
            "include": lambda name, dot: self.render(self.named[name], dot),
            "nindent": lambda width, text: "\n" + "\n".join(" " * width + line if line else "" for line in text.split("\n")),
            "quote": lambda value: json.dumps(str(value)),
            "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
            "toYaml": lambda value: yaml.safe_dump(value, default_flow_style=False).rstrip("\n").removesuffix("\n..."),
        }

    def word(self, word, dot):
        if word.startswith('"'):
            return json.loads(word)
        if word.isdecimal():
            return int(word)
        if not word.startswith("."):
            raise ChartError(f"{word} is not known here")
        for name in filter(None, word.split(".")):
            if name not in dot:
                raise ChartError(f"there is no {word}")
            dot = dot[name]
        return dot

    def value(self, expression, dot):
        piped = []
        for command in expression.split(" | "):
            first, *words = WORD.findall(command)
            if first in self.functions:
                piped = [self.functions[first](*[self.word(word, dot) for word in words], *piped)]
            elif words or piped:
                raise ChartError(f"{first} is no function that is known here")
            else:
                piped = [self.word(first, dot)]
        return piped[0]

    def render(self, nodes, dot):
        text = []
        for kind, what, *bodies in nodes:
            if kind == "text":
                text.append(what)
            elif kind == "show":
                value = self.value(what, dot)
                text.append(str(value).lower() if isinstance(value, bool) else str(value))
            elif kind == "if":
                text.append(self.render(bodies[0] if self.value(what, dot) else bodies[1], dot))
            else:
                items = self.value(what, dot)
                text.extend(self.render(bodies[0], item) for item in items)
        return "".join(text)


def merge(below, above):
    """Values, with others above them; one that is not there below is a mistake."""
    merged = dict(below)
    for name, value in above.items():
        if name not in below:
            raise ChartError(f"values.yaml has no {name}")
        merged[name] = merge(below[name], value) if isinstance(value, dict) and below[name] else value
    return merged


def render(chart, values):
    """What each template of the chart comes to, by its name."""
    chart = Path(chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    root = {
        "Chart": {"Name": about["name"], "AppVersion": about["appVersion"], "Version": about["version"]},
        "Release": {"Name": "live", "Namespace": "default", "Service": "Helm"},
        "Values": merge(yaml.safe_load((chart / "values.yaml").read_text()), values),
    }
    named, trees = {}, {}
    for file in sorted((chart / "templates").iterdir()):
        trees[file.name] = parse(split(file.read_text()), named)[0]
    renderer = Renderer(root, named)
    return {name: renderer.render(tree, root) for name, tree in trees.items()}
