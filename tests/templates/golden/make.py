"""Has Go answer the corpus and freezes what it said in answers.json. Needs Go 1.26.

    python -m tests.templates.golden.make

A case whose answer changes from run to run, because Go printed an address, is left out, as is a very long one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.templates.random_templates import compose
from tests.templates.rules import DATA, rules
from tests.templates.styles import chats, conversations

HERE = Path(__file__).parent
SEEDS = (20261125, 7)
GENERATED = 400
LONGEST = 4000


def answer(cases: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What Go makes of each case."""
    asked = json.dumps(cases)
    ran = subprocess.run(
        ["go", "run", "main.go"], cwd=HERE, input=asked, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8"
    )
    answers: list[dict[str, str]] = json.loads(ran.stdout)
    return answers


def main() -> None:
    data = {**DATA, **conversations()}
    cases = [*rules(), *chats()]
    for seed in SEEDS:
        for number, (text, its_data) in enumerate(compose(seed, GENERATED)):
            known = "main" if its_data is DATA["main"] else f"random {seed} {number}"
            data[known] = its_data
            cases.append((text, known))
    asked = [{"template": text, "data": data[name]} for text, name in cases]
    frozen = [
        {"template": text, "data": name, **first}
        for (text, name), first, second in zip(cases, answer(asked), answer(asked), strict=True)
        if first == second and len(first["output"]) < LONGEST
    ]
    used = {case["data"] for case in frozen}
    kept = {name: value for name, value in data.items() if name in used}
    lines = [
        "{",
        '"data": {',
        ",\n".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in kept.items()),
        "},",
        '"cases": [',
        ",\n".join(json.dumps(case, ensure_ascii=False) for case in frozen),
        "]",
        "}",
    ]
    (HERE / "answers.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(
        f"{len(frozen)} cases, {sum(bool(case['error']) for case in frozen)} of them errors; {len(cases) - len(frozen)} left out"
    )


if __name__ == "__main__":
    main()
