"""Rules and their tests as a Prometheus Operator enforces a namespace on them.

It adds the namespace to the labels of each rule, and to each selector of its expression. The
queries in annotations stay as they are.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml

NAMESPACE = "embeddings"


def enforce(file: Path, promtool: Path) -> None:
    """Rewrite a file of rules."""
    document = yaml.safe_load(file.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _of_namespace(rule["expr"], promtool)
            rule.setdefault("labels", {})["namespace"] = NAMESPACE
    file.write_text(yaml.safe_dump(document))


def _of_namespace(expression: str, promtool: Path) -> str:
    command = [str(promtool), "--experimental", "promql", "label-matchers", "set"]
    command += [expression, "namespace", NAMESPACE]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return answer.stdout


def example(text: str) -> str:
    """Return a test whose series and alerts are in the namespace, if they name no other."""
    # Without anchors, so that no part is changed twice.
    document = json.loads(json.dumps(yaml.load(text, _Loader)))
    for test in document["tests"]:
        for series in test.get("input_series", []):
            if "namespace=" not in series["series"]:
                series["series"] = _with_label(series["series"])
        for alert in test.get("alert_rule_test", []):
            # A test without the key expects no alert.
            for expected in alert.get("exp_alerts", []):
                expected["exp_labels"]["namespace"] = NAMESPACE
        for query in test.get("promql_expr_test", []):
            # Its samples are written without the namespace.
            query["expr"] = f'label_replace({query["expr"]}, "namespace", "", "", "")'
    return json.dumps(document)  # which is YAML, too


class _Loader(yaml.SafeLoader):
    """Reads `0x30` as text, as promtool does: 30 times 0."""


_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: _number(node.value))


def _number(text: str) -> int | str:
    return text if text.startswith("0x") else int(text)


def _with_label(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{namespace="{NAMESPACE}", {labels}}}'
