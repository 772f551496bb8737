"""Tiny from nothing: data, training, export and evaluation, one after the other.

pip install -e ".[recipes]"
python recipes/tiny/build.py             # an hour and a half on two cores, into build/tiny
python recipes/tiny/build.py --quick     # three minutes, to see that everything works; the model is of no use
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from errors import RecipeError

HERE = Path(__file__).parent
STAGES = ("data", "train", "export", "evaluate")
NEEDED = ("torch", "tokenizers", "gguf", "numpy")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. Both phases of training draw rows of their own, and the evaluation others again."""

    conversations: tuple[int, int]  # of the phases
    minutes: tuple[float, float]
    samples: int  # answers per skill in the evaluation
    seeds: tuple[int, int] = (7, 8)
    matrix_rates: tuple[float, float] = (0.02, 0.012)


FULL = Plan(conversations=(220_000, 220_000), minutes=(62, 29), samples=120)
QUICK = Plan(conversations=(2_000, 1_000), minutes=(1, 0.5), samples=5)


@dataclass(frozen=True, slots=True)
class Files:
    """What the stages hand to each other, in one folder."""

    folder: Path

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    def rows(self, phase: int) -> Path:
        return self.folder / f"rows{phase + 1}.npz"

    def weights(self, phase: int) -> Path:
        return self.folder / f"weights{phase + 1}.npz"

    @property
    def model(self) -> Path:
        return self.folder / "tiny-q8_0.gguf"


def build(files: Files, plan: Plan, *, first: str, new_tokenizer: bool) -> None:
    """Run the stages from ``first`` on. Raises `RecipeError`."""
    files.folder.mkdir(parents=True, exist_ok=True)
    stages = {"data": make_data, "train": train, "export": export, "evaluate": evaluate}
    for name in STAGES[STAGES.index(first) :]:
        print(f"== {name}", flush=True)
        if name == "data":
            choose_tokenizer(files, plan, new_tokenizer)
        stages[name](files, plan)


def choose_tokenizer(files: Files, plan: Plan, new: bool) -> None:
    """The tokeniser of the shipped file, unless a new one is asked for."""
    import data

    if new:
        data.train_tokenizer(conversations=plan.conversations[0] // 10, seed=plan.seeds[0]).save(str(files.tokenizer))
    else:
        files.tokenizer.write_bytes((HERE / "tokenizer.json").read_bytes())


def make_data(files: Files, plan: Plan) -> None:
    import data

    tokenizer = data.load_tokenizer(files.tokenizer)
    for phase, (conversations, seed) in enumerate(zip(plan.conversations, plan.seeds, strict=True)):
        rows = data.draw_rows(tokenizer, conversations=conversations, seed=seed)
        rows.save(files.rows(phase))
        print(f"{len(rows)} rows of up to {rows.lengths.max()} tokens: {files.rows(phase)}", flush=True)


def train(files: Files, plan: Plan) -> None:
    import data
    import model
    import train as training

    for phase, (minutes, rate) in enumerate(zip(plan.minutes, plan.matrix_rates, strict=True)):
        resume = files.weights(phase - 1) if phase else None
        rows = data.Rows.load(files.rows(phase))
        training.train(rows, training.Phase(minutes, rate, files.weights(phase), resume), model.Config())


def export(files: Files, plan: Plan) -> None:
    import export as exporting
    import model

    exporting.export(
        files.weights(len(plan.minutes) - 1),
        files.model,
        config=model.Config(),
        tokenizer=files.tokenizer,
        template=HERE / "chat_template.jinja",
        quantization="q8_0",
    )
    print(f"{files.model.stat().st_size / 1e6:.1f} MB: {files.model}", flush=True)


def evaluate(files: Files, plan: Plan) -> None:
    import evaluate as evaluation
    from chat import serve_gguf

    with serve_gguf(files.model) as chat:
        evaluation.report(evaluation.evaluate(chat, samples=plan.samples))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Build Tiny from nothing.")
    parser.add_argument(
        "--out", type=Path, default=Path("build/tiny"), help="folder for all files (default: %(default)s)"
    )
    parser.add_argument(
        "--first", choices=STAGES, default="data", help="the stage to begin with; earlier ones are done"
    )
    parser.add_argument("--new-tokenizer", action="store_true", help="train a tokeniser too")
    parser.add_argument("--quick", action="store_true", help="as little as shows that everything works")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
            raise RecipeError(f'missing: {", ".join(missing)}; try: pip install -e ".[recipes]"')
        plan = QUICK if arguments.quick else FULL
        build(Files(arguments.out), plan, first=arguments.first, new_tokenizer=arguments.new_tokenizer)
    except RecipeError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
